"""The settings of one stage of a recipe: every field with its unit, its limits and what it does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from medllm_ops.swift.parameters_2024 import SUCCESSORS
from medllm_ops.swift.recipe_names import (
    ATTENTION_NAMES,
    BITS_OF,
    DEEPSPEED_NAMES,
    FLASH_NAMES,
    MODULE_WORDS,
    OWNED_BY_THE_CHAIN,
    Scalar,
    Scheduler,
    TunerType,
)

# Above any number of steps, rows or tokens that somebody means.
MOST = 10**9


def setting(default: Any, unit: str, description: str, *, ours: bool = False, **limits: Any) -> Any:
    """A field with all that a user may ask about it.

    :param ours: no argument of ms-swift.
    """
    return Field(default, description=description, json_schema_extra={"unit": unit, "ours": ours}, **limits)


class StageRecipe(BaseModel):
    """The settings of one stage, under ms-swift's own names unless said otherwise."""

    # Strict: a text is no number, and neither is true.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tuner_type: TunerType = setting(
        "lora",
        "a name",
        "What is trained: adapters of a kind, or all weights (full). A run merges lora, longlora and full.",
    )
    lora_rank: int = setting(8, "columns", "Rank of the LoRA matrices.", ge=1, le=1024)
    lora_alpha: int = setting(32, "a factor", "LoRA scale times rank.", ge=1, le=4096)
    lora_dropout: float = setting(0.05, "a share", "Share of LoRA inputs dropped in training.", ge=0, lt=1)
    target_modules: list[str] = setting(["all-linear"], "module names", "Module names that get adapters.", min_length=1)
    quant_method: Literal["bnb", "hqq", "eetq", "quanto"] | None = setting(
        None, "a name", "Library that keeps the frozen weights in few bits (QLoRA: bnb); left out: none."
    )
    quant_bits: Literal[1, 2, 3, 4, 8] | None = setting(
        None, "bits", "Bits of a frozen weight; together with quant_method."
    )
    learning_rate: float = setting(1e-4, "change for each unit of gradient", "Peak learning rate.", gt=0, le=0.01)
    lr_scheduler_type: Scheduler = setting("cosine", "a name", "Course of the learning rate, by transformers' name.")
    warmup_ratio: float = setting(0.05, "a share", "Share of the steps in which the rate rises.", ge=0, lt=1)
    weight_decay: float = setting(0.1, "share for each unit of learning rate", "AdamW's weight decay.", ge=0, lt=1)
    num_train_epochs: float | None = setting(None, "passes", "Passes over the rows.", gt=0, le=1000)
    max_steps: int | None = setting(None, "steps", "Optimizer steps; exactly one of steps and epochs.", gt=0, le=MOST)
    per_device_train_batch_size: int = setting(1, "rows", "Rows in a batch of one device.", ge=1, le=4096)
    per_device_eval_batch_size: int = setting(1, "rows", "Likewise; no longer follows the train one.", ge=1, le=4096)
    gradient_accumulation_steps: int = setting(1, "batches", "Batches in one optimizer step.", ge=1, le=4096)
    max_length: int | None = setting(
        None, "tokens", "Most tokens of a row. Left out: the model's maximum. -1 is not unlimited.", gt=0, le=MOST
    )
    eval_steps: int | None = setting(None, "steps", "Steps between evaluations; left out: at the end.", gt=0, le=MOST)
    save_steps: int | None = setting(None, "steps", "Steps between checkpoints; left out: at the end.", gt=0, le=MOST)
    save_total_limit: int | None = setting(
        2,
        "checkpoints",
        "Checkpoints kept: the best and the last survive. With 1, the last is deleted at the end.",
        ge=2,
        le=MOST,
    )
    logging_steps: int = setting(5, "steps", "Steps between log lines.", ge=1, le=MOST)
    seed: int = setting(42, "a number", "Of initialisation, order and dropout.", ge=0, lt=2**32)
    gradient_checkpointing: bool = setting(True, "true or false", "Recompute activations: less memory, more time.")
    packing: bool = setting(False, "true or false", "Fill sequences with several rows; needs flash attention.")
    group_by_length: bool = setting(
        False, "true or false", "Batches of rows of like length: less padding, a less random order."
    )
    attn_impl: str | None = setting(
        None, "a name", "Attention kernel, such as flash_attn, or one of the hub as owner/name; left out: by ms-swift."
    )
    deepspeed: str | None = setting(
        None, "a name or a path", "zero0 to zero3, zero2_offload, zero3_offload, or a file's absolute path."
    )
    gpus: int = setting(
        1,
        "GPUs of one host",
        "Ours: GPUs that train the stage, a process each; a step takes rows of all of them.",
        ge=1,
        le=64,
        ours=True,
    )
    nodes: int = setting(
        1,
        "hosts",
        "Ours: hosts that train the stage together, each with so many GPUs; several need where=kubernetes.",
        ge=1,
        le=64,
        ours=True,
    )
    tokenise_first: bool | None = setting(
        None,
        "true or false",
        "Ours: make the rows ready once, before the ranks of any attempt start; left out: where there are several.",
        ours=True,
    )
    checkpoint: Literal["best", "last"] = setting("last", "a name", "Ours: which checkpoint is merged.", ours=True)
    eval_rows: int = setting(
        0,
        "rows",
        "Ours: validation rows of each set scored on the way, the first ones; 0: all.",
        ge=0,
        le=MOST,
        ours=True,
    )
    val_share: float = setting(
        0.1, "a share", "Ours: share of each set's records for validation.", gt=0, lt=1, ours=True
    )
    identity_rows: int = setting(
        0, "rows", "Ours: self-cognition rows in the mix, over both sides.", ge=0, le=MOST, ours=True
    )
    instruction_rows: int = setting(
        0, "rows", "Ours: instruction rows in the mix, over both sides.", ge=0, le=MOST, ours=True
    )
    instruction_sets: list[str] = setting(
        [],
        "names of sources",
        "Ours: the sets they are drawn from, as many of each, of those that the run has; empty: all of sft, or "
        "of pretrain without it.",
        ours=True,
    )
    halve_batch: bool = setting(
        True,
        "true or false",
        "Ours: out of memory, go on with half the batch and twice the accumulation.",
        ours=True,
    )
    stalled_minutes: float = setting(
        30, "minutes", "Ours: without any progress for so long, a training is ended as hung.", gt=0, le=1440, ours=True
    )
    extra: dict[str, Scalar | list[Scalar]] = setting(
        {}, "names and values", "Any further ms-swift argument, by its name.", ours=True
    )

    @property
    def labelled(self) -> bool:
        """Whether it takes rows that each say how good their answer is, in place of pairs."""
        return False

    @field_validator("max_length", mode="before")
    @classmethod
    def _not_unlimited(cls, value: Any) -> Any:
        if value == -1:
            raise ValueError("-1 meant unlimited in ms-swift 1.x and drops every row today; leave max_length out")
        return value

    @field_validator("target_modules")
    @classmethod
    def _no_words_of_2024(cls, modules: list[str]) -> list[str]:
        for word in modules:
            if word in MODULE_WORDS:
                raise ValueError(f"{word} is a word of ms-swift 1.x: {MODULE_WORDS[word]}")
        return modules

    @field_validator("deepspeed")
    @classmethod
    def _name_or_file(cls, value: str | None) -> str | None:
        if value is not None and value not in DEEPSPEED_NAMES and not Path(value).is_absolute():
            raise ValueError(f"give one of {', '.join(DEEPSPEED_NAMES)}, or the absolute path of a configuration")
        return value

    @field_validator("attn_impl")
    @classmethod
    def _known_attention(cls, value: str | None) -> str | None:
        if value is not None and value not in ATTENTION_NAMES and "/" not in value:
            raise ValueError(f"{value!r} is none of {', '.join(ATTENTION_NAMES)}, nor a kernel of the hub (owner/name)")
        return value

    @field_validator("extra")
    @classmethod
    def _known_traps(cls, extra: dict[str, Scalar | list[Scalar]]) -> dict[str, Scalar | list[Scalar]]:
        for name, value in extra.items():
            if value == []:
                raise ValueError(f"{name} has no value: leave it out")
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, float) and not math.isfinite(one):
                    raise ValueError(f"{name} is {one}: give a finite number")
        if isinstance(extra.get("freeze_parameters"), int | float):
            raise ValueError(f"freeze_parameters: {SUCCESSORS['freeze_parameters']}")
        if extra.get("lora_dtype", "float32") not in ("float16", "bfloat16", "float32"):
            raise ValueError(f"lora_dtype: {SUCCESSORS['lora_dtype']}")
        if extra.get("fp16") and extra.get("bf16"):
            raise ValueError("fp16 and bf16 cannot both be true: leave one of them out, or both (torch_dtype decides)")
        if extra.get("fsdp"):
            raise ValueError("checkpoints of fsdp are neither resumed from nor merged here: give deepspeed zero3")
        return extra

    @property
    def ranks(self) -> int:
        """Processes that train together, over all hosts."""
        return self.gpus * self.nodes

    @property
    def rows_a_step(self) -> int:
        """Rows of one optimizer step, over all GPUs."""
        return self.ranks * self.per_device_train_batch_size * self.gradient_accumulation_steps

    @model_validator(mode="after")
    def _agree(self) -> StageRecipe:
        if (self.max_steps is None) == (self.num_train_epochs is None):
            raise ValueError("give exactly one of max_steps and num_train_epochs")
        if typed := sorted(set(self.extra) & set(type(self).model_fields)):
            raise ValueError(f"extra may not repeat {', '.join(typed)}: it is a field of its own")
        if owned := sorted(set(self.extra) & OWNED_BY_THE_CHAIN):
            raise ValueError(f"extra may not set {', '.join(owned)}: the chain decides it")
        if self.checkpoint == "best" and self.eval_steps != self.save_steps:
            raise ValueError("checkpoint best needs eval_steps equal to save_steps: only a scored one can be the best")
        if (self.packing or self.extra.get("padding_free")) and self.attn_impl not in FLASH_NAMES:
            raise ValueError("packing and padding_free need attn_impl flash_attn: without it rows would see each other")
        if (self.quant_method is None) != (self.quant_bits is None):
            raise ValueError("give quant_method and quant_bits together, or neither of them")
        if self.quant_method and self.quant_bits not in BITS_OF[self.quant_method]:
            bits = ", ".join(map(str, BITS_OF[self.quant_method]))
            raise ValueError(f"quant_method {self.quant_method} packs weights in {bits} bits, not in {self.quant_bits}")
        if self.quant_method and self.tuner_type == "full":
            raise ValueError("weights of few bits cannot be trained themselves: tuner_type full needs no quant_method")
        if self.packing and self.group_by_length:
            raise ValueError("packing leaves no rows to sort by length: give packing or group_by_length")
        return self
