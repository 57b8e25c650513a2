from __future__ import annotations

from typing import Any

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.swift import check
from medllm_ops.swift.arguments import check_arguments
from medllm_ops.swift.check import check_recipe, swift_arguments
from medllm_ops.swift.recipe import Recipe, StageRecipe, list_recipes, parse_recipe, read_recipe

pytestmark = pytest.mark.usefixtures("asked_once")


def recipe(stage: dict[str, Any] | None = None, **values: Any) -> Recipe:
    return parse_recipe(
        {"name": "x", "model": "m", "stages": {"sft": {"max_steps": 1, **(stage or {})}}, **values}, "x"
    )


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_that_ships_passes(name: str) -> None:
    assert check_recipe(read_recipe(name)).recipe.name == name


def test_code_of_its_own_is_a_note() -> None:
    notes = "\n".join(check_recipe(read_recipe("qwen_14b_chat_2024")).notes)
    assert "brings Python code of its own: a run needs its folder as model, and remote_code" in notes


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"use_ligr_kernel": True}, r"stages\.sft: .* use_ligr_kernel \(did you mean use_liger_kernel"),
        ({"beta": 0.1}, r"stages\.sft: .* has no argument beta"),
        ({"bf16": "yes"}, r"refuses bf16 'yes': it is of type bool"),
        ({"max_grad_norm": "high"}, r"refuses max_grad_norm 'high': it is of type float"),
        ({"max_grad_norm": True}, r"refuses max_grad_norm True: it is of type float"),
        ({"bnb_4bit_quant_type": "nf5"}, r"refuses bnb_4bit_quant_type 'nf5': it is one of fp4, nf4"),
    ],
)
def test_names_and_values_are_those_of_the_installed_ms_swift(extra: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MedllmError, match=sentence):
        check_recipe(recipe({"extra": extra}))


@pytest.mark.parametrize(
    ("stage", "what"),
    [
        ({"tuner_type": "adalora"}, "tuner_type adalora"),
        ({"extra": {"use_dora": True, "use_rslora": True}}, "use_dora"),
        ({"extra": {"init_weights": "pissa_niter_4"}}, "init_weights pissa_niter_4"),
        ({"extra": {"init_weights": "lora-ga"}}, "init_weights lora-ga"),
    ],
)
def test_what_a_merge_would_fail_for_is_refused_before_the_training(stage: dict[str, Any], what: str) -> None:
    with pytest.raises(MedllmError, match=rf"stages\.sft: {what}: what it trains cannot be merged with proof"):
        check_recipe(recipe(stage))


@pytest.mark.parametrize("stage", [{"tuner_type": "longlora"}, {"extra": {"use_rslora": True, "use_dora": False}}])
def test_what_can_be_merged_passes(stage: dict[str, Any]) -> None:
    assert check_recipe(recipe(stage))


def test_values_that_a_command_line_takes_pass() -> None:
    check_arguments("sft", {"max_grad_norm": 1, "optim": "adamw_torch", "freeze_parameters": ["a", "b"], "bf16": True})
    check_arguments("rlhf", {"beta": 0.1, "loss_type": ["sigmoid"]})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"model_type": "qwen33"}, "knows no model_type qwen33; did you mean qwen3"),
        ({"template": "qwen3_thinkin"}, "knows no template qwen3_thinkin; did you mean qwen3_thinking?"),
    ],
)
def test_a_model_type_and_a_template_are_known_to_ms_swift(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(MedllmError, match=sentence.replace("?", r"\?")):
        check_recipe(recipe(**values))


@pytest.mark.parametrize("values", [{"model": "Qwen/Qwen3-0.6B"}, {"model_type": "qwen3"}])
def test_longlora_is_refused_for_what_is_no_llama(values: dict[str, str]) -> None:
    with pytest.raises(MedllmError, match=r"stages\.sft\.tuner_type longlora is for models of type llama, .* qwen3:"):
        check_recipe(recipe({"tuner_type": "longlora"}, **values))
    assert check_recipe(recipe({"tuner_type": "longlora"}, model_type="llama"))


def test_only_ms_swifts_own_are_held_against_it() -> None:
    found = swift_arguments(StageRecipe(max_steps=1, identity_rows=5, extra={"optim": "x"}))
    assert found["optim"] == "x"
    assert not {"identity_rows", "val_share", "checkpoint", "extra", "max_length"} & set(found)


def test_what_looks_odd_is_a_note() -> None:
    notes = check_recipe(recipe({"tuner_type": "full", "learning_rate": 0.001, "checkpoint": "best"})).notes
    assert notes[0] == "stages.sft: learning_rate 0.001 is high for all weights; 1e-5 is usual"
    assert "one checkpoint to choose from" in notes[1]
    assert "was not read" in check_recipe(recipe({"deepspeed": "/no/such/file.json"})).notes[0]


def test_without_ms_swift_the_rest_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "is_installed", lambda: False)
    assert "were not checked" in check_recipe(recipe({"extra": {"no_such": 1}})).notes[0]
