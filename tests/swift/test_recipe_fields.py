from pathlib import Path

import pytest
import yaml

from medllm_ops.errors import MedllmError
from medllm_ops.models.resolve import code_hash
from medllm_ops.swift.command import _stage_arguments
from medllm_ops.swift.recipe import (
    PreferenceRecipe,
    Recipe,
    is_ours,
    load_recipe,
    parse_recipe,
    read_recipe,
)


def write_recipe(folder: Path, **values: object) -> str:
    path = folder / "x.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "model": "m", **values}), encoding="utf-8")
    return str(path)


def refused(folder: Path, **values: object) -> str:
    with pytest.raises(MedllmError) as caught:
        read_recipe(write_recipe(folder, **values))
    return str(caught.value)


def refused_stage(folder: Path, **stage: object) -> str:
    return refused(folder, stages={"sft": {"max_steps": 1, **stage}})


def test_every_field_has_a_unit_and_a_description() -> None:
    for name, field in PreferenceRecipe.model_fields.items():
        assert isinstance(field.json_schema_extra, dict), name
        assert field.json_schema_extra["unit"], name
        assert str(field.description).endswith("."), name
    for name, field in Recipe.model_fields.items():
        assert str(field.description).endswith("."), name


def test_the_fields_that_are_ours_never_reach_a_command() -> None:
    stage = PreferenceRecipe(max_steps=1, preference_sets=["a"], instruction_sets=["b"], tokenise_first=True)
    ours = {name for name in PreferenceRecipe.model_fields if is_ours(name)}
    assert {"val_share", "gpus", "nodes", "extra", "tokenise_first", "preference_sets"} <= ours
    own = {name for name in PreferenceRecipe.model_fields if name not in ours}
    assert set(_stage_arguments(stage)) <= own
    assert {"max_steps", "learning_rate", "rlhf_type", "beta", "lora_rank"} <= set(_stage_arguments(stage))


def test_an_unknown_stage_is_answered_with_the_right_name(tmp_path: Path) -> None:
    assert "stages.pretraining is unknown; did you mean pretrain?" in refused(tmp_path, stages={"pretraining": {}})
    told = refused(tmp_path, stages={"zzz": {}})
    assert "there are pretrain, sft, self_cognition, dpo" in told
    assert "give at least one stage" in refused(tmp_path, stages={})
    assert "modle is unknown; did you mean model?" in refused(tmp_path, modle="m", stages={"sft": {"max_steps": 1}})


def test_quantised_weights_are_frozen_ones(tmp_path: Path) -> None:
    assert "quant_method and quant_bits together" in refused_stage(tmp_path, quant_bits=4)
    assert "cannot be trained themselves" in refused_stage(
        tmp_path, quant_bits=4, quant_method="bnb", tuner_type="full"
    )
    assert "Input should be 1, 2, 3, 4 or 8" in refused_stage(tmp_path, quant_bits=5, quant_method="bnb")
    told = refused_stage(tmp_path, quant_bits=3, quant_method="bnb")
    assert "quant_method bnb packs weights in 4, 8 bits, not in 3" in told


def test_an_attention_is_one_that_ms_swift_knows(tmp_path: Path) -> None:
    assert "attn_impl: 'flash_atn' is none of eager, sdpa," in refused_stage(tmp_path, attn_impl="flash_atn")
    # A kernel of the hub may keep rows apart, but ms-swift packs for none of them.
    kernel = {"attn_impl": "owner/flash-attn2"}
    assert "need attn_impl flash_attn" in refused_stage(tmp_path, packing=True, **kernel)
    assert read_recipe(write_recipe(tmp_path, stages={"sft": {"max_steps": 1, **kernel}}))


@pytest.mark.parametrize(
    ("dtype", "extra", "told"),
    [
        (None, {"fp16": True, "bf16": True}, "fp16 and bf16 cannot both be true"),
        ("bfloat16", {"fp16": True}, "stages.sft.extra.fp16 contradicts torch_dtype bfloat16"),
        ("float16", {"bf16": True}, "stages.sft.extra.bf16 contradicts torch_dtype float16"),
        ("bfloat16", {"fp16": True, "bf16": False}, ""),
        ("float32", {"bf16": True}, ""),
    ],
)
def test_arithmetic_is_of_one_kind(tmp_path: Path, dtype: str | None, extra: dict[str, bool], told: str) -> None:
    values = {"torch_dtype": dtype, "stages": {"sft": {"max_steps": 1, "extra": extra}}}
    if told:
        assert told in refused(tmp_path, **values)
    else:
        assert read_recipe(write_recipe(tmp_path, **values))


def test_sharded_checkpoints_of_fsdp_are_refused_with_what_to_take(tmp_path: Path) -> None:
    assert "give deepspeed zero3" in refused_stage(tmp_path, extra={"fsdp": "fsdp2"})


def test_a_stage_without_settings_is_not_left_out_unseen(tmp_path: Path) -> None:
    told = refused(tmp_path, stages={"pretrain": {"max_steps": 1}, "sft": None})
    assert "stages.sft has no settings: give it some, or remove it" in told


def test_what_is_no_value_is_refused(tmp_path: Path) -> None:
    assert "model: it is blank" in refused(tmp_path, model="  ")
    assert "enforce_gates: Input should be a valid boolean (got 'no')" in refused(tmp_path, enforce_gates="no")
    assert "max_grad_norm is nan: give a finite number" in refused_stage(
        tmp_path, extra={"max_grad_norm": float("nan")}
    )


def test_packed_rows_have_no_length_to_be_grouped_by(tmp_path: Path) -> None:
    assert "packing or group_by_length" in refused_stage(
        tmp_path, packing=True, attn_impl="flash_attn", group_by_length=True
    )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rlhf_type": "ppo"}, "'dpo', 'kto' or 'orpo'"),
        ({"rlhf_type": "orpo", "ref_model": "/m"}, "orpo has no reference model"),
        ({"ref_model": "/m"}, "ref_model needs tuner_type full: with an adapter, the reference is the same model"),
        ({"rlhf_type": "kto", "gpus": 2}, "kto takes one GPU"),
        ({"rlhf_type": "kto"}, "kto needs an even number of rows in a step"),
        ({"rlhf_type": "kto", "per_device_train_batch_size": 2, "eval_rows": 3}, "an even number of eval_rows"),
        ({"ref_model": "Qwen/Qwen3-8B"}, "absolute path of a folder"),
        ({"desirable_weight": 2.0}, "belong to rlhf_type kto"),
        ({"rlhf_type": "kto", "rpo_alpha": 1.0}, "rpo_alpha belongs to rlhf_type dpo"),
        ({"packing": True, "attn_impl": "flash_attn"}, "pairs are not packed"),
        ({"beta": 0}, "stages.dpo.beta: Input should be greater than 0"),
        ({"betta": 1}, "stages.dpo.betta is unknown; did you mean beta?"),
    ],
)
def test_preferences_have_settings_of_their_own(tmp_path: Path, settings: dict[str, object], sentence: str) -> None:
    assert sentence in refused(tmp_path, stages={"dpo": {"max_steps": 1, **settings}})
    told = refused(tmp_path, stages={"sft": {"max_steps": 1, "beta": 0.1}})
    assert "stages.sft.beta is a field of the stage dpo only" in told


def test_the_recipe_that_aligns_is_one_to_be_run() -> None:
    stage = load_recipe("dpo").stages["dpo"]
    assert isinstance(stage, PreferenceRecipe)
    assert (stage.rlhf_type, stage.beta, stage.labelled) == ("dpo", 0.1, False)
    assert not load_recipe("demo").stages["sft"].labelled
    kto = PreferenceRecipe(max_steps=1, rlhf_type="kto", gradient_accumulation_steps=2)
    assert kto.labelled


def test_what_a_recipe_says_of_preferences_survives_being_written_out() -> None:
    recipe = read_recipe("dpo")
    assert parse_recipe(recipe.model_dump(mode="json", exclude_none=True), "again") == recipe


def test_code_of_a_model_needs_a_folder_and_its_hash(tmp_path: Path) -> None:
    stages = {"sft": {"max_steps": 1}}
    assert "needs a model that is an absolute path" in refused(tmp_path, remote_code=f"xxh3:{'0' * 32}", stages=stages)
    assert "remote_code: String should match" in refused(tmp_path, model="/m", remote_code="yes", stages=stages)
    assert "allow_remote_code is unknown" in refused(tmp_path, allow_remote_code=True, stages=stages)
    model = tmp_path / "model"
    model.mkdir()
    (model / "modeling_x.py").write_text("a = 1", encoding="utf-8")
    name = write_recipe(tmp_path, model=str(model), remote_code=f"xxh3:{'0' * 32}", stages=stages)
    assert read_recipe(name).allow_remote_code
    with pytest.raises(MedllmError, match="is not what the recipe allows"):
        load_recipe(name)
    name = write_recipe(tmp_path, model=str(model), remote_code=code_hash(model), stages=stages)
    assert load_recipe(name).remote_code == code_hash(model)
    (model / "modeling_x.py").write_text("a = 2", encoding="utf-8")
    with pytest.raises(MedllmError, match="is not what the recipe allows"):
        load_recipe(name)


def test_random_weights_are_trained_themselves_first(tmp_path: Path) -> None:
    stages = {"pretrain": {"max_steps": 1}, "sft": {"max_steps": 1, "tuner_type": "full"}}
    assert "pretrain would adapt noise" in refused(tmp_path, model="random:m", stages=stages)
    assert [stage.tuner_type for stage in load_recipe("from_scratch").stages.values()] == ["full"] * 3


def test_the_recipe_of_today_has_the_best_settings() -> None:
    stages = load_recipe("qwen3").stages
    assert all(stage.packing and stage.extra["padding_free"] for stage in (stages["pretrain"], stages["sft"]))
    assert all(stage.attn_impl == "flash_attn" and stage.extra["use_liger_kernel"] for stage in stages.values())
    assert stages["self_cognition"].group_by_length
