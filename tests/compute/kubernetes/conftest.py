"""Jobs for a cluster of one node whose pods are processes of this host."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.compute.job import Job, job_id
from servers.cluster_fixtures import configure, home, server

__all__ = ["configure", "home", "server"]


@pytest.fixture
def make_job(home: Path) -> Callable[..., Job]:
    """A job that runs Python code in the cluster."""

    def make(code: str, name: str = "job", key: str = "key", **fields: Any) -> Job:
        directory = home / "stage" / name
        return Job(job_id(directory), key, (sys.executable, "-c", code), directory, **fields)

    return make
