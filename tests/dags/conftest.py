"""A fresh Airflow for the tests that run the real DAG."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Airflow = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def medllm_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("medllm")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, medllm_home: Path, repository: Path) -> Airflow:
    """Run ``airflow …`` with a metadata database of its own; the result holds everything it printed."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MEDLLM_HOME": str(medllm_home),
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__DAGS_FOLDER": str(repository / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(repository / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    migrated = run("db", "migrate")
    assert migrated.returncode == 0, migrated.stdout[-3000:]
    return run
