"""A worker that is killed in the middle of a stage: running again ends in the same report, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.compute.job import job_id
from medllm_ops.compute.processes import end_job, marked_processes
from medllm_ops.files import read_json
from medllm_ops.swift.checkpoints import last_whole_checkpoint

# Enough steps to be killed between them, few enough to be quick.
SETTINGS = ["--set", "sft=false", "--set", "self_cognition=false", "--set", "serve=false", "--set", "max_steps=8"]
COMMAND = [sys.executable, "-m", "medllm_ops.cli", "run", "--recipe", "tiny", "--name", "killed", *SETTINGS]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of the run that nobody kills."""
    home = tmp_path_factory.mktemp("unbroken")
    done = subprocess.run(COMMAND, env=environment(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(read_json(home / "runs" / "killed" / "report.json"))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    end_job(training_job(tmp_path), grace_seconds=1)


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "MEDLLM_HOME": str(home)}


def training_job(home: Path) -> str:
    return job_id(home / "runs" / "killed" / "stages" / "pretrain" / "job")


def start_and_kill(home: Path, ready: Callable[[Path], Any]) -> None:
    """Start the run and kill its worker with SIGKILL as soon as the stage's output is ``ready``."""
    output = home / "runs" / "killed" / "stages" / "pretrain" / "output"
    worker = subprocess.Popen(
        COMMAND, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 240
    while not ready(output):
        assert worker.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def run_again(home: Path) -> dict[str, Any]:
    done = subprocess.run(COMMAND, env=environment(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(marked_processes(training_job(home))) == []
    return dict(read_json(home / "runs" / "killed" / "report.json"))


def assert_same(report: dict[str, Any], unbroken: dict[str, Any]) -> None:
    """The same apart from times; the losses are of the same seed, data and steps."""
    assert report["passed"]
    assert report["ledger"] == unbroken["ledger"]
    (stage,), (expected,) = report["stages"], unbroken["stages"]
    assert (stage["steps"], stage["rows"]) == (expected["steps"], expected["rows"]) == (8, expected["rows"])
    assert stage["loss"] == pytest.approx(expected["loss"], abs=1e-5)
    for source, losses in unbroken["heldout"].items():
        assert report["heldout"][source] == pytest.approx(losses, abs=1e-5)


def test_the_job_outlives_its_worker_and_is_found_again(home: Path, unbroken: dict[str, Any]) -> None:
    start_and_kill(home, lambda output: (output / "logging.jsonl").is_file())
    report = run_again(home)
    assert_same(report, unbroken)
    log = (home / "runs" / "killed" / "stages" / "pretrain" / "job" / "job.log").read_text(encoding="utf-8")
    assert log.count("swift.cli.pt") == 1


@pytest.mark.slow
def test_a_killed_job_goes_on_from_its_last_whole_checkpoint(home: Path, unbroken: dict[str, Any]) -> None:
    start_and_kill(home, last_whole_checkpoint)
    for process in marked_processes(training_job(home)):
        process.kill()
    report = run_again(home)
    assert_same(report, unbroken)
    log = (home / "runs" / "killed" / "stages" / "pretrain" / "job" / "job.log").read_text(encoding="utf-8")
    assert "--resume_from_checkpoint" in log
