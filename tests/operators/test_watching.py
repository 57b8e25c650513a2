"""Who wants a task gone: what the server says, and what is done about the job."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.compute.job import Job
from medllm_ops.compute.local import LocalPlace
from medllm_ops.compute.owner import TaskOwner
from medllm_ops.operators import listener, watching
from medllm_ops.operators.owner import owner_of
from medllm_ops.operators.watching import ABSENT, TaskWatch, given_up, stop_deleted, stop_jobs_of

WANTED = ["running", "queued", "scheduled", "deferred", "up_for_retry", "up_for_reschedule"]
UNWANTED = [None, ABSENT, "restarting", "success", "skipped", "removed", "upstream_failed"]


@dataclass
class Instance:
    """A task as it runs, and what the server says of it."""

    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: Exception | None = None
    dag_id: str = "d"
    run_id: str = "r"
    task_id: str = "t"
    map_index: int = -1
    max_tries: int = 1

    def get_task_states(self, **_: Any) -> dict[str, dict[str, Any]]:
        if self.error:
            raise self.error
        return self.states


def context(instance: Instance) -> Any:
    return {"ti": instance}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))
    # A trainer that runs elsewhere: what is asked for stays in the queue.
    monkeypatch.setenv("MEDLLM_TRAINER", "service")


@pytest.fixture
def submit(tmp_path: Path) -> Callable[..., Job]:
    def do(owner: TaskOwner | None) -> Job:
        directory = tmp_path / (owner.task if owner else "none")
        return LocalPlace(owner).submit(Job("own-id", "key", (sys.executable,), directory))

    return do


@given(st.sampled_from(WANTED), st.floats(0, 1e6))
def test_a_task_that_is_still_wanted_keeps_its_job(state: str, silent: float) -> None:
    assert not given_up(state, silent, 300)


@given(st.sampled_from(UNWANTED), st.floats(0, 1e6))
def test_a_task_that_is_gone_or_set_by_hand_does_not(state: str | None, silent: float) -> None:
    assert given_up(state, silent, 300)


def test_a_task_that_failed_for_its_lost_heartbeat_keeps_its_job() -> None:
    assert given_up("failed", 30, 300)
    assert not given_up("failed", 300, 300)


def told(watch: TaskWatch) -> type[BaseException]:
    watch.on_kill()
    with pytest.raises((AirflowFailException, AirflowRescheduleException)) as caught:
        watch.look()
    return caught.type


@pytest.mark.parametrize(
    ("states", "ended"),
    [
        ({"r": {"t": "running"}}, False),
        ({"r": {"t": "restarting"}}, True),
        ({"r": {"t": "failed"}}, True),
        ({"r": {"t": None}}, True),
        ({}, True),
    ],
)
def test_the_server_is_asked_whose_end_it_is(states: dict[str, dict[str, Any]], ended: bool) -> None:
    stopped: list[bool] = []
    watch = TaskWatch(context(Instance(states)), lambda: stopped.append(True))
    watch.look()
    assert told(watch) is (AirflowFailException if ended else AirflowRescheduleException)
    assert stopped == [True] * ended


def test_a_mapped_task_is_found_under_its_index() -> None:
    stopped: list[bool] = []
    instance = Instance({"r": {"t_0": "failed", "t_3": "running"}}, map_index=3)
    assert told(TaskWatch(context(instance), lambda: stopped.append(True))) is AirflowRescheduleException
    assert stopped == []


def test_a_server_that_does_not_answer_has_given_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = Instance(error=ConnectionError("no route"))
    assert told(TaskWatch(context(instance), lambda: None)) is AirflowRescheduleException
    # Nor does a server that never answers keep the task from ending.
    monkeypatch.setattr(watching, "VERDICT_SECONDS", 0.05)
    hangs = threading.Event()
    monkeypatch.setattr(Instance, "get_task_states", lambda *_, **__: hangs.wait(30))
    assert told(TaskWatch(context(instance), lambda: None)) is AirflowRescheduleException
    hangs.set()


def test_outside_of_airflow_nobody_is_asked() -> None:
    assert owner_of({}) is None  # type: ignore[typeddict-item]
    assert told(TaskWatch({}, lambda: None)) is AirflowRescheduleException  # type: ignore[typeddict-item]


def test_the_same_task_is_found_on_every_try_and_not_after_a_clear(submit: Callable[..., Job]) -> None:
    first = submit(owner_of(context(Instance(max_tries=1))))
    assert submit(owner_of(context(Instance(max_tries=1)))) == first
    cleared = submit(owner_of(context(Instance(max_tries=3))))
    assert cleared.id != first.id
    assert LocalPlace().spool.find(first.id).state == "ended"  # type: ignore[union-attr]


def test_whoever_asks_without_being_cleared_shares_the_job(submit: Callable[..., Job]) -> None:
    first = submit(TaskOwner("d", "r", "t", -1, 1))
    found = LocalPlace(TaskOwner("d", "another run", "t", -1, 1)).submit(Job("x", "key", ("y",), first.directory))
    assert found == first


def test_marking_a_task_ends_its_job_and_no_other(submit: Callable[..., Job]) -> None:
    ours = submit(TaskOwner("d", "r", "t", -1, 1))
    others = [submit(TaskOwner("d", "r", "u", -1, 1)), submit(None)]
    # Airflow itself failed it: a retry will come back to the job.
    listener.on_task_instance_failed("running", Instance(), "error")
    assert LocalPlace().spool.find(ours.id).state == "queued"  # type: ignore[union-attr]
    listener.on_task_instance_failed(None, Instance(), "set by hand")
    assert ours.result()
    assert [other.result() for other in others] == [None, None]
    assert stop_jobs_of("d", "r", "t", -1) == []
    listener.on_task_instance_success(None, Instance(task_id="u"))
    assert others[0].result()


def test_jobs_of_deleted_runs_are_ended_by_the_next_task(submit: Callable[..., Job]) -> None:
    deleted = submit(TaskOwner("d", "deleted", "t", -1, 1))
    living = submit(TaskOwner("d", "r", "u", -1, 1))
    stop_deleted(context(Instance(error=ConnectionError())))
    assert deleted.result() is None
    stop_deleted(context(Instance({"r": {"u": "up_for_retry"}})))
    assert deleted.result()
    assert living.result() is None
