from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm_ops.swift.preflight.cards import Card
from medllm_ops.swift.preflight.estimate import Target, estimate
from medllm_ops.swift.preflight.remedies import HEADROOM, SHORTEST, Remedy, remedies, smallest
from medllm_ops.swift.preflight.shape import read_shape
from medllm_ops.swift.recipe import StageRecipe

SHAPES = [read_shape(f"Qwen/{name}") for name in ("Qwen3-0.6B", "Qwen3-4B", "Qwen3-14B", "Qwen-14B-Chat")]


def _applied(stage: StageRecipe, remedy: Remedy) -> StageRecipe:
    """The stage as a user would write it down: every changed field is one of a recipe."""
    values = stage.model_dump(mode="json", exclude_none=True)
    for name, value in remedy.changes.items():
        if name.startswith("extra."):
            values["extra"] = {**values["extra"], name.removeprefix("extra."): value}
        else:
            values[name] = value
    return StageRecipe.model_validate(values)


@settings(max_examples=60)
@given(
    st.sampled_from(SHAPES),
    st.sampled_from([1, 2, 6, 8, 32]),
    st.integers(256, 8192),
    st.sampled_from(["lora", "full"]),
    st.booleans(),
    st.sampled_from([1, 4]),
    st.floats(4, 200),
)
def test_every_remedy_is_a_recipe_and_fits(
    shape: Any, batch: int, length: int, tuner: str, checkpointing: bool, gpus: int, available: float
) -> None:
    stage = StageRecipe(
        max_steps=10,
        tuner_type="full" if tuner == "full" else "lora",
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=batch,
        gradient_accumulation_steps=2,
        max_length=length,
        gradient_checkpointing=checkpointing,
    )
    target = Target(Card("GPU", available), gpus, available)
    one = partial(estimate, "sft", dtype="bfloat16", shape=shape, target=target)
    found = remedies(stage, one, available)
    for remedy in found:
        changed = _applied(stage, remedy)
        assert one(changed).memory.gibibytes == pytest.approx(remedy.gibibytes)
        assert remedy.gibibytes <= available * (1 - HEADROOM)
        rows = changed.per_device_train_batch_size * changed.gradient_accumulation_steps
        assert rows == batch * 2
    assert [remedy.cost for remedy in found] == sorted(remedy.cost for remedy in found)
    if not found:
        # Nothing was overlooked: even the least that it can be made to need, with short rows, leaves no room.
        least = smallest(stage.model_copy(update={"max_length": SHORTEST}), one)
        assert least > available * (1 - HEADROOM)


def test_the_recipe_of_2024_on_a_card_of_24() -> None:
    shape = read_shape("Qwen/Qwen-14B-Chat")
    stage = StageRecipe(
        num_train_epochs=5,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        gradient_accumulation_steps=2,
        max_length=5000,
    )
    one = partial(estimate, "pretrain", dtype="bfloat16", shape=shape, target=Target(Card("GPU", 24), 1, 24))
    assert one(stage).memory.gibibytes > 100
    first = remedies(stage, one, 24)[0]
    assert first.changes["per_device_train_batch_size"] == 1
    assert first.changes["gradient_accumulation_steps"] == 16
    assert first.changes["quant_bits"] == 4
    assert "per_device_train_batch_size 1" in str(first)
    # Liger has no kernels for the code that comes with this model; ms-swift would only say so in its log.
    assert one(stage.model_copy(update={"extra": {"use_liger_kernel": True}})).memory == one(stage).memory
    assert "liger" not in str(remedies(stage, one, 80))


def test_recomputation_is_offered_on_a_processor_and_no_kernel_of_a_gpu() -> None:
    shape = read_shape("smollm2-135m-instruct")
    stage = StageRecipe(max_steps=1, gradient_checkpointing=False, per_device_train_batch_size=8, max_length=2048)
    one = partial(estimate, "sft", dtype="float32", shape=shape, target=Target(None, 1, 8.0))
    found = remedies(stage, one, 8.0)
    assert found
    assert not any({"attn_impl", "quant_method", "extra.use_liger_kernel"} & set(each.changes) for each in found)


@pytest.mark.parametrize("available", [16, 24, 40, 80])
def test_no_remedy_has_a_change_that_gains_nothing(available: int) -> None:
    shape = read_shape("Qwen/Qwen-14B-Chat")
    sizes = {"per_device_train_batch_size": 8, "per_device_eval_batch_size": 8}
    stage = StageRecipe(max_steps=1, max_length=5000, gradient_checkpointing=False, **sizes)
    one = partial(estimate, "sft", dtype="bfloat16", shape=shape, target=Target(Card("GPU", available), 1, available))
    found = remedies(stage, one, available)
    assert found
    for remedy in found:
        for name in set(remedy.changes) - {*sizes, "gradient_accumulation_steps", "quant_bits", "max_length"}:
            left = {key: value for key, value in remedy.changes.items() if key != name}
            if name == "quant_method":
                left.pop("quant_bits")
            assert one(_applied(stage, Remedy(left, 0, 0))).memory.gibibytes > available * (1 - HEADROOM)


def test_rows_are_shortened_only_where_nothing_else_helps() -> None:
    shape = read_shape("Qwen/Qwen3-14B")
    stage = StageRecipe(max_steps=1, max_length=32_768, quant_method="bnb", quant_bits=4)
    one = partial(estimate, "sft", dtype="bfloat16", shape=shape, target=Target(Card("GPU", 18), 1, 18))
    (only,) = remedies(stage, one, 18)
    assert 128 <= only.changes["max_length"] < 32_768
    longer = _applied(stage, only).model_copy(update={"max_length": only.changes["max_length"] + 1})
    assert one(longer).memory.gibibytes > 18 * (1 - HEADROOM)
