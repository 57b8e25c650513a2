from __future__ import annotations

from pathlib import Path

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.files import write_json
from medllm_ops.swift.preflight.shape import PUBLISHED, read_shape, shape_of
from medllm_ops.swift.recipe import list_recipes, read_recipe
from medllm_ops.yaml_file import read_yaml

# Billions of weights as the publishers give them.
SIZES = {
    "Qwen-14B-Chat": 14.17,
    "Qwen3-0.6B": 0.596,
    "Qwen3-4B": 4.02,
    "Qwen3-8B": 8.19,
    "Qwen3-14B": 14.77,
    "smollm2-135m-instruct": 0.1345,
}


@pytest.mark.parametrize(("name", "billions"), SIZES.items())
def test_the_published_shapes_have_the_published_number_of_weights(name: str, billions: float) -> None:
    assert shape_of(read_yaml(PUBLISHED)[name]).total / 1e9 == pytest.approx(billions, rel=0.005)


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_that_ships_has_a_shape_before_its_model_is_fetched(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path))
    assert read_shape(read_recipe(name).model).layers > 0


def test_weights_are_those_of_the_real_model(tiny_model: Path) -> None:
    from safetensors import safe_open

    with safe_open(tiny_model / "model.safetensors", "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    biases = sum(sizes[0] for name, sizes in shapes.items() if name.endswith("bias"))
    real = sum(sizes[0] * (sizes[1] if len(sizes) > 1 else 1) for sizes in shapes.values())
    assert read_shape(str(tiny_model)).total == real - biases


def test_names_of_2024_mean_the_same_layers() -> None:
    shape = read_shape("Qwen/Qwen-14B-Chat")
    fused, unknown = shape.targets(["c_attn", "c_proj", "w1", "w2"])
    assert not unknown
    assert {each.name for each in fused} == {each.name for each in shape.linears}
    assert [each.name for each in shape.targets(["c_attn"])[0]] == ["q_proj", "k_proj", "v_proj"]
    assert shape.targets(["nothing"]) == ([], ["nothing"])
    assert shape.adapter(["nothing"], 8) == shape.adapter(["all-linear"], 8)


def test_experts_are_all_kept_and_few_are_used() -> None:
    config = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "intermediate_size": 128}
    shape = shape_of(config | experts)
    assert shape.intermediate == 64
    dense = shape_of(config | {"intermediate_size": 64})
    assert shape.multiplied == dense.multiplied
    assert shape.total > dense.total


def test_what_a_configuration_lacks_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"hidden_size": 8, "vocab_size": 10, "num_attention_heads": 2})
    with pytest.raises(MedllmError, match=r"config\.json does not say num_hidden_layers"):
        read_shape(str(tmp_path))
    with pytest.raises(MedllmError, match="--model"):
        read_shape("Nobody/Unknown-7B")
