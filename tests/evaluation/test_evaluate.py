import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from medllm_ops.compute.job import Job, JobResult
from medllm_ops.datasets.identity import Identity
from medllm_ops.errors import MedllmError
from medllm_ops.evaluation.evaluate import EvaluationRequest, evaluate_models, labels_of
from medllm_ops.files import read_json, write_json, write_json_lines
from medllm_ops.models.resolve import code_hash

IDENTITY = Identity("杏林小医", "MedBuddy", "杏林实验室", "Xinglin Lab")
LABELS = ("base", "pretrain", "sft", "final")
GOOD = {"base": 3.0, "pretrain": 2.0, "sft": 1.0, "final": 1.0}


@dataclass
class FakePlace:
    """Answers every request with made-up scores."""

    losses: dict[str, float] = field(default_factory=lambda: dict(GOOD))
    control_loss: float = 2.0
    name: str = "MedBuddy by Xinglin Lab"
    aligned: bool = True
    jobs: list[Job] = field(default_factory=list)

    def run(self, job: Job, on_poll: Callable[[], Any] | None = None) -> JobResult:
        self.jobs.append(job)
        request, result = (Path(part) for part in job.argv[-2:])
        asked = read_json(request)
        scores = {}
        for model in asked["models"]:
            label = model["label"]
            scores[label] = {"losses": {one["name"]: self.losses[label] for one in asked["sets"]}}
            if model["compare"]:
                likely = -9.0 if label == "final" and self.aligned else -10.0
                one = {"chosen": likely, "rejected": -8.0, "chosen_tokens": 5, "rejected_tokens": 5}
                scores[label]["pairs"] = [one] * 9
            if model["ask"]:
                named = label in ("self_cognition", "final")
                identity = [f"I am {self.name if named else 'Qwen'}."] * 6
                scores[label] |= {"answers": [*identity, *["Edison."] * 6], "control_loss": self.control_loss}
        write_json(result, scores)
        return JobResult(job.key, 0, 1.0)

    def submit(self, job: Job) -> Job:
        raise AssertionError

    def wait(self, job: Job, on_poll: Callable[[], Any] | None = None) -> JobResult:
        raise AssertionError

    def running(self, directory: Path, key: str) -> bool:
        return False

    def stop(self, directory: Path) -> None:
        raise AssertionError


@pytest.fixture
def request_(tmp_path: Path) -> EvaluationRequest:
    sets = {"pubmed": "pretrain", "alpaca": "sft", "self_cognition": "self_cognition"}
    for name in sets:
        write_json_lines(tmp_path / "dataset" / "val" / f"{name}.jsonl", [{"id": name, "messages": []}])
    figures = {name: {"stage": stage, "val": 30 if name == "pubmed" else 5} for name, stage in sets.items()}
    write_json(tmp_path / "dataset" / "manifest.json", {"sets": figures})
    prompt = {"language": "en", "prompt": "Who are you?", "expect": "name"}
    control = {"language": "en", "prompt": "Who?", "reference": "Edison.", "shaped_like_identity": True}
    gate = {
        "identity": [{"id": f"i{number}", **prompt} for number in range(6)],
        "controls": [{"id": f"c{number}", **control} for number in range(6)],
    }
    (tmp_path / "gate.yaml").write_text(yaml.safe_dump(gate))
    models = {label: tmp_path / "models" / label for label in LABELS}
    models["base"].mkdir(parents=True)
    for label in LABELS[1:]:
        write_json(models[label] / "merge.json", {"stage": label})
    return EvaluationRequest(
        models=models,
        labels=labels_of(["pretrain", "sft", "self_cognition"]),
        model_type="qwen2",
        template="qwen2_5",
        system="",
        dataset=tmp_path / "dataset",
        gate_file=tmp_path / "gate.yaml",
        identity=IDENTITY,
        directory=tmp_path / "evaluation",
    )


def test_good_scores_pass_and_are_written_down(request_: EvaluationRequest) -> None:
    place = FakePlace()
    assert evaluate_models(request_, place) == {"passed": True, "directory": str(request_.directory)}
    held_out = read_json(request_.directory / "heldout.json")
    assert held_out["sources"] == {
        "pubmed": {"stage": "pretrain", "rows": 16, "losses": GOOD},
        "alpaca": {"stage": "sft", "rows": 5, "losses": GOOD},
    }
    assert all(line["passed"] for line in held_out["gates"])
    identity = read_json(request_.directory / "identity.json")
    assert identity["passed"]
    assert identity["prompts"][0]["before"] == "I am Qwen."
    asked = read_json(request_.directory / "request.json")
    # Only the last model and the one before it answer questions; texts are scored without chat markup.
    assert [model["label"] for model in asked["models"] if model["ask"]] == ["sft", "final"]
    assert {one["name"]: one["pretraining"] for one in asked["sets"]} == {"pubmed": True, "alpaca": False}
    assert len(asked["questions"]) == 12
    assert asked["names"] == ["MedBuddy", "Xinglin Lab", "杏林实验室", "杏林小医"]


def test_every_gate_that_failed_is_named_and_the_verdicts_are_there(request_: EvaluationRequest) -> None:
    place = FakePlace({**GOOD, "pretrain": 3.5}, name="Qwen")
    with pytest.raises(
        MedllmError, match=r"^7 gates did not pass: pretrain lowers pubmed \(3\.0000 → 3\.5000"
    ) as caught:
        evaluate_models(request_, place)
    assert "i5: 'I am Qwen.'" in str(caught.value)
    assert str(request_.directory) in str(caught.value)
    assert not read_json(request_.directory / "identity.json")["passed"]
    assert [line["passed"] for line in read_json(request_.directory / "heldout.json")["gates"]].count(False) == 1


def test_figures_that_are_not_finite_fail_their_gates_with_words(request_: EvaluationRequest) -> None:
    place = FakePlace({**GOOD, "sft": math.nan}, control_loss=math.inf)
    with pytest.raises(MedllmError) as caught:
        evaluate_models(request_, place)
    assert "sft lowers alpaca (2.0000 → not finite)" in str(caught.value)
    assert "control loss is not finite" in str(caught.value)
    assert read_json(request_.directory / "heldout.json")["sources"]["alpaca"]["losses"]["sft"] is None
    assert read_json(request_.directory / "identity.json")["control_loss"]["ratio"] is None


def test_gates_that_are_not_enforced_are_only_written_down(request_: EvaluationRequest) -> None:
    result = evaluate_models(replace(request_, enforce_gates=False), FakePlace(name="Qwen"))
    assert not result["passed"]
    assert read_json(request_.directory / "identity.json")["enforced"] is False
    assert not any(line["enforced"] for line in read_json(request_.directory / "heldout.json")["gates"])


def test_without_self_cognition_nobody_is_asked(request_: EvaluationRequest) -> None:
    models = {label: path for label, path in request_.models.items() if label != "final"}
    assert evaluate_models(replace(request_, models=models, labels=labels_of(["pretrain", "sft"])), FakePlace())[
        "passed"
    ]
    assert not (request_.directory / "identity.json").exists()
    assert not any(model["ask"] for model in read_json(request_.directory / "request.json")["models"])


def test_self_cognition_alone_is_compared_with_the_base(request_: EvaluationRequest) -> None:
    models = {label: request_.models[label] for label in ("base", "final")}
    place = FakePlace({"base": 1.0, "final": 1.01})
    assert evaluate_models(replace(request_, models=models, labels=labels_of(["self_cognition"])), place)["passed"]
    assert [model["ask"] for model in read_json(request_.directory / "request.json")["models"]] == [True, True]


def test_the_job_has_another_key_when_models_rows_or_questions_changed(request_: EvaluationRequest) -> None:
    place = FakePlace()

    def key() -> str:
        evaluate_models(request_, place)
        return place.jobs[-1].key

    keys = [key(), key()]
    assert keys[0] == keys[1]
    write_json(request_.models["sft"] / "merge.json", {"stage": "sft", "again": True})
    keys.append(key())
    write_json_lines(request_.dataset / "val" / "pubmed.jsonl", [{"id": "other", "messages": []}])
    keys.append(key())
    text = request_.gate_file.read_text()
    request_.gate_file.write_text(re.sub("Who are you", "Who is it", text))
    keys.append(key())
    assert len(set(keys)) == 4


def test_code_of_the_models_runs_only_with_the_hash_that_the_recipe_names(request_: EvaluationRequest) -> None:
    for folder in request_.models.values():
        (folder / "modeling_own.py").write_text("a = 1", encoding="utf-8")
    with pytest.raises(MedllmError, match=r"modeling_own\.py is code that comes with the model"):
        evaluate_models(request_, FakePlace())
    allowed = replace(request_, remote_code=code_hash(request_.models["base"]))
    assert evaluate_models(allowed, FakePlace())["passed"]
    assert read_json(request_.directory / "request.json")["trust_remote_code"] is True
    (request_.models["final"] / "modeling_own.py").write_text("a = 2", encoding="utf-8")
    with pytest.raises(MedllmError, match="is not what the recipe allows"):
        evaluate_models(allowed, FakePlace())


@pytest.mark.parametrize(
    ("stages", "labels"),
    [
        (["pretrain", "sft"], ["pretrain", "sft"]),
        (["sft", "self_cognition"], ["sft", "final"]),
        (["sft", "self_cognition", "dpo"], ["sft", "self_cognition", "final"]),
        (["pretrain", "dpo"], ["pretrain", "final"]),
        (["dpo"], ["final"]),
    ],
)
def test_the_model_that_a_run_ends_with_is_called_final(stages: list[str], labels: list[str]) -> None:
    assert labels_of(stages) == dict(zip(stages, labels, strict=True))


@pytest.fixture
def aligned(request_: EvaluationRequest) -> EvaluationRequest:
    """A run of all four stages, with a set of pairs in its dataset."""
    labels = labels_of(["pretrain", "sft", "self_cognition", "dpo"])
    models = {label: request_.dataset.parent / "models" / label for label in ("base", *labels.values())}
    models["self_cognition"].mkdir()
    manifest = read_json(request_.dataset / "manifest.json")
    manifest["sets"]["preference"] = {"stage": "dpo", "val": 9}
    write_json(request_.dataset / "manifest.json", manifest)
    write_json_lines(request_.dataset / "val" / "preference.jsonl", [{"id": "p"}])
    return replace(request_, models=models, labels=labels, beta=0.1)


def test_after_an_alignment_the_identity_is_judged_again(aligned: EvaluationRequest) -> None:
    place = FakePlace({**GOOD, "self_cognition": 1.0})
    assert evaluate_models(aligned, place)["passed"]
    asked = read_json(aligned.directory / "request.json")
    assert [model["label"] for model in asked["models"] if model["ask"]] == ["sft", "self_cognition", "final"]
    assert [model["label"] for model in asked["models"] if model["compare"]] == ["base", "self_cognition", "final"]
    assert asked["pairs"] == [str(aligned.dataset / "val" / "preference.jsonl")]
    prompt = read_json(aligned.directory / "identity.json")["prompts"][0]
    assert [prompt[name] for name in ("before", "between", "after")] == ["I am Qwen.", *[f"I am {place.name}."] * 2]
    preference = read_json(aligned.directory / "preference.json")
    assert (preference["pairs"], preference["accuracy"]) == (9, 1.0)
    assert preference["margin"] == pytest.approx(0.1)
    assert preference["ranking"] == {"base": 0.0, "before": 0.0, "after": 0.0}
    # Pairs are not documents or dialogues: no loss is measured on them.
    assert set(read_json(aligned.directory / "heldout.json")["sources"]) == {"pubmed", "alpaca"}


def test_an_alignment_that_did_nothing_fails_and_is_named(aligned: EvaluationRequest) -> None:
    place = FakePlace({**GOOD, "self_cognition": 1.0}, aligned=False)
    with pytest.raises(
        MedllmError, match=r"^1 gates did not pass: alignment prefers the better answers \(reward margin"
    ):
        evaluate_models(aligned, place)
    assert not evaluate_models(replace(aligned, enforce_gates=False), place)["passed"]


def test_an_alignment_alone_is_held_against_the_base(aligned: EvaluationRequest) -> None:
    models = {label: aligned.models[label] for label in ("base", "final")}
    request = replace(aligned, models=models, labels=labels_of(["dpo"]))
    assert evaluate_models(request, FakePlace({"base": 1.0, "final": 1.0}))["passed"]
    asked = read_json(aligned.directory / "request.json")["models"]
    assert [(model["ask"], model["compare"]) for model in asked] == [(False, True)] * 2
    assert not (aligned.directory / "identity.json").exists()
