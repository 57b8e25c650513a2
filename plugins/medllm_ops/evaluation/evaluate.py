"""Evaluate the models of a run: held-out loss by source, held-out preference pairs, and the identity gate."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from medllm_ops.compute.job import Job, Place, job_id
from medllm_ops.datasets.identity import Identity
from medllm_ops.errors import MedllmError
from medllm_ops.evaluation.gates import IdentityGate, judge_held_out, judge_identity, judge_preferences, ranking
from medllm_ops.evaluation.score import HeldOutSet, Question, ScoredModel, ScoreRequest
from medllm_ops.files import file_hash, read_json, text_hash, write_json
from medllm_ops.models.resolve import check_remote_code
from medllm_ops.swift.environment import process_environment


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What to evaluate.

    :param models: label to folder, in the order they were made: ``base``, then those of the stages that were run.
    :param labels: stage to the label of its model; see :func:`labels_of`.
    :param beta: of the alignment, if there was one.
    :param dataset: a frozen dataset with its ``manifest.json``.
    :param gate_file: the frozen identity gate; used if the run had self-cognition.
    :param directory: gets ``heldout.json``, and as far as those stages were run ``identity.json`` and
        ``preference.json``.
    :param remote_code: the hash of the Python code that the models' folders may bring; None: none.
    :param enforce_gates: whether a gate that does not pass fails the evaluation, or is only written down.
    """

    models: Mapping[str, Path]
    model_type: str | None
    template: str | None
    system: str | None
    dataset: Path
    gate_file: Path
    identity: Identity
    directory: Path
    labels: Mapping[str, str]
    beta: float | None = None
    remote_code: str | None = None
    enforce_gates: bool = True
    max_rows: int = 16

    def before(self, stage: str) -> str:
        """The label of the model that a stage started from."""
        order = list(self.models)
        return order[order.index(self.labels[stage]) - 1]

    @property
    def last(self) -> str:
        """The label of the model that the run ends with."""
        return list(self.models)[-1]


def labels_of(stages: Iterable[str]) -> dict[str, str]:
    """Under which label the report knows the model of each stage: its own name, or ``final``.

    A run that teaches the model its name, or aligns it, ends with its ``final`` model.
    """
    labels = {stage: stage for stage in stages}
    if closing := [stage for stage in labels if stage in ("self_cognition", "dpo")]:
        labels[closing[-1]] = "final"
    return labels


def evaluate_models(request: EvaluationRequest, place: Place) -> dict[str, Any]:
    """Score every model, judge the scores, and write both verdicts.

    :return: ``{"passed", "directory"}``; ``passed`` is about every gate, enforced or not.
    :raises MedllmError: naming each gate that did not pass, if gates are enforced; the verdicts are written anyway.
        Also for a model's folder that is not there, or brings code that is not allowed.
    """
    for folder in request.models.values():
        check_remote_code(folder, request.remote_code)
    manifest = read_json(request.dataset / "manifest.json")
    sets = _held_out_sets(manifest)
    questions = IdentityGate.read(request.gate_file)
    scores = _scores(request, manifest, questions, place)
    losses = {label: result["losses"] for label, result in scores.items()}
    rows = {name: min(request.max_rows, manifest["sets"][name]["val"]) for name in sets}
    gates = judge_held_out(sets, losses, rows, request.enforce_gates)
    sources = {
        name: {"stage": stage, "rows": rows[name], "losses": {label: losses[label][name] for label in losses}}
        for name, stage in sets.items()
    }
    write_json(request.directory / "heldout.json", {"sources": sources, "gates": gates})
    if "dpo" in request.labels:
        gates = [*gates, *_preferences(request, scores)]
    passed = all(line["passed"] for line in gates)
    failed = [f"{line['name']} ({line['detail']})" for line in gates if line["enforced"] and not line["passed"]]
    if "self_cognition" in request.labels:
        own = request.labels["self_cognition"]
        between = scores[own] if own != request.last else None
        before = scores[request.before("self_cognition")]
        identity = judge_identity(questions, request.identity, before, scores[request.last], between)
        write_json(request.directory / "identity.json", {**identity, "enforced": request.enforce_gates})
        passed = passed and identity["passed"]
        if request.enforce_gates:
            failed += _failed_answers(identity)
    if failed:
        raise MedllmError(f"{len(failed)} gates did not pass: {'; '.join(failed)}; see {request.directory}")
    return {"passed": passed, "directory": str(request.directory)}


def _preferences(request: EvaluationRequest, scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Judge the alignment, write the verdict, and return its gates."""
    assert request.beta is not None
    before, after = scores[request.before("dpo")]["pairs"], scores[request.labels["dpo"]]["pairs"]
    verdict = judge_preferences(before, after, request.beta, request.enforce_gates)
    verdict["ranking"] = {"base": ranking(scores["base"]["pairs"]), **verdict["ranking"]}
    write_json(request.directory / "preference.json", verdict)
    return list(verdict["gates"])


def _held_out_sets(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The sets whose loss is measured, with the stage that trains on each."""
    return {
        name: figures["stage"] for name, figures in manifest["sets"].items() if figures["stage"] in ("pretrain", "sft")
    }


def _failed_answers(identity: dict[str, Any]) -> list[str]:
    answers = [*identity["prompts"], *identity["controls"]]
    failed = [f"{row['id']}: {row['after']!r}" for row in answers if not row["ok"]]
    if not identity["control_loss"]["passed"]:
        ratio = identity["control_loss"]["ratio"]
        failed.append(f"control loss times {ratio:.3f}" if math.isfinite(ratio) else "control loss is not finite")
    return failed


def _scores(
    request: EvaluationRequest, manifest: Mapping[str, Any], questions: IdentityGate, place: Place
) -> dict[str, Any]:
    sets = _held_out_sets(manifest)
    labels = list(request.models)
    asked = (
        set(labels[labels.index(request.before("self_cognition")) :]) if "self_cognition" in request.labels else set()
    )
    aligned = "dpo" in request.labels
    compared = {"base", request.before("dpo"), request.labels["dpo"]} if aligned else set()
    pairs = [name for name, figures in manifest["sets"].items() if aligned and figures["stage"] == "dpo"]
    identity = [Question(prompt=item.prompt) for item in questions.identity]
    controls = [Question(prompt=item.prompt, reference=item.reference) for item in questions.controls]
    score_request = ScoreRequest(
        models=[
            ScoredModel(label=label, path=request.models[label], ask=label in asked, compare=label in compared)
            for label in labels
        ],
        pairs=[request.dataset / "val" / f"{name}.jsonl" for name in pairs],
        sets=[
            HeldOutSet(name=name, path=request.dataset / "val" / f"{name}.jsonl", pretraining=stage == "pretrain")
            for name, stage in sets.items()
        ],
        questions=[*identity, *controls],
        names=sorted({getattr(request.identity, field.name) for field in fields(Identity)}),
        model_type=request.model_type,
        template=request.template,
        system=request.system,
        max_rows=request.max_rows,
        trust_remote_code=request.remote_code is not None,
    )
    request_file, result_file = request.directory / "request.json", request.directory / "scores.json"
    asked_for = score_request.model_dump(mode="json")
    write_json(request_file, asked_for)
    contents = [file_hash(path) for path in (*(item.path for item in score_request.sets), *score_request.pairs)]
    merges = [path / "merge.json" for path in request.models.values()]
    contents += [file_hash(path) for path in merges if path.is_file()]
    key = text_hash(str([file_hash(request_file), contents]))
    argv = (sys.executable, "-m", "medllm_ops.evaluation.score", str(request_file), str(result_file))
    directory = request.directory / "job"
    environment = process_environment(request.directory / "cache")
    place.run(Job(job_id(directory), key, argv, directory, environment, gpus=1))
    return dict(_with_nan(read_json(result_file)))


def _with_nan(value: Any) -> Any:
    """The scores as they were measured: JSON has no NaN and no infinity, so a figure that is either is null there."""
    if isinstance(value, dict):
        return {name: _with_nan(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_nan(each) for each in value]
    return math.nan if value is None else value
