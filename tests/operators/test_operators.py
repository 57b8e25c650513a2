from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from medllm_ops.compute.job import Job, JobError
from medllm_ops.compute.local import LocalPlace
from medllm_ops.errors import MedllmError
from medllm_ops.files import write_json
from medllm_ops.operators import (
    ChainStepOperator,
    DatasetConvertOperator,
    MergeLoraOperator,
    ServeOperator,
    SwiftSftOperator,
)
from medllm_ops.parameters import Parameters
from medllm_ops.run import Run


@dataclass
class Figures:
    steps: int


TRAIN = {"stage": "sft", "recipe": "tiny", "model": "/m", "dataset": "/d", "output_dir": "/o"}
MERGE = {"stage": "sft", "recipe": "tiny", "model": "/m", "stage_dir": "/s", "output_dir": "/o"}
SERVE = {"name": "x", "recipe": "tiny", "model": "/m", "output_dir": "/o"}


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


@dataclass
class FakeWork:
    """Work that ends at once, well or not."""

    figures: Any
    job: Job | None = None

    def finish(self, place: Any) -> Any:
        if isinstance(self.figures, Exception):
            raise self.figures
        return self.figures


def test_training_gets_what_the_operator_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def begin(request: Any, place: Any) -> FakeWork:
        seen.append((request, place))
        return FakeWork(Figures(3))

    monkeypatch.setattr("medllm_ops.swift.train.stage_request", lambda *arguments: arguments)
    monkeypatch.setattr("medllm_ops.swift.train.begin", begin)
    assert SwiftSftOperator(task_id="t", **TRAIN).execute({}) == {"steps": 3}
    ((request, place),) = seen
    assert isinstance(place, LocalPlace)
    assert request == tuple(TRAIN.values())


@pytest.mark.parametrize(("retry", "error"), [(True, JobError), (False, AirflowFailException)])
def test_what_no_retry_helps_is_not_retried(
    monkeypatch: pytest.MonkeyPatch, retry: bool, error: type[Exception]
) -> None:
    monkeypatch.setattr("medllm_ops.swift.train.stage_request", lambda *arguments: arguments)
    monkeypatch.setattr("medllm_ops.swift.train.begin", lambda *_: FakeWork(JobError("it failed", retry=retry)))
    with pytest.raises(error, match="it failed"):
        SwiftSftOperator(task_id="t", **TRAIN).execute({})


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(MedllmError, match="no place 'moon'"):
        SwiftSftOperator(task_id="t", where="moon", **TRAIN).execute({})


def test_a_merge_has_its_job_beside_the_stage() -> None:
    assert MergeLoraOperator(task_id="t", **MERGE).job_directory() == Path("/s/merge/job")
    assert SwiftSftOperator(task_id="t", **TRAIN).job_directory() == Path("/o/job")


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


def test_conversion_takes_one_path_as_it_is_rendered(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "q", "output": "a"}\n', encoding="utf-8")
    arguments = {"source": "alpaca", "files": str(path), "output_dir": str(tmp_path / "out"), "sample": "0"}
    assert set(DatasetConvertOperator.template_fields) == set(arguments)
    assert DatasetConvertOperator(task_id="t", **arguments).execute({})["out"] == 1


def test_a_source_without_a_good_row_fails_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("broken\n", encoding="utf-8")
    task = DatasetConvertOperator(task_id="t", source="alpaca", files=[str(path)], output_dir=str(tmp_path / "out"))
    with pytest.raises(MedllmError, match="source alpaca: no good record in 1 files"):
        task.execute({})


def test_a_step_runs_on_its_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = Run(tmp_path, Parameters())
    write_json(tmp_path / "run.json", {"parameters": run.parameters.model_dump(mode="json")})
    monkeypatch.setattr("medllm_ops.chain.execute", lambda *arguments: arguments)
    step, run_dir, place = ChainStepOperator(task_id="t", step="curate", run_dir=str(tmp_path)).execute({})
    assert (step, run_dir) == ("curate", str(tmp_path))
    assert isinstance(place, LocalPlace)
