"""What DeepSpeed's ZeRO leaves in a checkpoint: shards, one a rank, that have to be put together to be a model.

With ``stage3_gather_16bit_weights_on_model_save`` (as in ms-swift's own ``zero3``) the weights are there as well, as
always; without it the shards are all there is, and beside an adapter's settings lies a file of weights without any.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, work_beside

# Programs that DeepSpeed puts into every checkpoint: no code of the model.
SCRIPTS = frozenset({"zero_to_fp32.py", "zero_to_torch.py"})
ADAPTER_SETTINGS = "adapter_config.json"
_ADAPTER = "adapter_model.safetensors"
_OF_ALL = "mp_rank_00_model_states.pt"
_SHARDS = ("*_model_states.pt", "*_optim_states.pt")
_KEPT = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.py")
MAX_SHARD_SIZE = "5GB"


def shards(checkpoint: Path) -> list[Path]:
    """DeepSpeed's files of the step that its file ``latest`` names; none where there are none."""
    latest = checkpoint / "latest"
    if not latest.is_file():
        return []
    folder = checkpoint / latest.read_text(encoding="utf-8").strip()
    return sorted(path for pattern in _SHARDS for path in folder.glob(pattern))


def has_every_shard(checkpoint: Path, ranks: int) -> bool:
    """Whether each of so many ranks left its own: of the optimizer from ZeRO's stage 1 on, of the model in stage 3."""
    names = {path.name for path in shards(checkpoint)}
    states = sum(name.endswith("_optim_states.pt") for name in names)
    if _OF_ALL in names:
        return len(names) == 1 + states and states in (0, ranks)
    return states == ranks and len(names) == 2 * ranks


def is_only_sharded(checkpoint: Path) -> bool:
    """Whether what was trained is in the shards and nowhere else."""
    if not shards(checkpoint):
        return False
    if (checkpoint / ADAPTER_SETTINGS).is_file():
        return not _has_tensors(checkpoint / _ADAPTER)
    return not any(checkpoint.glob("model*.safetensors"))


def sources(checkpoint: Path) -> list[str]:
    """The shards that all weights come from, by their paths in the checkpoint; none where the weights are there."""
    found = shards(checkpoint) if is_only_sharded(checkpoint) else []
    return [str(path.relative_to(checkpoint)) for path in found]


def _has_tensors(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, path.stat().st_size)))
        except (struct.error, ValueError) as error:
            raise MedllmError(f"{path} is no safetensors file, or was cut off") from error
    return bool(set(header) - {"__metadata__"})


def are_finite(checkpoint: Path) -> bool:
    """Whether every number of the trained weights in the shards is one."""
    import torch

    weights = _state(checkpoint).values()
    return all(bool(torch.isfinite(each.contiguous()).all()) for each in weights)


@contextmanager
def whole_weights(checkpoint: Path, beside: Path) -> Iterator[Path]:
    """A folder with all weights of a checkpoint, until the block ends: itself, or one that is made from its shards.

    :param beside: where the latter is made.
    :raises MedllmError: if the shards are not complete, or are not what they should be.
    """
    if not is_only_sharded(checkpoint):
        yield checkpoint
        return
    with work_beside(beside) as work:
        _consolidate(checkpoint, work)
        yield work


def _consolidate(checkpoint: Path, out: Path) -> None:
    ranks = len([*checkpoint.glob("rng_state*.pth")])
    if not has_every_shard(checkpoint, ranks):
        names = ", ".join(path.name for path in shards(checkpoint))
        raise MedllmError(f"{checkpoint} was trained by {ranks} ranks, and the shards of some are missing: {names}")
    for pattern in _KEPT:
        for file in checkpoint.glob(pattern):
            if file.name not in SCRIPTS:
                shutil.copyfile(file, out / file.name)
    if (checkpoint / ADAPTER_SETTINGS).is_file():
        _write_adapter(checkpoint, out)
    else:
        _write_model(checkpoint, out)


def _write_model(checkpoint: Path, out: Path) -> None:
    # Not DeepSpeed's own convert_zero_checkpoint_to_state_dict: it fails where two weights are one (a tied head).
    import torch
    from huggingface_hub import save_torch_state_dict

    config = read_json(checkpoint / "config.json")
    # The shards keep float32; a model keeps the precision that it was trained in.
    dtype = getattr(torch, config.get("dtype") or config.get("torch_dtype") or "float32")
    tensors: dict[str, Any] = {}
    written: set[int] = set()
    state = _state(checkpoint, frozen=True)
    for name, each in state.items():
        if id(each) not in written:
            written.add(id(each))
            tensors[name] = each.contiguous().to(dtype)
    save_torch_state_dict(tensors, out, max_shard_size=MAX_SHARD_SIZE, metadata={"format": "pt"})


def _write_adapter(checkpoint: Path, out: Path) -> None:
    from safetensors.torch import save_file

    # PEFT leaves the adapter's own name out of those that it saves.
    tensors = {
        name.replace(".default.", "."): each.contiguous()
        for name, each in _state(checkpoint).items()
        if "lora_" in name or ".modules_to_save." in name
    }
    if not tensors:
        raise MedllmError(f"the shards of {checkpoint} hold no weights of an adapter")
    save_file(tensors, out / _ADAPTER, metadata={"format": "pt"})


def _state(checkpoint: Path, frozen: bool = False) -> dict[str, Any]:
    """The trained weights in float32, by name; each is made when its ``contiguous()`` is called.

    Weights that are one have the same object; the one that the others are tied to comes first.
    """
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    try:
        state: dict[str, Any] = get_fp32_state_dict_from_zero_checkpoint(
            str(checkpoint), exclude_frozen_parameters=not frozen, lazy_mode=True
        )
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        raise MedllmError(f"the shards of {checkpoint} cannot be put together: {error}") from error
    return state
