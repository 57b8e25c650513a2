"""Which checkpoint is whole: a full disk or a kill leaves half-written ones (modelscope/ms-swift#3740)."""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from pathlib import Path

from medllm_ops.files import read_json
from medllm_ops.swift import zero

_WEIGHTS = ("adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json")
# One process writes rng_state.pth, several write rng_state_0.pth, rng_state_1.pth, …
_STATE = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")


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
    sharded = zero.shards(checkpoint)
    if not any((checkpoint / name).is_file() for name in _WEIGHTS) and not sharded:
        return False
    if not all(is_whole_safetensors(path) for path in weights):
        return False
    try:
        if not _shards(checkpoint) <= {path.name for path in weights}:
            return False
        # torch writes zip archives: a cut-off one has no central directory, a damaged one a wrong checksum.
        archives = [path for pattern in _STATE for path in checkpoint.glob(pattern)]
        if not all(_is_whole_archive(path) for path in (*archives, *sharded)):
            return False
        if [*checkpoint.glob("global_step*")]:
            # DeepSpeed keeps optimizer and scheduler in files of its own, some of them one a rank.
            if not zero.has_every_shard(checkpoint, len([*checkpoint.glob("rng_state*.pth")])):
                return False
        elif not all([*checkpoint.glob(pattern)] for pattern in _STATE):
            return False
        state = read_json(checkpoint / "trainer_state.json")
        return bool(state["global_step"] == step_of(checkpoint))
    except (OSError, ValueError, LookupError, TypeError):
        return False


def is_behind_the_last_step(checkpoint: Path) -> bool:
    """Whether a whole checkpoint is the one of a training's last step: resumed from, it would train one step more."""
    state = read_json(checkpoint / "trainer_state.json")
    return 0 < int(state.get("max_steps") or 0) <= int(state["global_step"])


def is_finite(checkpoint: Path) -> bool:
    """Whether every number of the weights is one: a training that diverged saves others, too."""
    if zero.is_only_sharded(checkpoint):
        return zero.are_finite(checkpoint)
    return all(_is_finite_safetensors(path) for path in checkpoint.glob("*.safetensors"))


# The bits of a number's exponent, and of how many bytes it is; all of them set: infinite, or no number.
_EXPONENTS = {"F64": (8, 0x7FF << 52), "F32": (4, 0xFF << 23), "F16": (2, 0x1F << 10), "BF16": (2, 0xFF << 7)}
_BLOCK = 1 << 24


def _is_finite_safetensors(path: Path) -> bool:
    import numpy as np

    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        for name, entry in header.items():
            if name == "__metadata__" or entry["dtype"] not in _EXPONENTS:
                continue
            size, exponent = _EXPONENTS[entry["dtype"]]
            begin, end = entry["data_offsets"]
            file.seek(8 + length + begin)
            for start in range(begin, end, _BLOCK):
                bits = np.frombuffer(file.read(min(_BLOCK, end - start)), dtype=f"<u{size}")
                mask = bits.dtype.type(exponent)
                if bool(np.any((bits & mask) == mask)):
                    return False
    return True


def _shards(checkpoint: Path) -> set[str]:
    """The names of the files that a model in several files needs; none for an adapter."""
    index = checkpoint / "model.safetensors.index.json"
    return set(read_json(index)["weight_map"].values()) if index.is_file() else set()


def _is_whole_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    # Damage can also look like an encrypted archive or one of another version.
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, struct.error, zlib.error):
        return False


def last_whole_checkpoint(output_dir: Path) -> Path | None:
    """The checkpoint with the highest step that is whole."""
    candidates = sorted(output_dir.glob("checkpoint-*"), key=step_of, reverse=True)
    return next((path for path in candidates if path.is_dir() and is_whole(path)), None)
