from pathlib import Path

import pytest
import yaml

from medllm_ops.errors import MedllmError
from medllm_ops.swift.parameters_2024 import SUCCESSORS
from medllm_ops.swift.recipe import StageRecipe, list_recipes, load_recipe, override, read_recipe


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
    recipe = read_recipe(name)
    assert recipe.name == name
    assert list(recipe.stages)[:3] == ["pretrain", "sft", "self_cognition"]
    assert recipe.stages["self_cognition"].identity_rows > 0


def test_the_2024_recipe_holds_5_percent_of_pretraining_back() -> None:
    stages = load_recipe("qwen_14b_chat_2024").stages
    assert stages["pretrain"].val_share == 0.05
    assert stages["sft"].val_share == 0.1
    assert (stages["self_cognition"].identity_rows, stages["self_cognition"].instruction_rows) == (1000, 1000)


def test_the_2024_recipe_says_what_1x_did_where_nothing_was_said() -> None:
    stages = load_recipe("qwen_14b_chat_2024").stages
    for stage in stages.values():
        assert (stage.lr_scheduler_type, stage.weight_decay) == ("linear", 0.01)
        assert stage.per_device_train_batch_size * stage.gradient_accumulation_steps == 16
        assert stage.extra == {"adam_beta2": 0.999, "max_grad_norm": 0.5, "lora_dtype": "float32"}
    assert (stages["sft"].max_length, stages["sft"].target_modules) == (None, ["c_attn"])
    assert [stage.save_total_limit for stage in stages.values()] == [2, 3, 2]


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
    # Each would empty, repeat, mix or skip rows behind the counts, or end a run before its last step.
    rows = ("truncation_strategy", "interleave_prob", "streaming", "lazy_tokenize", "strict")
    for name in (*rows, "max_epochs", "early_stop_interval", "load_best_model_at_end"):
        assert f"{name}: the chain decides it" in refusal(tmp_path, extra={name: 1})


def test_the_best_checkpoint_needs_a_score_at_each(tmp_path: Path) -> None:
    assert "eval_steps equal to save_steps" in refusal(tmp_path, checkpoint="best", eval_steps=2, save_steps=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("lora_rank", "8"), ("max_steps", True), ("max_length", 512.5), ("packing", "yes"), ("learning_rate", "high")],
)
def test_a_text_is_no_number_and_neither_is_true(tmp_path: Path, name: str, value: object) -> None:
    assert f"stages.sft.{name}: Input should be a valid" in refusal(tmp_path, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", float("nan")),
        ("num_train_epochs", float("inf")),
        ("seed", 2**32),
        ("lora_dropout", 1.0),
        ("max_length", 10**20),
    ],
)
def test_a_number_out_of_its_limits_is_refused(tmp_path: Path, name: str, value: object) -> None:
    text = refusal(tmp_path, **{name: value})
    assert f"stages.sft.{name}: Input should be less than" in text
    assert str(StageRecipe.model_fields[name].description) in text


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.e-4", "+1e-4", "0.0001"])
def test_a_number_may_be_written_as_people_write_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"{{name: x, model: m, stages: {{sft: {{max_steps: 3, learning_rate: {text}}}}}}}")
    assert load_recipe(str(path)).stages["sft"].learning_rate == 1e-4


def test_a_key_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nmodel: m\nstages:\n  sft:\n    max_steps: 3\n    max_steps: 4\n")
    with pytest.raises(MedllmError, match="the key max_steps stands there twice"):
        load_recipe(str(path))


def test_what_a_stage_takes_over_from_another_is_not_twice(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    stages = "pretrain: &a {max_steps: 3}\n  sft: &b {<<: *a, max_steps: 4}\n  self_cognition: {<<: *b, max_steps: 5}"
    path.write_text(f"name: x\nmodel: m\nstages:\n  {stages}\n")
    assert [stage.max_steps for stage in load_recipe(str(path)).stages.values()] == [3, 4, 5]


def test_the_last_checkpoint_must_survive(tmp_path: Path) -> None:
    assert "the last is deleted at the end" in refusal(tmp_path, save_total_limit=1)


@pytest.mark.parametrize("word", ["ALL", "DEFAULT", "AUTO", "EMBEDDING"])
def test_a_word_for_modules_of_2024_is_refused(tmp_path: Path, word: str) -> None:
    assert f"{word} is a word of ms-swift 1.x" in refusal(tmp_path, target_modules=["q_proj", word])


def test_a_deepspeed_configuration_is_a_name_or_an_absolute_path(tmp_path: Path) -> None:
    for value in ("default-zero2", "ds_config/zero2.json"):
        assert "give one of zero0" in refusal(tmp_path, deepspeed=value)
    for value in ("zero3_offload", "/etc/zero2.json"):
        assert load_recipe(write(tmp_path, deepspeed=value)).stages["sft"].deepspeed == value


def test_packing_needs_an_attention_that_keeps_rows_apart(tmp_path: Path) -> None:
    assert "attn_impl flash_attn" in refusal(tmp_path, packing=True)
    assert "attn_impl flash_attn" in refusal(tmp_path, attn_impl="sdpa", extra={"padding_free": True})
    assert load_recipe(write(tmp_path, packing=True, attn_impl="flash_attn")).stages["sft"].packing


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"freeze_parameters": 0.5}, "the old name takes prefixes and trains everything"),
        ({"lora_dtype": "fp32"}, "with float16, bfloat16 or float32"),
        ({"lora_dtype": "AUTO"}, "leave it out"),
        ({"callbacks": []}, "callbacks has no value"),
        ({"lr_scheduler_kwargs": {"min_lr": 1e-6}}, "stages.sft.extra.lr_scheduler_kwargs must be a text, a number"),
    ],
)
def test_a_value_that_ms_swift_takes_wrongly_is_refused(tmp_path: Path, extra: object, sentence: str) -> None:
    assert refusal(tmp_path, extra=extra).count(sentence) == 1


def test_a_module_prefix_may_be_frozen(tmp_path: Path) -> None:
    extra = {"freeze_parameters": ["model.layers.0"]}
    assert load_recipe(write(tmp_path, extra=extra)).stages["sft"].extra == extra


def test_a_missing_recipe_is_answered_with_those_there_are() -> None:
    with pytest.raises(MedllmError, match="one of demo, dpo, from_scratch, full, qlora, qwen3"):
        load_recipe("nonesuch")


def test_what_is_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: [", encoding="utf-8")
    with pytest.raises(MedllmError, match="is not YAML"):
        load_recipe(str(path))
    for text in ("a: 2024-13-45", f"a: {'9' * 5000}", "[" * 3000, "? [a]\n: 1"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(MedllmError, match="is not YAML"):
            load_recipe(str(path))
    path.write_text("name: &a {b: *a}", encoding="utf-8")
    with pytest.raises(MedllmError, match="holds itself"):
        load_recipe(str(path))
    path.write_text("- a", encoding="utf-8")
    with pytest.raises(MedllmError, match="is not a mapping"):
        load_recipe(str(path))
    path.write_text("name: x\nmodel: m\n", encoding="utf-8")
    with pytest.raises(MedllmError, match="stages is missing: The stages by name"):
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
    with pytest.raises(MedllmError, match="has no stage dpo: it has pretrain, sft, self_cognition"):
        override(recipe, "dpo", learning_rate=1e-4)
