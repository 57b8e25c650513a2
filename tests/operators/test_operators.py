from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from medllm_ops.compute.job import job_id
from medllm_ops.compute.local import LocalPlace
from medllm_ops.errors import MedllmError
from medllm_ops.operators import (
    ChainStepOperator,
    DatasetConvertOperator,
    MergeLoraOperator,
    ServeOperator,
    SwiftSftOperator,
)

TRAIN = {"stage": "sft", "recipe": "tiny", "model": "/m", "dataset": "/d", "output_dir": "/o"}
MERGE = {"stage": "sft", "recipe": "tiny", "model": "/m", "stage_dir": "/s", "output_dir": "/o"}
SERVE = {"name": "x", "recipe": "tiny", "model": "/m", "output_dir": "/o"}


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the jobs that were stopped."""
    ids: list[str] = []
    monkeypatch.setattr(LocalPlace, "stop", lambda self, job: ids.append(job))
    return ids


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [(SwiftSftOperator, TRAIN), (MergeLoraOperator, MERGE), (ServeOperator, SERVE)],
)
def test_every_argument_is_templated(operator: Any, arguments: dict[str, str]) -> None:
    assert set(operator.template_fields) >= {*arguments, "enabled", "where"}
    task = operator(task_id="t", **arguments)
    assert {name: getattr(task, name) for name in arguments} == arguments


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [(SwiftSftOperator, TRAIN), (MergeLoraOperator, MERGE), (ServeOperator, SERVE)],
)
@pytest.mark.parametrize("off", [False, "False", "false"])
def test_a_stage_that_is_off_is_skipped(operator: Any, arguments: dict[str, str], off: Any) -> None:
    with pytest.raises(AirflowSkipException):
        operator(task_id="t", enabled=off, **arguments).execute({})


def test_training_gets_what_the_operator_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def train_stage(**arguments: Any) -> dict[str, Any]:
        seen.update(arguments)
        return {"steps": 3}

    monkeypatch.setattr("medllm_ops.swift.train.train_stage", train_stage)
    assert SwiftSftOperator(task_id="t", **TRAIN).execute({}) == {"steps": 3}
    assert isinstance(seen.pop("place"), LocalPlace)
    assert seen == TRAIN


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(MedllmError, match="no place 'moon'"):
        SwiftSftOperator(task_id="t", where="moon", **TRAIN).execute({})


def test_a_killed_training_ends_its_job(stopped: list[str]) -> None:
    SwiftSftOperator(task_id="t", **TRAIN).on_kill()
    assert stopped == [job_id(Path("/o/job"))]


def test_a_killed_merge_ends_the_job_beside_the_stage(stopped: list[str]) -> None:
    MergeLoraOperator(task_id="t", **MERGE).on_kill()
    assert stopped == [job_id(Path("/s/merge/job"))]


def test_a_killed_serving_ends_its_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr("medllm_ops.serving.registry.stop_service", names.append)
    ServeOperator(task_id="t", **SERVE).on_kill()
    assert names == ["x"]


@pytest.mark.parametrize(("text", "keep"), [("True", True), ("False", False), (True, True)])
def test_serving_is_kept_as_told(monkeypatch: pytest.MonkeyPatch, text: Any, keep: bool) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("medllm_ops.serving.prove.serve_model", seen.update)
    ServeOperator(task_id="t", keep=text, **SERVE).execute({})
    assert seen["keep"] is keep


def test_conversion_returns_its_ledger(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "q", "output": "a"}\nbroken\n', encoding="utf-8")
    task = DatasetConvertOperator(task_id="t", source="alpaca", files=[str(path)], output_dir=str(tmp_path / "out"))
    result = task.execute({})
    assert (result["in"], result["out"], result["dropped"]) == (2, 1, {"not JSON": 1})


def test_a_source_without_a_good_row_fails_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("broken\n", encoding="utf-8")
    task = DatasetConvertOperator(task_id="t", source="alpaca", files=[str(path)], output_dir=str(tmp_path / "out"))
    with pytest.raises(MedllmError, match="source alpaca: no good record in 1 files"):
        task.execute({})


def test_a_step_runs_on_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medllm_ops.chain.execute", lambda name, run_dir: {"name": name, "run": run_dir})
    assert ChainStepOperator(task_id="t", step="curate", run_dir="/r").execute({}) == {"name": "curate", "run": "/r"}
