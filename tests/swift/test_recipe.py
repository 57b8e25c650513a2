from pathlib import Path

import pytest
import yaml

from medllm_ops.errors import MedllmError
from medllm_ops.swift.parameters_2024 import SUCCESSORS
from medllm_ops.swift.recipe import StageRecipe, list_recipes, load_recipe, override


def write(folder: Path, **stage: object) -> str:
    values = {"name": "x", "model": "m", "stages": {"sft": {"max_steps": 3, **stage}}}
    path = folder / "x.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(path)


def refusal(folder: Path, **stage: object) -> str:
    with pytest.raises(MedllmError) as caught:
        load_recipe(write(folder, **stage))
    return str(caught.value)


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_that_ships_is_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert set(recipe.stages) == {"pretrain", "sft", "self_cognition"}
    assert recipe.stages["self_cognition"].identity_rows > 0


def test_the_2024_recipe_holds_5_percent_of_pretraining_back() -> None:
    stages = load_recipe("qwen_14b_chat_2024").stages
    assert stages["pretrain"].val_share == 0.05
    assert stages["sft"].val_share == 0.1
    assert (stages["self_cognition"].identity_rows, stages["self_cognition"].instruction_rows) == (1000, 1000)


def test_a_typing_error_is_answered_with_the_right_name(tmp_path: Path) -> None:
    assert "did you mean learning_rate?" in refusal(tmp_path, lerning_rate=1e-4)


@pytest.mark.parametrize("name", sorted(set(SUCCESSORS) - set(StageRecipe.model_fields)))
def test_a_name_of_2024_is_answered_with_todays(tmp_path: Path, name: str) -> None:
    assert f"{name} is a name of ms-swift 1.x: {SUCCESSORS[name]}" in refusal(tmp_path, **{name: "x"})


def test_max_length_minus_one_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert "drops every row" in refusal(tmp_path, max_length=-1)


def test_steps_and_epochs_exclude_each_other(tmp_path: Path) -> None:
    assert "exactly one" in refusal(tmp_path, num_train_epochs=1)
    assert "exactly one" in refusal(tmp_path, max_steps=None)


def test_a_key_without_a_value_is_a_key_left_out(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, max_length=None, attn_impl=None)).stages["sft"].attn_impl is None


def test_extra_may_not_take_what_the_chain_decides(tmp_path: Path) -> None:
    assert "output_dir: the chain decides it" in refusal(tmp_path, extra={"output_dir": "/x"})
    assert "a field of its own" in refusal(tmp_path, extra={"learning_rate": 1})


def test_the_best_checkpoint_needs_a_score_at_each(tmp_path: Path) -> None:
    assert "eval_steps equal to save_steps" in refusal(tmp_path, checkpoint="best", eval_steps=2, save_steps=3)


def test_a_text_is_no_number(tmp_path: Path) -> None:
    assert "lora_rank" in refusal(tmp_path, lora_rank="many")


def test_a_missing_recipe_is_answered_with_those_there_are() -> None:
    with pytest.raises(MedllmError, match="one of demo, qwen3"):
        load_recipe("nonesuch")


def test_what_is_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: [", encoding="utf-8")
    with pytest.raises(MedllmError, match="is not YAML"):
        load_recipe(str(path))
    path.write_text("- a", encoding="utf-8")
    with pytest.raises(MedllmError, match="is not a mapping"):
        load_recipe(str(path))


def test_steps_replace_epochs_and_epochs_steps() -> None:
    recipe = load_recipe("qwen3")
    assert override(recipe, "sft", max_steps=5).stages["sft"].num_train_epochs is None
    recipe = load_recipe("demo")
    changed = override(recipe, "sft", num_train_epochs=2.0).stages
    assert (changed["sft"].max_steps, changed["sft"].num_train_epochs) == (None, 2.0)
    assert changed["pretrain"] == recipe.stages["pretrain"]
    with pytest.raises(MedllmError, match="learning_rate"):
        override(recipe, "sft", learning_rate=5.0)
