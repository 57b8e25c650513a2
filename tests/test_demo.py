"""The demo on the real 135M model: what `make run` does, with two seeds. Ten minutes each on two cores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medllm_ops.files import read_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("seed", [42, 7])
def test_the_demo_passes_every_gate(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "medllm_ops.cli", "run", "--name", "demo", "--set", f"seed={seed}"]
    environment = {**os.environ, "MEDLLM_HOME": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = read_json(home / "runs" / "latest" / "report.json")
    assert report["passed"]
    assert report["identity"]["passed"]


def test_the_real_samples_go_through_the_chain(samples: Path, tmp_path: Path) -> None:
    """Every record of every file is accounted for, and the model passes its gates."""
    command = [sys.executable, "-m", "medllm_ops.cli", "run", "--name", "samples", "--raw", str(samples)]
    environment = {**os.environ, "MEDLLM_HOME": str(tmp_path)}
    subprocess.run(command, env=environment, check=True)
    report = read_json(tmp_path / "runs" / "samples" / "report.json")
    assert report["passed"]
    assert [stage["name"] for stage in report["stages"]] == ["pretrain", "sft", "self_cognition"]
    assert all(row["in"] == row["out"] + sum(row["dropped"].values()) for row in report["ledger"])
    assert Path(tmp_path / "runs" / "samples" / "report.html").is_file()
