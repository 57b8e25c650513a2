"""Jobs that are real processes, and the promise that none of them outlives its test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medllm_ops.compute import local, processes
from medllm_ops.compute.job import Job, job_id
from medllm_ops.compute.local import LocalPlace
from medllm_ops.compute.processes import ProcessIdentity


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local, "POLL_SECONDS", 0.02)
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """The directory of a job; nothing of the job is left running after the test."""
    directory = tmp_path / "stage" / "job"
    yield directory
    left = list(processes.marked_processes(job_id(directory)))
    processes.end_job(job_id(directory), grace_seconds=0.1)
    assert left == [], "the test left processes running"


@pytest.fixture
def make_job(directory: Path) -> Callable[..., Job]:
    """A job that runs Python code."""

    def make(code: str, key: str = "key", **environment: str) -> Job:
        return Job(job_id(directory), key, (sys.executable, "-c", code), directory, environment)

    return make


@pytest.fixture
def place() -> LocalPlace:
    return LocalPlace()


@pytest.fixture
def submit(place: LocalPlace, wait_until: Callable[[Callable[[], object]], None]) -> Callable[[Job], ProcessIdentity]:
    """Submit a job and wait until it has a supervisor of its own."""

    def do(job: Job) -> ProcessIdentity:
        submitted = place.submit(job)
        wait_until(lambda: submitted.supervisor())
        supervisor = submitted.supervisor()
        assert supervisor
        return supervisor

    return do
