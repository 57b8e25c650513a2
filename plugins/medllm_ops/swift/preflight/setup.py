"""What of a stage's settings decides memory and time, as ms-swift 4.6 and DeepSpeed understand them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json
from medllm_ops.swift.preflight.shape import ModelShape
from medllm_ops.swift.recipe import DEEPSPEED_NAMES, PreferenceRecipe, StageRecipe

Device = Literal["cpu", "cuda"]
Attention = Literal["eager", "sdpa", "flash"]
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
FULL_PRECISION = 4
# Liger's kernels stand in for classes of transformers; for code that comes with a model it has none.
_WITHOUT_LIGER = frozenset({"baichuan", "chatglm", "internlm", "internlm2", "internlm3", "qwen", "skywork"})


@dataclass(frozen=True, slots=True)
class Setup:
    """One stage on so many devices.

    :param weight_bytes: of a weight as it is loaded. :param arithmetic_bytes: of a number in matrix products.
    :param adapter_bytes: of a weight of an adapter.
    :param bits: of a frozen linear weight, where a library packs it; else 0.
    :param trained: weights that are trained. :param adapters: modules that get LoRA; none: all weights are trained.
    :param optimizer_bytes: the optimizer's, for each trained weight.
    :param zero: DeepSpeed's stage, 0 to 3; None without DeepSpeed.
    :param rows_at_once: rows of one row of a batch: a pair is two.
    """

    device: Device
    gpus: int
    full: bool
    trained: int
    adapters: tuple[str, ...]
    rank: int
    dropout: bool
    weight_bytes: int
    arithmetic_bytes: int
    adapter_bytes: int
    bits: int
    double_quant: bool
    optimizer_bytes: float
    batch: int
    accumulation: int
    eval_batch: int
    checkpointing: bool
    attention: Attention
    liger: bool
    packing: bool
    zero: int | None
    offload_optimizer: bool
    offload_weights: bool
    rows_at_once: int = 1
    reference_model: bool = False

    @property
    def rows_a_step(self) -> int:
        """Rows, or packed sequences, of one optimizer step over all devices."""
        return self.batch * self.accumulation * self.gpus


def setup_of(stage: StageRecipe, dtype: str | None, shape: ModelShape, device: Device, gpus: int = 1) -> Setup:
    """Read a stage's settings.

    :param dtype: ``torch_dtype`` of the recipe; None: the model's own.
    :raises MedllmError: if ``deepspeed`` names a file that cannot be read.
    """
    extra = stage.extra
    full = stage.tuner_type == "full"
    weight_bytes = BYTES.get(dtype or shape.dtype or "bfloat16", 2)
    # ms-swift: float16 and float32 weights are multiplied in float16, bfloat16 ones in bfloat16, unless told otherwise
    # (BaseArguments._init_mixed_precision); the chain switches that off for float32, and a recipe's extra on again.
    mixed = bool(extra.get("bf16") or extra.get("fp16")) if dtype == "float32" else extra.get("bf16") is not False
    arithmetic = 2 if mixed and (device == "cuda" or dtype != "float32") else weight_bytes
    zero, offload_optimizer, offload_weights = _deepspeed(stage.deepspeed)
    # PEFT makes adapters of half precision weights in float32 (autocast_adapter_dtype).
    adapter_bytes = BYTES.get(str(extra.get("lora_dtype", "float32")), 4)
    trained = shape.total if full else shape.adapter(stage.target_modules, stage.lora_rank)
    return Setup(
        device=device,
        gpus=gpus,
        full=full,
        trained=trained,
        adapters=() if full else tuple(stage.target_modules),
        rank=stage.lora_rank,
        dropout=not full and stage.lora_dropout > 0,
        weight_bytes=weight_bytes,
        arithmetic_bytes=arithmetic,
        adapter_bytes=adapter_bytes,
        bits=stage.quant_bits or 0,
        double_quant=bool(extra.get("bnb_4bit_use_double_quant", True)),
        optimizer_bytes=_optimizer_bytes(stage, zero, weight_bytes if full else adapter_bytes),
        batch=stage.per_device_train_batch_size,
        accumulation=stage.gradient_accumulation_steps,
        eval_batch=stage.per_device_eval_batch_size,
        checkpointing=stage.gradient_checkpointing,
        attention=_attention(stage, device),
        liger=bool(extra.get("use_liger_kernel")) and device == "cuda" and shape.kind not in _WITHOUT_LIGER,
        packing=stage.packing,
        zero=zero,
        offload_optimizer=offload_optimizer,
        offload_weights=offload_weights,
        rows_at_once=2 if isinstance(stage, PreferenceRecipe) else 1,
        reference_model=full and isinstance(stage, PreferenceRecipe) and stage.rlhf_type != "orpo",
    )


def _attention(stage: StageRecipe, device: Device) -> Attention:
    name = stage.attn_impl or "sdpa"
    if name.startswith("flash") and device == "cuda":
        return "flash"
    return "eager" if name == "eager" else "sdpa"


def _optimizer_bytes(stage: StageRecipe, zero: int | None, weight_bytes: int) -> float:
    """AdamW's two moments, in the weight's precision; with DeepSpeed those and a copy, in float32.

    ZeRO §3.1 (arXiv:1910.02054) counts K = 12 for the latter; 8-bit states: arXiv:2110.02861 §2; Adafactor keeps rows
    and columns only (arXiv:1804.04235 §3).
    """
    name = str(stage.extra.get("optim", "adamw_torch"))
    if "8bit" in name:
        return 2.0 + (4.0 if zero is not None else 0.0)
    if name in ("sgd", "adafactor"):
        return 4.0 if zero is not None else 0.0
    return 12.0 if zero is not None else 2.0 * weight_bytes


def _deepspeed(name: str | None) -> tuple[int | None, bool, bool]:
    """The stage, and whether the optimizer's states and the weights lie in the host's memory."""
    if name is None:
        return None, False, False
    if name.startswith("zero"):
        return int(name[4]), name.endswith("offload"), name == "zero3_offload"
    try:
        settings = read_json(Path(name)).get("zero_optimization", {})
        offload = [
            (settings.get(key) or {}).get("device", "none") != "none" for key in ("offload_optimizer", "offload_param")
        ]
        return int(settings.get("stage", 0)), offload[0], offload[1]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        names = ", ".join(DEEPSPEED_NAMES)
        raise MedllmError(f"deepspeed {name} cannot be read ({why}): give a file that is there, or {names}") from error
