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
from medllm_ops.evaluation.evaluate import EvaluationRequest, evaluate_models
from medllm_ops.files import read_json, write_json, write_json_lines

IDENTITY = Identity("杏林小医", "MedBuddy", "杏林实验室", "Xinglin Lab")
LABELS = ("base", "pretrain", "sft", "final")
GOOD = {"base": 3.0, "pretrain": 2.0, "sft": 1.0, "final": 1.0}


@dataclass
class FakePlace:
    """Answers every request with made-up scores."""

    losses: dict[str, float] = field(default_factory=lambda: dict(GOOD))
    name: str = "MedBuddy by Xinglin Lab"
    jobs: list[Job] = field(default_factory=list)

    def run(self, job: Job, on_poll: Callable[[], Any] | None = None) -> JobResult:
        self.jobs.append(job)
        request, result = (Path(part) for part in job.argv[-2:])
        asked = read_json(request)
        scores = {}
        for model in asked["models"]:
            label = model["label"]
            scores[label] = {"losses": {one["name"]: self.losses[label] for one in asked["sets"]}}
            if model["ask"]:
                identity = [f"I am {self.name if label == 'final' else 'Qwen'}."] * 6
                scores[label] |= {"answers": [*identity, *["Edison."] * 6], "control_loss": 2.0}
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
    for label in LABELS[1:]:
        write_json(models[label] / "merge.json", {"stage": label})
    return EvaluationRequest(
        models, "qwen2", "qwen2_5", "", tmp_path / "dataset", tmp_path / "gate.yaml", IDENTITY, tmp_path / "evaluation"
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


def test_gates_that_are_not_enforced_are_only_written_down(request_: EvaluationRequest) -> None:
    result = evaluate_models(replace(request_, enforce_gates=False), FakePlace(name="Qwen"))
    assert not result["passed"]
    assert read_json(request_.directory / "identity.json")["enforced"] is False
    assert not any(line["enforced"] for line in read_json(request_.directory / "heldout.json")["gates"])


def test_without_self_cognition_nobody_is_asked(request_: EvaluationRequest) -> None:
    models = {label: path for label, path in request_.models.items() if label != "final"}
    assert evaluate_models(replace(request_, models=models), FakePlace())["passed"]
    assert not (request_.directory / "identity.json").exists()
    assert not any(model["ask"] for model in read_json(request_.directory / "request.json")["models"])


def test_self_cognition_alone_is_compared_with_the_base(request_: EvaluationRequest) -> None:
    models = {label: request_.models[label] for label in ("base", "final")}
    place = FakePlace({"base": 1.0, "final": 1.01})
    assert evaluate_models(replace(request_, models=models), place)["passed"]
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
