from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm_ops.compute.gpus import Slot
from medllm_ops.errors import MedllmError
from medllm_ops.swift.preflight.cards import card_of, cards, find_card
from medllm_ops.swift.preflight.disk import disk
from medllm_ops.swift.preflight.estimate import START_SECONDS, Target, estimate
from medllm_ops.swift.preflight.rows import Rows
from medllm_ops.swift.preflight.setup import setup_of
from medllm_ops.swift.preflight.shape import read_shape
from medllm_ops.swift.preflight.work import forward, training
from medllm_ops.swift.recipe import StageRecipe

SHAPE = read_shape("Qwen/Qwen3-4B")
A100 = Target(find_card("A100-80GB"), 1, 80.0)
ROWS = Rows(np.full(1000, 500, np.int64), 10, 5000, 512)


def _stage(**values: object) -> StageRecipe:
    return StageRecipe.model_validate({"num_train_epochs": 1, "gradient_checkpointing": False, **values})


def test_six_operations_for_each_weight_and_token_and_eight_with_recomputation() -> None:
    full = setup_of(_stage(tuner_type="full"), "bfloat16", SHAPE, "cuda")
    weights = SHAPE.multiplied
    assert training(SHAPE, full, 0) == pytest.approx(6 * weights)
    layers = SHAPE.layers * SHAPE.layer_weights
    assert training(SHAPE, replace(full, checkpointing=True), 0) == pytest.approx(6 * weights + 2 * layers)
    # PaLM, arXiv:2204.02311, appendix B: 12·L·H·Q·T more.
    attention = 12 * SHAPE.layers * SHAPE.heads * SHAPE.head_dim * 2048
    assert training(SHAPE, full, 2048) == pytest.approx(6 * weights + attention)
    lora = setup_of(_stage(), "bfloat16", SHAPE, "cuda")
    assert training(SHAPE, lora, 0) == pytest.approx(4 * weights + 6 * lora.trained)
    assert forward(SHAPE, 0) == 2 * weights


def test_hours_are_operations_over_the_cards_rate() -> None:
    found = estimate("sft", _stage(max_length=512), "bfloat16", SHAPE, A100, ROWS)
    assert found.steps == 1000
    assert found.tokens == found.computed_tokens == 500_000
    assert found.work is not None
    assert found.seconds == pytest.approx(START_SECONDS + found.work.total / (312e12 * 0.30))
    twice = estimate("sft", _stage(max_length=512), "bfloat16", SHAPE, replace(A100, gpus=2), ROWS)
    assert twice.seconds == pytest.approx(START_SECONDS + (found.seconds - START_SECONDS) / 2)
    assert twice.steps == 500
    assert estimate("sft", _stage(), "bfloat16", SHAPE, Target(None, 1, 24.0), ROWS).hours is None
    # Two processes of one processor are no faster than one.
    one, two = (estimate("sft", _stage(), "float32", SHAPE, Target(None, count, 24.0, 1e10), ROWS) for count in (1, 2))
    assert one.seconds == pytest.approx(two.seconds)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 512), min_size=1, max_size=60), st.integers(1, 8), st.integers(1, 3), st.integers(1, 64))
def test_nothing_is_negative_and_epochs_take_time(lengths: list[int], batch: int, epochs: int, rank: int) -> None:
    rows = Rows(np.array(lengths, np.int64), 1, 10, 512)
    one = _stage(num_train_epochs=float(epochs), per_device_train_batch_size=batch, lora_rank=rank, max_length=512)
    more = _stage(num_train_epochs=epochs + 1.0, per_device_train_batch_size=batch, lora_rank=rank + 1, max_length=512)
    now, then = (estimate("sft", each, "bfloat16", SHAPE, A100, rows) for each in (one, more))
    assert now.seconds is not None
    assert then.seconds is not None
    assert 0 < now.seconds < then.seconds
    assert now.disk is not None
    assert then.disk is not None
    assert 0 < now.disk.total <= then.disk.total
    assert now.computed_tokens >= now.tokens * epochs
    assert now.to_row()["validated"] == "not validated on a GPU"


def test_a_checkpoint_is_whole_before_an_old_one_goes() -> None:
    stage = _stage(tuner_type="full", save_steps=10, save_total_limit=2, deepspeed="zero3")
    setup = setup_of(stage, "bfloat16", SHAPE, "cuda")
    found = disk(SHAPE, setup, stage, 100, 0)
    assert found.kept == 3
    # Two bytes of weights, and twelve of DeepSpeed's state.
    assert found.checkpoint == pytest.approx(14 * SHAPE.total, rel=0.01)
    assert found.merged == pytest.approx(2 * SHAPE.total, rel=0.01)
    assert disk(SHAPE, setup, stage, 15, 0).kept == 2
    assert disk(SHAPE, setup, stage.model_copy(update={"save_steps": None}), 100, 0).kept == 1
    assert disk(SHAPE, setup, stage.model_copy(update={"save_total_limit": None}), 100, 0).kept == 10


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100-40GB"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIE"),
        ("NVIDIA L40S", "L40S"),
    ],
)
def test_the_drivers_names_are_known(model: str, name: str) -> None:
    card = card_of(Slot("gpu-0", "uuid", model, 20_480, 0))
    assert card is not None
    assert (card.name, card.memory) == (name, 20.0)


def test_an_unknown_card_has_memory_and_no_rate() -> None:
    card = card_of(Slot("gpu-0", "uuid", "Some New GPU", 10_240, 0))
    assert card is not None
    assert (card.memory, card.half) == (10.0, 0.0)
    assert card_of(Slot("slot-0")) is None
    assert find_card("nvidia a100 80gb").name == "A100-80GB"
    with pytest.raises(MedllmError, match="did you mean RTX-4090"):
        find_card("RTX-4091")
    assert all(card.source and card.memory > 0 and card.half > card.single > 0 for card in cards().values())
