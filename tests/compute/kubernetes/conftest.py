"""A cluster of one node whose pods are processes of this host."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.cluster import ClusterServer
from servers.cluster_login import make_cluster, write_settings

from medllm_ops.compute.job import Job, job_id
from medllm_ops.compute.kubernetes import cluster as calls
from medllm_ops.compute.kubernetes import follow, place


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(place, "ASK_SECONDS", 0.1)
    monkeypatch.setattr(calls, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(calls, "LONGEST_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(follow, "AGAIN_SECONDS", 0.1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def server(home: Path) -> Iterator[ClusterServer]:
    with make_cluster(home) as server:
        yield server


@pytest.fixture
def configure(
    tmp_path: Path, server: ClusterServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Write the settings of the cluster, with changes."""

    def do(**changes: Any) -> None:
        monkeypatch.setenv("MEDLLM_KUBERNETES", str(write_settings(tmp_path, server, home, **changes)))

    do()
    return do


@pytest.fixture
def make_job(home: Path) -> Callable[..., Job]:
    """A job that runs Python code in the cluster."""

    def make(code: str, name: str = "job", key: str = "key", **fields: Any) -> Job:
        directory = home / "stage" / name
        return Job(job_id(directory), key, (sys.executable, "-c", code), directory, **fields)

    return make
