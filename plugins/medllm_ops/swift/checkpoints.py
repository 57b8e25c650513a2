"""Which checkpoint is whole: a full disk or a kill leaves half-written ones (modelscope/ms-swift#3740)."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from pathlib import Path

from medllm_ops.files import read_json

_WEIGHTS = ("adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json")
_STATE = ("trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name, or -1."""
    found = re.fullmatch(r"checkpoint-(\d+)", checkpoint.name)
    return int(found[1]) if found else -1


def is_whole_safetensors(path: Path) -> bool:
    """Whether the file is as long as its header says (https://huggingface.co/docs/safetensors)."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                return False
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return bool(size == 8 + length + max(ends, default=0))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error):
        return False


def is_whole(checkpoint: Path) -> bool:
    """Whether a training can be resumed from this folder: weights and state are there, and complete."""
    weights = [*checkpoint.glob("*.safetensors")]
    if not any((checkpoint / name).is_file() for name in _WEIGHTS):
        return False
    if not all(is_whole_safetensors(path) for path in weights):
        return False
    deepspeed = [*checkpoint.glob("global_step*")]
    if not all((checkpoint / name).is_file() for name in (_STATE[:1] if deepspeed else _STATE)):
        return False
    try:
        state = read_json(checkpoint / "trainer_state.json")
        for name in _STATE[1:]:
            # torch writes zip archives: a cut-off one has no central directory, a damaged one a wrong checksum.
            if (checkpoint / name).is_file():
                with zipfile.ZipFile(checkpoint / name) as archive:
                    if archive.testzip() is not None:
                        return False
    except (OSError, ValueError, zipfile.BadZipFile):
        return False
    return bool(state.get("global_step") == step_of(checkpoint))


def last_whole_checkpoint(output_dir: Path) -> Path | None:
    """The checkpoint with the highest step that is whole."""
    candidates = sorted(output_dir.glob("checkpoint-*"), key=step_of, reverse=True)
    return next((path for path in candidates if path.is_dir() and is_whole(path)), None)
