"""What an attempt at a training, or an earlier training, leaves behind, and what is done about it."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, to_json_line, write_json
from medllm_ops.swift.checkpoints import is_finite, is_whole, step_of
from medllm_ops.swift.command import parse_logged_rows

FULL = (errno.ENOSPC, errno.EDQUOT)
_PROBE_BYTES = 1 << 20
_MARK = "key.json"
# What a stage's folder holds, and what a killed writer of it leaves beside that: nothing else is cleared away.
_OF_A_STAGE = frozenset({"attempts.json", "cache", "job", "key.json", "merge", "output", "result.json", "tokenised"})
_HALF = re.compile(r"\.(tokenised|(attempts\.json|key\.json|merge|result\.json)\.\d+)\.(part|old|work)")
Say = Callable[[str], Any]


def refuse_unless_ours(directory: Path, key: str) -> None:
    """Make sure that clearing a stage's folder for a training of this key, where need be, costs nothing of a user's.

    :raises MedllmError: naming what would be lost.
    """
    known = _key_of(directory)
    if known == key:
        return
    names = {path.name for path in directory.iterdir()} if directory.exists() else set()
    kept = {name for name in names if not _HALF.fullmatch(name)}
    # Somebody else's folder may have an output of its own. Our mark comes first and goes last.
    others = kept - _OF_A_STAGE if known else kept
    if others:
        raise MedllmError(
            f"{directory} would be cleared for a training, and holds what none has made "
            f"({', '.join(sorted(others)[:3])}): give another folder, or move that away"
        )


def start_clean_unless_same(directory: Path, key: str) -> None:
    """Clear a stage's folder whose training had another key: checkpoints of other settings must not be resumed from.

    :raises MedllmError: as :func:`refuse_unless_ours`.
    """
    if _key_of(directory) == key:
        return
    refuse_unless_ours(directory, key)
    if directory.exists():
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != _MARK:
                path.unlink()
    write_json(directory / _MARK, {"key": key})


def _key_of(directory: Path) -> str | None:
    """The key of the training that a folder is of; None if it is of none."""
    try:
        return str(read_json(directory / _MARK)["key"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def remove_half_checkpoints(output_dir: Path, say: Say) -> None:
    """Remove the checkpoints that are not whole, and nothing else."""
    for path in output_dir.glob("checkpoint-*"):
        if path.is_dir() and not is_whole(path):
            say(f"removing the half-written {path}")
            shutil.rmtree(path)


def set_diverged_aside(output_dir: Path, first_step: int, say: Say) -> None:
    """Rename the checkpoints behind ``first_step`` that were saved after the weights had become no numbers."""
    for path in output_dir.glob("checkpoint-*"):
        if step_of(path) > first_step and not is_finite(path):
            say(f"{path.name} holds numbers that are none: it is renamed, and never resumed from")
            path.rename(path.with_name(f"diverged-{path.name}"))


def close_log(output_dir: Path, checkpoint: Path, log: Path) -> None:
    """Write the line that ms-swift could not write, which was killed behind its last step.

    :param log: what ms-swift printed.
    :raises MedllmError: if it does not say how many rows were kept, so that nobody can tell what was trained on.
    """
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    rows = dict(zip(("train_dataset", "val_dataset"), parse_logged_rows(text), strict=True))
    line = {
        "last_model_checkpoint": str(checkpoint),
        "best_model_checkpoint": read_json(checkpoint / "trainer_state.json").get("best_model_checkpoint"),
        "global_step": step_of(checkpoint),
        **{name: f"size={number}" for name, number in rows.items()},
        "closed_by": "medllm-ops",
    }
    with (output_dir / "logging.jsonl").open("ab") as file:
        # Half a line may stand before it.
        file.write(b"\n" + to_json_line(line))


def disk_is_full(folder: Path) -> bool:
    """Whether the disk of a folder has no room for another mebibyte."""
    probe = folder / ".room"
    try:
        probe.write_bytes(bytes(_PROBE_BYTES))
    except OSError as error:
        return error.errno in FULL
    finally:
        probe.unlink(missing_ok=True)
    return False
