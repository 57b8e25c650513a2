"""What DeepSpeed's ZeRO leaves in a checkpoint: shards, one a rank, that have to be put together to be a model.

With ``stage3_gather_16bit_weights_on_model_save`` (as in ms-swift's own ``zero3``) the weights are there as well, as
always; without it the shards are all there is of a model. Adapters are gathered in every case (transformers'
``Trainer.save_model``).
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, work_beside

# Programs that DeepSpeed puts into every checkpoint: no code of the model.
SCRIPTS = frozenset({"zero_to_fp32.py", "zero_to_torch.py"})
ADAPTER_SETTINGS = "adapter_config.json"
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
    """Whether the weights of a model are in the shards and nowhere else."""
    if (checkpoint / ADAPTER_SETTINGS).is_file() or any(checkpoint.glob("model*.safetensors")):
        return False
    return bool(shards(checkpoint))


def sources(checkpoint: Path) -> list[str]:
    """The shards that all weights come from, by their paths in the checkpoint; none where the weights are there."""
    found = shards(checkpoint) if is_only_sharded(checkpoint) else []
    return [str(path.relative_to(checkpoint)) for path in found]


def are_finite(checkpoint: Path) -> bool:
    """Whether every number of the weights in the shards is one."""
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
    import torch
    from huggingface_hub import save_torch_state_dict

    ranks = len([*checkpoint.glob("rng_state*.pth")])
    if not has_every_shard(checkpoint, ranks):
        names = ", ".join(path.name for path in shards(checkpoint))
        raise MedllmError(f"{checkpoint} was trained by {ranks} ranks, and the shards of some are missing: {names}")
    for pattern in _KEPT:
        for file in checkpoint.glob(pattern):
            if file.name not in SCRIPTS:
                shutil.copyfile(file, out / file.name)
    # Not DeepSpeed's own convert_zero_checkpoint_to_state_dict: it fails where two weights are one (a tied head).
    config = read_json(checkpoint / "config.json")
    # The shards keep float32; a model keeps the precision that it was trained in.
    dtype = getattr(torch, config.get("dtype") or config.get("torch_dtype") or "float32")
    tensors: dict[str, Any] = {}
    written: set[int] = set()
    state = _state(checkpoint)
    for name, each in state.items():
        if id(each) not in written:
            written.add(id(each))
            tensors[name] = each.contiguous().to(dtype)
    save_torch_state_dict(tensors, out, max_shard_size=MAX_SHARD_SIZE, metadata={"format": "pt"})


def _state(checkpoint: Path) -> dict[str, Any]:
    """The weights in float32, by name; each is made when its ``contiguous()`` is called.

    Weights that are one have the same object; the one that the others are tied to comes first.
    """
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    try:
        state: dict[str, Any] = get_fp32_state_dict_from_zero_checkpoint(str(checkpoint), lazy_mode=True)
    except (OSError, ValueError, LookupError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise MedllmError(f"the shards of {checkpoint} cannot be put together: {error}") from error
    return state
