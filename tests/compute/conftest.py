"""Jobs that are real processes, and the promise that none of them outlives its test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medllm_ops.compute import local, processes
from medllm_ops.compute.job import Job, job_id
from medllm_ops.compute.local import LocalPlace


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "POLL_SECONDS", 0.02)


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
