from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm_ops.swift.preflight import memory as model
from medllm_ops.swift.preflight.memory import Memory, memory
from medllm_ops.swift.preflight.setup import Setup, setup_of
from medllm_ops.swift.preflight.shape import ModelShape, read_shape, shape_of
from medllm_ops.swift.recipe import StageRecipe

SHAPES = [read_shape(f"Qwen/{name}") for name in ("Qwen3-0.6B", "Qwen3-14B", "Qwen-14B-Chat")]


@st.composite
def cases(draw: st.DrawFn) -> tuple[ModelShape, StageRecipe, dict[str, Any], int]:
    """A shape, a stage, where it runs, and a length."""
    full = draw(st.booleans())
    cuda = draw(st.booleans())
    values: dict[str, Any] = {
        "max_steps": 10,
        "tuner_type": "full" if full else "lora",
        "lora_rank": draw(st.integers(1, 128)),
        "lora_dropout": draw(st.sampled_from([0.0, 0.05])),
        "per_device_train_batch_size": draw(st.integers(1, 32)),
        "per_device_eval_batch_size": draw(st.integers(1, 8)),
        "gradient_accumulation_steps": draw(st.sampled_from([1, 2, 16])),
        "gradient_checkpointing": draw(st.booleans()),
        "attn_impl": draw(st.sampled_from([None, "eager", "flash_attn"])),
        "deepspeed": draw(st.sampled_from([None, "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload"])),
    }
    if not full and draw(st.booleans()):
        values |= {"quant_method": "bnb", "quant_bits": draw(st.sampled_from([4, 8]))}
    extra: dict[str, Any] = {"use_liger_kernel": True} if draw(st.booleans()) else {}
    where = {
        "dtype": draw(st.sampled_from(["float32", "bfloat16", None])),
        "device": "cuda" if cuda else "cpu",
        "gpus": draw(st.sampled_from([1, 2, 8])) if cuda else 1,
    }
    stage = StageRecipe.model_validate(values | {"extra": extra})
    return draw(st.sampled_from(SHAPES)), stage, where, draw(st.integers(1, 16_384))


def _of(stage: StageRecipe, shape: ModelShape, where: dict[str, Any], length: int, **changes: Any) -> Memory:
    setup = setup_of(stage.model_copy(update=changes), where["dtype"], shape, where["device"], where["gpus"])
    return memory(shape, setup, length)


@settings(max_examples=200)
@given(cases(), st.integers(1, 4096))
def test_nothing_is_negative_and_more_needs_more(
    case: tuple[ModelShape, StageRecipe, dict[str, Any], int], more: int
) -> None:
    shape, stage, where, length = case
    now = _of(stage, shape, where, length)
    assert all(value >= 0 for value in asdict(now).values())
    batch = stage.per_device_train_batch_size
    assert _of(stage, shape, where, length, per_device_train_batch_size=batch + more).total > now.total * 0.999999
    assert _of(stage, shape, where, length + more).total > now.total * 0.999999
    assert _of(stage, shape, where, length, lora_rank=stage.lora_rank + more).total >= now.total * 0.999999


@settings(max_examples=100)
@given(cases())
def test_what_saves_memory_saves_it(case: tuple[ModelShape, StageRecipe, dict[str, Any], int]) -> None:
    shape, stage, where, length = case
    kept = _of(stage, shape, where, length, gradient_checkpointing=False).activations
    assert _of(stage, shape, where, length, gradient_checkpointing=True).activations < kept
    if where["device"] == "cuda" and not stage.quant_method:
        states = [_of(stage, shape, where, length, deepspeed=f"zero{number}") for number in (0, 1, 2, 3)]
        model_states = [each.weights + each.gradients + each.optimizer for each in states]
        assert model_states == sorted(model_states, reverse=True)
        offloaded = _of(stage, shape, where, length, deepspeed="zero2_offload")
        assert offloaded.optimizer == 0
        assert offloaded.host > 0


@pytest.mark.parametrize(
    ("stage", "shared", "whole"), [("zero0", 0, 16), ("zero1", 12, 4), ("zero2", 14, 2), ("zero3", 16, 0)]
)
def test_each_stage_of_zero_shares_out_what_its_paper_says(stage: str, shared: int, whole: int) -> None:
    """ZeRO, arXiv:1910.02054, figure 1: of 16 bytes a weight, 12, 14 and 16 are divided by the devices."""
    shape = read_shape("Qwen/Qwen3-4B")
    recipe = StageRecipe(max_steps=1, tuner_type="full", gradient_accumulation_steps=2, deepspeed=stage)
    need = memory(shape, setup_of(recipe, "bfloat16", shape, "cuda", 64), 128)
    assert need.weights + need.gradients + need.optimizer == pytest.approx((whole + shared / 64) * shape.total)


def test_four_bits_are_four_and_a_bit() -> None:
    shape = read_shape("Qwen/Qwen3-14B")
    stage = StageRecipe(max_steps=1, quant_method="bnb", quant_bits=4, lora_rank=1)
    need = memory(shape, setup_of(stage, "bfloat16", shape, "cuda"), 128)
    embeddings = shape.total - shape.quantisable
    assert need.weights == pytest.approx(shape.quantisable * 4.127 / 8 + 2 * embeddings, rel=0.01)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_loss_takes_as_many_bytes_as_a_process_grows_by(dtype: str) -> None:
    command = [sys.executable, str(Path(__file__).with_name("loss_memory.py")), dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    there, back = map(float, done.stdout.split())
    shape = read_shape("tiny-random-qwen2")
    setup = setup_of(StageRecipe(max_steps=1), dtype, shape, "cpu")
    assert model._logits(shape, setup, 100) == pytest.approx(100 * shape.vocabulary * back, rel=0.1)
    assert model._evaluated_bytes(setup) == pytest.approx(there, rel=0.1)


MEASURED = [
    ("qwen2", "full", "float32", "sdpa", 0.0, False),
    ("qwen2", "lora", "float32", "sdpa", 0.0, False),
    ("qwen2", "lora", "float32", "sdpa", 0.05, False),
    ("qwen3", "full", "bfloat16", "sdpa", 0.0, False),
    ("qwen3", "lora", "bfloat16", "sdpa", 0.05, True),
    ("qwen3", "full", "float32", "eager", 0.0, False),
    ("qwen3", "full", "float32", "sdpa", 0.0, True),
]


@pytest.mark.parametrize(("kind", "tuner", "dtype", "attention", "dropout", "autocast"), MEASURED)
def test_activations_are_what_autograd_keeps(
    kind: str, tuner: str, dtype: str, attention: str, dropout: float, autocast: bool
) -> None:
    """Within 10 % of the bytes of all tensors that autograd of the real model keeps, weights left out."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config

    torch.manual_seed(0)
    sizes = {"vocab_size": 500, "hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": False}
    config: Any = {"qwen2": Qwen2Config, "qwen3": Qwen3Config}[kind](**sizes, **heads)
    config._attn_implementation = attention
    network = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    if tuner == "lora":
        network = get_peft_model(network, LoraConfig(r=8, lora_dropout=dropout, target_modules="all-linear"))
        network.enable_input_require_grads()
    network.train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, tuple[int, Any]] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            # The tensor is held, so that its place is not taken by another one.
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    ids = torch.randint(0, 500, (2, 192))
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        network(input_ids=ids, attention_mask=mask, labels=ids)
    # Of the loss, autograd keeps the result of log-softmax; under autocast also weights that were cast.
    casts = sum(size for size, tensor in kept.values() if tensor.ndim == 2 and tensor.shape[0] not in (384,))
    measured = sum(size for size, _ in kept.values()) - 2 * 192 * 500 * 4 - (casts if autocast else 0)
    stage = StageRecipe(
        max_steps=1,
        tuner_type="full" if tuner == "full" else "lora",
        lora_dropout=dropout,
        gradient_checkpointing=False,
        per_device_train_batch_size=2,
        attn_impl=attention,
    )
    shape = shape_of(config.to_dict())
    setup: Setup = setup_of(stage, dtype, shape, "cpu")
    setup = replace(setup, arithmetic_bytes=2) if autocast else setup
    assert model._activations(shape, setup, 192) * 2 * 192 == pytest.approx(measured, rel=0.10)
