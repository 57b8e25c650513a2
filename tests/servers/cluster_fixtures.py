"""Fixtures of a cluster of one node whose pods are processes of this host; a conftest imports what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.compute.kubernetes import cluster as calls
from medllm_ops.compute.kubernetes import follow, patience, place
from servers.cluster import ClusterServer
from servers.cluster_login import make_cluster, write_settings

_QUICK = (
    (place, "POLL_SECONDS", 0.05),
    (patience, "ASK_SECONDS", 0.1),
    (calls, "POLL_SECONDS", 0.05),
    (calls, "LONGEST_WAIT_SECONDS", 0.2),
    (follow, "AGAIN_SECONDS", 0.1),
)


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
    """Write the settings of the cluster, with changes; they are what jobs are run by."""
    for module, name, seconds in _QUICK:
        monkeypatch.setattr(module, name, seconds)

    def do(**changes: Any) -> None:
        monkeypatch.setenv("MEDLLM_KUBERNETES", str(write_settings(tmp_path, server, home, **changes)))

    do()
    return do
