"""A training on a disk that becomes full, or with caches that cannot be written: in a mount namespace of its own.

``unshare -rm python confined.py full|read-only FOLDER MODEL`` prints what happened, as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from faults.world import Trial, assert_clear, difference, leave_nothing, losses, make_request
from medllm_ops.compute.job import JobError
from medllm_ops.compute.lease import Leases
from medllm_ops.compute.local import LocalPlace
from medllm_ops.errors import MedllmError

DISK_BYTES = 256 << 20


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def fill(path: Path) -> None:
    """Take all the room that there is."""
    for size in (1 << 20, 4096, 1):
        try:
            with path.open("ab", buffering=0) as file:
                while file.write(bytes(size)) == size:
                    pass
        except OSError:
            continue


def trial_in(folder: Path, model: Path, freezer: Path) -> Trial:
    folder.mkdir(parents=True)
    (folder / "model").symlink_to(model)
    return Trial(make_request(folder, folder / "model"), freezer)


def full(folder: Path, model: Path) -> dict[str, Any]:
    """The disk becomes full while a checkpoint is being written; afterwards there is room again."""
    disk = folder / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk))
    os.environ["MEDLLM_HOME"] = str(disk / "home")
    told: dict[str, Any] = {}
    try:
        trial = trial_in(disk / "unbroken", model, folder / "freezer")
        trial.start()
        trial.succeed()
        unbroken = losses(trial.request.output_dir)
        trial = trial_in(disk / "one", model, folder / "freezer")
        trial.start_frozen("checkpoint")
        fill(disk / "ballast")
        trial.thaw()
        error = trial.end()
        told["error"] = [type(error).__name__, str(error)]
        if isinstance(error, JobError):
            told["cause"], told["retry"] = error.cause, error.retry
        told["checkpoints"] = sorted(path.name for path in trial.request.output_dir.glob("*checkpoint-*"))
        trial.assert_clear()
        told["again"] = again_while_full(trial)
        (disk / "ballast").unlink()
        trial.start()
        result = trial.succeed()
        trial.assert_clear()
        told["steps"], told["first_step"] = result.steps, result.attempts[-1]["first_step"]
        told["difference"] = difference(losses(trial.request.output_dir), unbroken)
    finally:
        leave_nothing(disk / "home")
    return told


def again_while_full(trial: Trial) -> list[str]:
    """Whoever tries again before there is room is told so at once, and leaves nothing."""
    fill(trial.request.directory.parents[1] / "ballast")
    trial.start()
    error = trial.end()
    assert not Leases(trial.place.spool.folder / "leases").held()
    return [type(error).__name__, str(error)]


def read_only(folder: Path, model: Path) -> dict[str, Any]:
    """The model's folder and every cache of the user lie where nobody can write."""
    caches = folder / "caches"
    for name in ("huggingface", "modelscope", "home/.cache"):
        (caches / name).mkdir(parents=True)
    os.environ |= {
        "MEDLLM_HOME": str(folder / "home"),
        "HOME": str(caches / "home"),
        "HF_HOME": str(caches / "huggingface"),
        "MODELSCOPE_CACHE": str(caches / "modelscope"),
        "XDG_CACHE_HOME": str(caches / "home" / ".cache"),
    }
    for path in (caches, model):
        mount("--bind", str(path), str(path))
        mount("-o", "remount,ro,bind", str(path))
    told: dict[str, Any] = {}
    for path in (caches / "huggingface", caches / "home", model):
        try:
            (path / "probe").touch()
        except OSError as error:
            told[path.name] = error.strerror
    try:
        trial = trial_in(folder / "one", model, folder / "freezer")
        trial.start()
        result = trial.succeed()
        told["steps"] = result.steps
        assert_clear(trial.job.id if trial.job else "", LocalPlace().spool)
        # A home that cannot be written is an error in words.
        home = folder / "home"
        mount("--bind", str(home), str(home))
        mount("-o", "remount,ro,bind", str(home))
        trial = trial_in(folder / "two", model, folder / "freezer")
        trial.start()
        error = trial.end()
        told["read-only home"] = [type(error).__name__, str(error)]
        told["is one sentence"] = isinstance(error, MedllmError | OSError)
    finally:
        leave_nothing(folder / "home")
    return told


if __name__ == "__main__":
    scenarios = {"full": full, "read-only": read_only}
    print(json.dumps(scenarios[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))))
