"""From the scripts of 1.x to recipes: that they hold, and that nothing in the scripts is lost unseen."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medllm_ops.errors import MedllmError
from medllm_ops.swift.check import check_recipe
from medllm_ops.swift.migrate.migrate import Migrated, migrate, migrate_files
from medllm_ops.swift.parameters_2024 import SUCCESSORS
from medllm_ops.swift.recipe import load_recipe, read_recipe

pytestmark = pytest.mark.usefixtures("asked_once")

# A value that each of the 27 may have had.
VALUES_OF_2024: dict[str, Any] = {
    "model_type": "qwen_14b_chat",
    "model_cache_dir": "/models/Qwen-14B-Chat",
    "custom_train_dataset_path": ["/data/a.jsonl"],
    "custom_val_dataset_path": ["/data/b.jsonl"],
    "batch_size": 7,
    "eval_batch_size": 7,
    "num_train_epochs": 5,
    "deepspeed_config_path": "default-zero2",
    "output_dir": "/data/out",
    "add_output_dir_suffix": False,
    "logging_steps": 7,
    "max_length": 5000,
    "learning_rate": 2e-4,
    "sft_type": "full",
    "dataset_test_ratio": 0.05,
    "train_dataset_sample": 500,
    "val_dataset_sample": 50,
    "system": "You are a pharmacist.",
    "self_cognition_sample": 100,
    "model_name": ["小禾", "Little Grain"],
    "model_author": ["某", "Some"],
    "freeze_parameters": 0.5,
    "additional_trainable_parameters": ["lm_head"],
    "lora_dtype": "fp16",
    "lora_target_modules": ["ALL"],
    "save_total_limit": 3,
    "resume_from_checkpoint": "/data/out/checkpoint-3",
}
SCRIPTS = Path(__file__).with_name("scripts")
PYTHON = ("pretrain.py", "merge.py", "finetune.py", "identity.py", "app.py")
# Any name an argument can have, and those that mean something.
NAMES = st.one_of(
    st.sampled_from([*SUCCESSORS, "model", "optim", "rlhf_type", "beta"]), st.from_regex(r"\A[a-z_]{1,12}\Z")
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.lists(st.one_of(st.integers(), st.text(max_size=6)), max_size=3),
    st.sampled_from(["ALL", "AUTO", "DEFAULT", "qwen_14b_chat", "default-zero2", "fp32", "lora", "full", "qalora"]),
)
COMMANDS = ["swift", "sft", "pt", "rlhf", "merge-lora", "export", "llm_sft.py", "python", "--model_type=qwen-7b"]
SIGNS = [
    "--",
    "--x",
    "-1",
    "#",
    "'",
    '"',
    "\\",
    ";",
    "&&",
    "|",
    ">",
    "$A",
    "A=1",
    "${A}",
    "A=(",
    ")",
    "${A[@]}",
    "`",
    "\n",
    "\\\n",
    "\x00",
    "\r",
]
WORDS = st.sampled_from([*COMMANDS, *SIGNS, "\n", "\\\n", "\x00", "\r"])
FILES = st.one_of(
    st.text(),
    st.lists(WORDS, max_size=20).map(" ".join),
    st.binary().map(lambda raw: raw.decode("latin-1")),
)
ANYTHING = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def of(*names: str) -> Migrated:
    return migrate([(name, (SCRIPTS / name).read_text(encoding="utf-8")) for name in names], "old")


@pytest.fixture(scope="module")
def seed() -> Migrated:
    return of(*PYTHON)


def test_the_three_stages_become_one_recipe(seed: Migrated) -> None:
    stages = seed.recipe.stages
    assert list(stages) == ["pretrain", "sft", "self_cognition"]
    pretrain, sft, identity = stages.values()
    assert (pretrain.max_length, pretrain.val_share, pretrain.target_modules) == (5000, 0.05, ["all-linear"])
    assert (pretrain.per_device_train_batch_size, pretrain.num_train_epochs, pretrain.deepspeed) == (8, 5, "zero2")
    assert (sft.max_length, sft.save_total_limit, sft.target_modules) == (None, 3, ["c_attn"])
    assert sft.deepspeed == "zero2", "set after the arguments were made"
    assert (identity.identity_rows, identity.instruction_rows) == (1000, 1000)
    assert (seed.recipe.model, seed.recipe.model_type, seed.recipe.template) == (
        "/models/Qwen-14B-Chat",
        "qwen",
        "qwen",
    )


def test_it_is_the_recipe_that_ships(seed: Migrated) -> None:
    """What the seed did where nothing was said is written out, as in the recipe of 2024."""
    shipped = load_recipe("qwen_14b_chat_2024")
    for stage in ("pretrain", "sft"):
        made, known = seed.recipe.stages[stage], shipped.stages[stage]
        different = {name for name in type(made).model_fields if getattr(made, name) != getattr(known, name)}
        # AUTO is no dtype today; logging is the script's own; the recipe that ships has the same pace everywhere.
        assert different <= {"extra", "logging_steps"}, stage
        assert made.extra.items() <= known.extra.items()


def test_what_needs_a_human_is_listed_and_stands_in_the_recipe(seed: Migrated) -> None:
    listed = "\n".join(seed.human)
    for sentence in (
        "max_length = -1 (12 of 27",
        "model_name = ['小禾', 'Little Grain'] (20 of 27",
        "custom_val_dataset_path = ['/data/sft/val.jsonl'] (4 of 27",
        "/data/corpus/leaflets.jsonl",
        "CUDA_VISIBLE_DEVICES",
        "brings Python code of its own",
    ):
        assert sentence in listed
    assert all(sentence in seed.text for sentence in seed.human)


def test_each_of_the_27_has_a_comment(seed: Migrated) -> None:
    comments = [line for line in seed.text.splitlines() if line.lstrip().startswith("#")]
    named = {name for name in SUCCESSORS if any(f"{name} = " in line for line in comments)}
    assert named == set(SUCCESSORS)


def test_what_becomes_of_each_of_the_27_is_what_the_readme_says(repository: Path) -> None:
    """A script with this one argument leads to today's name in the table, or says that the chain or the run has it."""
    table = re.findall(r"^\| (\d+) \| `(\w+)` \| ([^|]+) \| ([^|]+) \|", (repository / "README.md").read_text(), re.M)
    assert [name for _, name, *_ in table] == list(SUCCESSORS)
    for number, name, today, limits in table:
        migrated = migrate([("x.py", f"SftArguments({name}={VALUES_OF_2024[name]!r})")], "x")
        (told,) = {line for line in migrated.text.splitlines() if f"{name} = " in line and f"({number} of 27: " in line}
        stage = migrated.recipe.stages.get("self_cognition") or migrated.recipe.stages["sft"]
        fields = {*stage.model_dump(exclude_defaults=True), *stage.extra, "model", "system"}
        named = {name if today.startswith("same") else "", *re.findall(r"`(\w+)`", f"{today} {limits}")}
        assert fields & named or any(word in told for word in ("chain", "run", "the data", *named - {""})), told


def test_a_token_of_a_hub_is_not_repeated() -> None:
    migrated = migrate([("x.sh", "swift sft --model_type qwen-7b --push_to_hub true --hub_token s3cret")], "x")
    assert "s3cret" not in migrated.text
    assert "hub_token = (not repeated here): nothing is pushed to a hub" in migrated.text


def test_merges_and_the_app_are_told_what_does_their_work(seed: Migrated) -> None:
    assert "checkpoint-900" in seed.text
    assert "the chain merges after each stage, and proves the merge" in seed.text
    assert "eval_human = True): medllm-ops serve start" in seed.text


def test_commands_become_a_recipe_too() -> None:
    migrated = of("train.sh")
    pretrain, sft = migrated.recipe.stages.values()
    assert (pretrain.max_length, pretrain.attn_impl, pretrain.extra["lora_dtype"]) == (5000, "flash_attn", "float32")
    assert (sft.quant_method, sft.quant_bits, sft.warmup_ratio, sft.lora_dropout) == ("bnb", 4, 0.03, 0.1)
    assert migrated.recipe.system == 'You are "a" pharmacist.'
    listed = "\n".join(migrated.human)
    for sentence in ("CUDA_VISIBLE_DEVICES=0,1", "sft.log", "host_name = $HOST", "/data/b.jsonl#2000", "qalora"):
        assert sentence in listed
    for name in ("merge-lora(", "export(", "app-ui("):
        assert name in migrated.text


@pytest.mark.parametrize("names", [PYTHON, ("train.sh",)])
def test_the_written_file_passes_the_check(names: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "new.yaml"
    migrated = migrate_files([SCRIPTS / name for name in names], out)
    assert out.read_text(encoding="utf-8") == migrated.text
    assert check_recipe(read_recipe(str(out))).recipe == migrated.recipe
    with pytest.raises(MedllmError, match="is there already"):
        migrate_files([SCRIPTS / name for name in names], out)


def test_a_script_that_trains_nothing_is_refused_with_what_it_does() -> None:
    with pytest.raises(MedllmError, match=r"merge\.py: no training .* InferArguments in line 3: the chain merges"):
        of("merge.py")
    with pytest.raises(MedllmError, match="nor anything else"):
        migrate([("x.sh", "echo hello")], "x")
    with pytest.raises(MedllmError, match=r"x\.py is not Python"):
        migrate([("x.py", "def (")], "x")


def test_a_second_training_of_a_stage_is_listed_with_all_it_had() -> None:
    migrated = migrate([("x.sh", "swift pt --model_type yi-6b\nswift pt --model_type yi-34b --seed 7")], "x")
    assert migrated.recipe.model == "01ai/Yi-6B"
    assert any("a second training for stage pretrain" in line and "seed = 7" in line for line in migrated.human)


def test_another_model_in_a_later_stage_is_a_human_s_business() -> None:
    same = "swift pt --model_type qwen-7b\nswift sft --model_type qwen_7b --output_dir sft"
    assert not any("has another model" in line for line in migrate([("x.sh", same)], "x").human)
    migrated = migrate([("x.sh", same.replace("qwen_7b", "yi-6b"))], "x")
    assert migrated.recipe.model == "Qwen/Qwen-7B"
    assert any("model_type = yi-6b" in line and "x.sh, line 1 has another model" in line for line in migrated.human)


def test_a_precision_that_the_model_s_own_contradicts_is_listed() -> None:
    migrated = migrate([("x.sh", "swift sft --model_type qwen-7b --dtype bf16 --fp16 true --seed 7")], "x")
    assert (migrated.recipe.torch_dtype, migrated.recipe.stages["sft"].seed) == ("bfloat16", 7)
    assert any("fp16 True is not in the recipe: it contradicts torch_dtype bfloat16" in line for line in migrated.human)


@pytest.mark.parametrize(
    ("name", "text", "rlhf_type"),
    [
        ("x.sh", "swift kto --model_type qwen-7b", "kto"),
        ("x.sh", "python llm_orpo.py --model_type qwen-7b", "orpo"),
        ("x.sh", "swift orpo --model_type qwen-7b --rlhf_type dpo", "dpo"),
        ("x.py", "orpo_main(ORPOArguments(model_type='qwen-7b'))", "orpo"),
        ("x.py", "orpo_main(['--model_type', 'qwen-7b'])", "orpo"),
        ("x.py", "dpo_main(DPOArguments(model_type='qwen-7b'))", "dpo"),
    ],
)
def test_an_alignment_stays_of_its_kind(name: str, text: str, rlhf_type: str) -> None:
    assert migrate([(name, text)], "x").recipe.stages["dpo"].model_dump()["rlhf_type"] == rlhf_type


def test_an_alignment_that_is_no_stage_is_listed() -> None:
    migrated = migrate([("x.sh", "swift simpo --model_type qwen-7b")], "x")
    assert any("rlhf_type 'simpo' is not in the recipe" in line for line in migrated.human)


@pytest.mark.parametrize(
    ("arguments", "rate"),
    [
        ("--model_type qwen-7b --sft_type full", 1e-5),
        ("--model Qwen/Qwen3-4B --train_type full", 1e-5),
        ("--model_type qwen-7b --sft_type full --learning_rate 2e-5", 2e-5),
        ("--model_type qwen-7b", 1e-4),
    ],
)
def test_all_weights_keep_the_learning_rate_that_nobody_said(arguments: str, rate: float) -> None:
    migrated = migrate([("x.sh", f"swift sft {arguments}")], "x")
    assert migrated.recipe.stages["sft"].learning_rate == rate


def test_merging_by_the_word_of_1x_is_told_as_a_merge() -> None:
    text = "SftArguments(model_type='qwen-7b')\nInferArguments(ckpt_dir='x', merge_lora_and_save=True)"
    assert "merge_lora_and_save = True): the chain merges after each stage" in migrate([("x.py", text)], "x").text


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("x.py", "\ufeffSftArguments(system='医')".encode()),
        ("x.py", "# -*- coding: gbk -*-\nSftArguments(system='医')".encode("gbk")),
        ("x.sh", "\ufeffswift sft --system 医".encode()),
    ],
)
def test_the_encoding_that_a_script_says_is_its_own(tmp_path: Path, name: str, raw: bytes) -> None:
    (tmp_path / name).write_bytes(raw)
    assert migrate_files([tmp_path / name], tmp_path / "new.yaml").recipe.system == "医"


@pytest.mark.parametrize("raw", [b"SftArguments(system='\xff')", b"# coding: no-such-thing\n"])
def test_a_script_that_is_no_text_is_one_sentence(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "x.py").write_bytes(raw)
    with pytest.raises(MedllmError, match=r"x\.py cannot be read as text"):
        migrate_files([tmp_path / "x.py"], tmp_path / "new.yaml")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--learning_rate 5", "learning_rate 5 is not in the recipe"),
        ("--lora_rank zero", "lora_rank 'zero' is not in the recipe"),
        ("--save_total_limit 1", "deletes the last checkpoint"),
        ("--deepspeed ds/zero2.json", "has to be absolute"),
        ("--no_such_argument 3", "no_such_argument = 3"),
        ("--sft_type vera", "tuner_type 'vera' is not in the recipe"),
        ("--sft_type longlora", "works for llama only"),
        ("--use_dora true", "use_dora True is not in the recipe: what it trains cannot be merged"),
        ("--optim adamw_torch --max_grad_norm high", "max_grad_norm = high"),
        ("--seed 1 --seed 2", "seed = 1 was replaced below by 2"),
        ("--template_type my-own", "template_type = my-own"),
        ("--dataset_test_ratio 0", "always a validation side"),
    ],
)
def test_what_no_recipe_can_hold_is_listed(arguments: str, told: str) -> None:
    migrated = migrate([("x.sh", f"swift sft --model_type qwen-7b {arguments}")], "x")
    assert any(told in line for line in migrated.human), migrated.human
    check_recipe(migrated.recipe)


def written(value: Any) -> str:
    """A value as it would stand in a script."""
    return f"float({str(value)!r})" if isinstance(value, float) and not math.isfinite(value) else repr(value)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
@example([("extra", 1), ("max_steps", 0), ("num_train_epochs", -1), ("quant_bits", 3)])
@example([("freeze_parameters", True), ("model", None)])
@example([("packing", True), ("padding_free", True), ("group_by_length", True)])
@example([("system", "\ud800\n: #"), ("model", "")])
@ANYTHING
def test_no_argument_of_a_script_is_lost(pairs: list[tuple[str, Any]]) -> None:
    unique = dict(pairs)
    arguments = ", ".join(f"**{{{name!r}: {written(value)}}}" for name, value in unique.items())
    migrated = migrate([("x.py", f"a = SftArguments({arguments})")], "x")
    check_recipe(migrated.recipe)
    for name in unique:
        assert f"{name} = " in migrated.text, (name, migrated.text)


@given(st.lists(st.tuples(NAMES, st.from_regex(r"\A[\w./:,#=@%+-]{0,10}\Z")), max_size=8))
@ANYTHING
def test_no_argument_of_a_command_is_lost(pairs: list[tuple[str, str]]) -> None:
    line = " ".join(f"--{name} {value}" for name, value in pairs)
    migrated = migrate([("x.sh", f"swift sft {line}")], "x")
    check_recipe(migrated.recipe)
    for name, _ in pairs:
        # After a word that is a # alone, the rest of a line is a comment, and listed as it stands.
        assert f"{name} = " in migrated.text or f"--{name} " in "\n".join(migrated.human) + " ", (name, migrated.text)


@given(
    st.one_of(st.text(), st.lists(WORDS, max_size=20).map(" ".join), st.binary().map(lambda raw: raw.decode("latin-1")))
)
@ANYTHING
def test_whatever_stands_in_a_file_ends_in_a_recipe_or_a_sentence(text: str) -> None:
    for name in ("x.sh", "x.py"):
        for script in (text, f"swift sft {text}", f"SftArguments({text})", f"os.system({text!r})"):
            try:
                migrated = migrate([(name, script)], "x")
            except MedllmError:
                continue
            check_recipe(migrated.recipe)
