"""A full disk and caches that nobody can write: real file systems, mounted for one process by the kernel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults.world import HERE

Confined = Callable[..., dict[str, Any]]


@pytest.fixture
def confined(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Confined:
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let its users mount in a namespace of their own")
    path = [str(HERE.parent), str(Path(sys.modules["medllm_ops"].__path__[0]).parent), os.environ["PYTHONPATH"]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    # A copy: it is mounted so that nobody can write there.
    model = Path(shutil.copytree(tiny_model, tmp_path / "tiny"))

    def do(scenario: str) -> dict[str, Any]:
        command = ["unshare", "-rm", sys.executable, str(HERE / "confined.py"), scenario, str(tmp_path), str(model)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        return dict(json.loads(done.stdout.splitlines()[-1]))

    return do


def check_full(told: dict[str, Any], tolerance: float) -> None:
    assert told["error"][0] == "JobError"
    assert "the disk is full; free some space and run it again: it goes on where it stood" in told["error"][1]
    assert (told["cause"], told["retry"]) == ("disk", False)
    assert told["checkpoints"] == ["checkpoint-4"]
    assert "No space left on device" in told["again"][1]
    assert (told["steps"], told["first_step"]) == (12, 4)
    assert told["difference"] <= tolerance


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
def test_a_full_disk_fails_in_words_and_goes_on_when_there_is_room(confined: Confined) -> None:
    check_full(confined("full"), tolerance=0)


@pytest.mark.slow
def test_a_disk_that_is_full_in_a_checkpoint_of_ms_swift(confined: Confined) -> None:
    check_full(confined("full"), tolerance=1e-5)


@pytest.mark.slow
def test_caches_and_models_that_cannot_be_written_are_not_written(confined: Confined) -> None:
    told = confined("read-only")
    assert {told[name] for name in ("huggingface", "home", "tiny")} == {"Read-only file system"}
    assert told["steps"] == 12
    assert told["read-only home"][0] == "OSError"
    assert "Read-only file system" in told["read-only home"][1]
