"""A LoRA adapter on disk, read as what it claims to change; used by the merge proof.

Source of the file format: PEFT 0.20, ``LoraConfig`` and ``get_peft_model_state_dict``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<factor>[AB])(\.weight)?")
# With any of these, merged = base + scale * B * A does not hold, or holds for other tensors than those on disk.
_NOT_PROVABLE = (
    "alora_invocation_tokens",
    "arrow_config",
    "layer_replication",
    "lora_bias",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
)
# Initialisations that change the base's weights too, so that the base on disk is not what was trained.
_CHANGES_BASE = ("corda", "loftq", "lora_ga", "olora", "pissa")


# What a stage may train: these leave a LoRA adapter of PEFT, or the weights themselves.
_TUNERS = ("full", "lora", "longlora")


class NotProvableError(MedllmError):
    """The merge cannot be proven for this kind of adapter or base."""


@dataclass(frozen=True, slots=True)
class LowRankUpdate:
    """What is added to one weight: ``scale * left @ right``, float64, in the weight's own orientation."""

    left: Any
    right: Any
    scale: float

    def rows(self, start: int, stop: int) -> tuple[Any, Any]:
        """Return rows ``start:stop`` of the update, and of ``scale * |left| @ |right|``, the scale of its rounding."""
        left = self.left[start:stop]
        return self.scale * (left @ self.right), abs(self.scale) * (left.abs() @ self.right.abs())

    @property
    def is_zero(self) -> bool:
        """Whether it changes nothing, as an adapter that was never trained."""
        return not (self.left.any() and self.right.any())

    @property
    def rank(self) -> int:
        """The inner dimension."""
        return int(self.right.shape[0])


@dataclass(slots=True)
class Adapter:
    """An adapter's effect, by the name of the weight in the model.

    :param updates: low-rank updates.
    :param replaced: whole tensors that take the base's place (``modules_to_save``, trained biases).
    """

    updates: dict[str, LowRankUpdate] = field(default_factory=dict)
    replaced: dict[str, Any] = field(default_factory=dict)


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter folder as PEFT writes it.

    :raises NotProvableError: for DoRA and every other tuner whose merge is not ``base + scale * B * A``.
    :raises MedllmError: if a file is missing or broken, or a factor lacks its partner.
    """
    config_file = folder / CONFIG_FILE
    if not config_file.is_file():
        raise NotProvableError(f"not provable: {folder} has no {CONFIG_FILE}, so it is no LoRA adapter of PEFT")
    config = read_json(config_file)
    _refuse_other_tuners(folder, config)
    factors: dict[tuple[str, str], dict[str, Any]] = {}
    adapter = Adapter()
    for name, tensor in _read_tensors(folder / WEIGHTS_FILE).items():
        bare = name.removeprefix(_PREFIX).replace(".base_layer.", ".")
        if match := _FACTOR.fullmatch(bare):
            factors.setdefault((match["module"], match["embedding"] or ""), {})[match["factor"]] = tensor.double()
        elif "lora_" in bare:
            raise NotProvableError(f"not provable: the adapter tensor {name} is neither a LoRA A nor a LoRA B")
        else:
            adapter.replaced[bare] = tensor
    for (module, embedding), pair in factors.items():
        if pair.keys() != {"A", "B"}:
            raise MedllmError(f"{folder / WEIGHTS_FILE}: {module} has only a LoRA {', '.join(pair)}")
        # An embedding's update is the transpose of B * A, and so is that of weights stored as (in, out).
        adapter.updates[f"{module}.weight"] = _update(
            module, pair["A"], pair["B"], config, transposed=bool(embedding) or bool(config.get("fan_in_fan_out"))
        )
    return adapter


def what_no_proof_is_for(tuner_type: str, extra: Mapping[str, Any]) -> str | None:
    """The settings of a stage, as ms-swift names them, whose adapter :func:`read_adapter` would refuse; None: none.

    Told before a training, as after it the merge would fail.
    """
    if tuner_type not in _TUNERS:
        return f"tuner_type {tuner_type}"
    if tuner_type == "full":
        return None
    used = [name for name in _NOT_PROVABLE if extra.get(name)]
    if _changes_base(extra.get("init_weights")):
        used.append(f"init_weights {extra['init_weights']}")
    return ", ".join(used) or None


def _changes_base(start: Any) -> bool:
    """Whether an initialisation changes the base's weights too; ms-swift writes lora-ga, and PEFT lora_ga."""
    return str(start).lower().replace("-", "_").startswith(_CHANGES_BASE)


def _refuse_other_tuners(folder: Path, config: dict[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise NotProvableError(f"not provable: {folder} is a {config.get('peft_type')} adapter, only LORA is")
    used = [name for name in _NOT_PROVABLE if config.get(name)]
    start = config.get("init_lora_weights")
    if _changes_base(start):
        used.append(f"init_lora_weights={start}")
    if used:
        raise NotProvableError(
            f"not provable: {folder} was trained with {', '.join(used)}; train with plain LoRA, or merge by hand"
        )


def _read_tensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except FileNotFoundError as error:
        raise MedllmError(f"{path}: the adapter has no weights in the safetensors format") from error
    except SafetensorError as error:
        raise MedllmError(f"{path}: the adapter's weights cannot be read: {error}") from error


def _update(module: str, a: Any, b: Any, config: dict[str, Any], *, transposed: bool) -> LowRankUpdate:
    from peft.utils.other import get_pattern_key

    if a.ndim != 2 or b.ndim != 2:
        raise NotProvableError(f"not provable: {module} has LoRA factors of {a.ndim} dimensions (a convolution?)")
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    rank = ranks.get(get_pattern_key(list(ranks), module), config["r"])
    alpha = alphas.get(get_pattern_key(list(alphas), module), config["lora_alpha"])
    if not rank == a.shape[0] == b.shape[1]:
        raise MedllmError(f"{module}: the adapter's config says rank {rank}, its tensors {a.shape[0]}, {b.shape[1]}")
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return LowRankUpdate(a.T, b.T, scale) if transposed else LowRankUpdate(b, a, scale)
