import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.swift.command import (
    Command,
    build,
    parse_kept_rows,
    parse_logged_rows,
    rows_repeated,
    rows_scored,
)
from medllm_ops.swift.recipe import (
    DEEPSPEED_NAMES,
    PreferenceRecipe,
    Scheduler,
    StageRecipe,
    TunerType,
    command_of,
    list_recipes,
    read_recipe,
)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    for name in ("train.jsonl", "val.jsonl"):
        (tmp_path / name).write_text("{}\n", encoding="utf-8")
    (tmp_path / "model").mkdir()
    return {"model": tmp_path / "model", "train": tmp_path / "train.jsonl", "val": tmp_path / "val.jsonl"}


def command(files: dict[str, Path], stage: StageRecipe | None = None, kind: Any = "sft", **changes: Any) -> Command:
    values: dict[str, Any] = {
        "model_dir": files["model"],
        "model_type": "llama",
        "template": "chatml",
        "torch_dtype": "float32",
        "system": "",
        "train_files": [files["train"]],
        "val_files": [files["val"]],
        "output_dir": files["model"].parent / "output",
    }
    return build(stage or StageRecipe(max_steps=3), kind, **(values | changes))


def flag(built: Command, name: str) -> list[str] | None:
    """The values of a flag, or None if it is not there."""
    if f"--{name}" not in built.argv:
        return None
    start = built.argv.index(f"--{name}") + 1
    end = next((at for at in range(start, len(built.argv)) if built.argv[at].startswith("--")), len(built.argv))
    return list(built.argv[start:end])


def test_the_trainer_is_started_without_a_launcher_above_it(files: dict[str, Path]) -> None:
    assert command(files).argv[:3] == (sys.executable, "-m", "swift.cli.sft")
    assert command(files, kind="pt").argv[2] == "swift.cli.pt"


def test_deepspeed_and_several_processes_get_torchrun_with_a_port_of_their_own(files: dict[str, Path]) -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node")
    assert command(files, StageRecipe(max_steps=3, deepspeed="zero2")).argv[:8] == (
        *launcher,
        "1",
        "-m",
        "swift.cli.sft",
    )
    built = command(files, StageRecipe(max_steps=3, gpus=4), device="cuda")
    assert built.argv[:8] == (*launcher, "4", "-m", "swift.cli.sft")
    assert flag(built, "use_cpu") is None


def test_processes_without_a_gpu_must_not_train_apart(files: dict[str, Path]) -> None:
    two = StageRecipe(max_steps=3, gpus=2)
    assert flag(command(files, two, device="cpu"), "use_cpu") == ["true"]
    with pytest.raises(MedllmError, match="2 processes need a device"):
        command(files, two)


def test_every_row_has_its_rank(files: dict[str, Path]) -> None:
    """ms-swift gives each of N ranks rows // N and leaves the rest out; of path#N, it draws some rows again."""
    three = StageRecipe(max_steps=3, gpus=3)
    other = files["train"].with_name("other.jsonl")
    for rows, taken in ((8, str(other)), (9, f"{other}#11"), (10, f"{other}#11")):
        files["train"].write_text("{}\n" * 4, encoding="utf-8")
        other.write_text("{}\n" * rows, encoding="utf-8")
        built = command(files, three, device="cpu", train_files=[files["train"], other])
        assert flag(built, "dataset") == [str(files["train"]), taken]
    assert [rows_repeated(count, 3) for count in (12, 13, 14)] == [0, 2, 1]
    assert rows_repeated(13, 1) == 0


def test_rows_that_were_made_ready_are_read_in_place_of_the_files(files: dict[str, Path], tmp_path: Path) -> None:
    built = command(files, tokenised=tmp_path / "ready")
    assert (flag(built, "dataset"), flag(built, "val_dataset")) == (None, None)
    assert flag(built, "cached_dataset") == [str(tmp_path / "ready" / "train")]
    assert flag(built, "cached_val_dataset") == [str(tmp_path / "ready" / "val")]
    # The order of batches is still the recipe's.
    assert flag(built, "data_seed") == ["42"]


def test_what_the_chain_promises_is_in_every_command(files: dict[str, Path]) -> None:
    built = command(files)
    assert flag(built, "add_version") == ["false"]
    assert flag(built, "split_dataset_ratio") == ["0"]
    assert flag(built, "create_checkpoint_symlink") == ["false"]
    assert flag(built, "save_only_model") == ["false"]
    assert flag(built, "check_model") == ["false"]
    assert flag(built, "strict") == ["true"]
    assert flag(built, "lazy_tokenize") == ["false"]
    assert flag(built, "report_to") == ["none"]
    assert flag(built, "dataset") == [str(files["train"])]
    assert flag(built, "val_dataset") == [str(files["val"])]
    assert (flag(built, "fp16"), flag(built, "bf16")) == (["false"], ["false"])
    assert flag(built, "seed") == flag(built, "data_seed") == ["42"]


@pytest.mark.parametrize(("eval_rows", "rows", "suffix"), [(0, 9, ""), (4, 4, "#4"), (9, 9, ""), (100, 9, "")])
def test_some_validation_rows_are_scored_and_none_is_repeated(
    files: dict[str, Path], eval_rows: int, rows: int, suffix: str
) -> None:
    files["val"].write_text('{"messages": []}\n' * 9)
    assert rows_scored(files["val"], eval_rows) == rows
    stage = StageRecipe(max_steps=3, eval_rows=eval_rows)
    assert flag(command(files, stage), "val_dataset") == [f"{files['val']}{suffix}"]


def test_nothing_is_handed_over_as_null(files: dict[str, Path]) -> None:
    built = command(files, model_type=None, template=None, torch_dtype=None)
    assert not {"None", "null"} & set(built.argv)
    assert flag(built, "max_length") is None
    assert flag(built, "model_type") is None


def test_saving_and_evaluating_do_not_depend_on_each_other(files: dict[str, Path]) -> None:
    assert flag(command(files), "save_steps") == flag(command(files), "eval_steps") == ["3"]
    built = command(files, StageRecipe(max_steps=9, save_steps=2))
    assert (flag(built, "save_steps"), flag(built, "eval_steps")) == (["2"], ["9"])


def test_only_dialogues_have_a_system_prompt(files: dict[str, Path]) -> None:
    assert flag(command(files), "system") == [""]
    assert flag(command(files, kind="pt"), "system") is None


def test_what_is_ours_stays_ours_and_extra_is_handed_on(files: dict[str, Path]) -> None:
    stage = StageRecipe(max_steps=3, identity_rows=5, extra={"use_liger_kernel": True, "callbacks": ["a", "b"]})
    built = command(files, stage)
    for name in ("identity_rows", "instruction_rows", "val_share", "checkpoint", "extra"):
        assert flag(built, name) is None
    assert flag(built, "use_liger_kernel") == ["true"]
    assert flag(built, "callbacks") == ["a", "b"]


def test_full_training_has_no_adapter(files: dict[str, Path]) -> None:
    built = command(files, StageRecipe(max_steps=3, tuner_type="full"))
    assert flag(built, "tuner_type") == ["full"]
    assert flag(built, "lora_rank") is None
    assert flag(built, "target_modules") is None


@pytest.mark.parametrize("path", [Path("train.jsonl"), Path("/no/such/train.jsonl")])
def test_a_path_that_could_fall_through_to_a_hub_is_refused(files: dict[str, Path], path: Path) -> None:
    with pytest.raises(MedllmError, match="absolute path that exists"):
        command(files, train_files=[path])


def test_an_output_folder_and_a_deepspeed_file_are_absolute_too(files: dict[str, Path]) -> None:
    with pytest.raises(MedllmError, match="output must be an absolute path"):
        command(files, output_dir=Path("output"))
    with pytest.raises(MedllmError, match=r"/no/zero2.json must be an absolute path that exists"):
        command(files, StageRecipe(max_steps=3, deepspeed="/no/zero2.json"))
    built = command(files, StageRecipe(max_steps=3, deepspeed=str(files["train"])))
    assert flag(built, "deepspeed") == [str(files["train"])]


def test_a_text_that_looks_like_a_flag_stays_a_text(files: dict[str, Path]) -> None:
    built = command(files, system="--output_dir=/x")
    assert "--system=--output_dir=/x" in built.argv
    assert flag(command(files, system="You are -- kind."), "system") == ["You are -- kind."]


def test_mixed_precision_can_be_asked_for(files: dict[str, Path]) -> None:
    assert flag(command(files, StageRecipe(max_steps=3, extra={"bf16": True})), "bf16") == ["true"]


def test_a_resume_names_its_checkpoint(files: dict[str, Path]) -> None:
    assert flag(command(files, resume_from=files["model"]), "resume_from_checkpoint") == [str(files["model"])]
    assert flag(command(files), "resume_from_checkpoint") is None


def test_no_hub_is_asked(files: dict[str, Path]) -> None:
    environment = command(files).env
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert Path(environment["MODELSCOPE_CACHE"]).is_absolute()


def test_the_kept_rows_are_read_from_the_last_line() -> None:
    line = {"train_dataset": "12.0±1.0, min=1.0, max=20.0, size=77", "val_dataset": "3.0±0.0, min=3.0, max=3.0, size=8"}
    assert parse_kept_rows(line) == (77, 8)
    with pytest.raises(MedllmError, match="does not say"):
        parse_kept_rows({"train_dataset": line["train_dataset"]})


def test_with_packing_the_kept_rows_are_read_from_what_was_printed() -> None:
    def attempt(rows: int) -> str:
        sets = {"train_dataset": rows, "val_dataset": 4}
        lines = "[INFO:swift] {}: Dataset({{\n    features: ['messages', 'lengths'],\n    num_rows: {}\n}})\n"
        return "".join(lines.format(name, number) for name, number in sets.items())

    assert parse_logged_rows(attempt(15) + "killed\n" + attempt(16)) == (16, 4)
    with pytest.raises(MedllmError, match="does not say how many rows of val_dataset"):
        parse_logged_rows(attempt(16).partition("[INFO:swift] val")[0])


# Parses commands without loading a model, and tells the names that typed fields and recipes take for granted.
ASK_MS_SWIFT = """
import json, sys
from pathlib import Path
import swift
from swift import PretrainArguments, RLHFArguments, SftArguments
from swift.arguments.base_args.base_args import get_supported_tuners
from swift.model import MODEL_MAPPING
from swift.template import TEMPLATE_MAPPING
from transformers import HfArgumentParser
from transformers.trainer_utils import SchedulerType
classes = {"pt": PretrainArguments, "sft": SftArguments, "rlhf": RLHFArguments}
for cls in classes.values():
    cls.__post_init__ = lambda self: None
rest, systems = {}, {}
for name, (kind, *argv) in json.loads(Path(sys.argv[1]).read_text()).items():
    parser = HfArgumentParser(classes[kind])
    arguments, rest[name] = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    systems[name] = arguments.system
answer = {
    "rest": rest, "systems": systems, "tuners": sorted(get_supported_tuners()), "types": list(MODEL_MAPPING),
    "templates": list(TEMPLATE_MAPPING), "schedulers": [each.value for each in SchedulerType],
    "deepspeed": [file.stem for file in Path(swift.__file__).with_name("config").glob("zero*.json")],
}
Path(sys.argv[2]).write_text(json.dumps(answer))
"""


def test_an_alignment_runs_swift_rlhf_with_its_own_arguments(files: dict[str, Path]) -> None:
    stage = PreferenceRecipe(max_steps=3, rpo_alpha=0.1, preference_sets=["preference"])
    argv = list(command(files, stage, "rlhf").argv)
    assert argv[2] == "swift.cli.rlhf"
    for name, value in (("rlhf_type", "dpo"), ("beta", "0.1"), ("rpo_alpha", "0.1"), ("system", "")):
        assert argv[argv.index(f"--{name}") + 1] == value
    assert not {"--preference_sets", "--ref_model", "--loss_type"} & set(argv)
    full = PreferenceRecipe(max_steps=3, tuner_type="full", ref_model=str(files["model"]), learning_rate=1e-5)
    argv = list(command(files, full, "rlhf").argv)
    assert argv[argv.index("--ref_model") + 1] == str(files["model"])


def test_ms_swift_itself_knows_every_argument_of_every_recipe(files: dict[str, Path], tmp_path: Path) -> None:
    recipes = [read_recipe(name) for name in list_recipes()]
    commands = {"system": ["sft", *command(files, system="--seed=7").argv[3:]]}
    for recipe in recipes:
        for stage, settings in recipe.stages.items():
            kind = command_of(stage)
            argv = command(files, settings, kind).argv
            commands[f"{recipe.name} {stage}"] = [kind, *argv[argv.index(f"swift.cli.{kind}") + 1 :]]
    (tmp_path / "commands.json").write_text(json.dumps(commands), encoding="utf-8")
    argv = (sys.executable, "-c", ASK_MS_SWIFT, str(tmp_path / "commands.json"), str(tmp_path / "answer.json"))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["rest"] == {name: [] for name in commands}
    assert answer["systems"]["system"] == "--seed=7"
    assert set(get_args(TunerType)) <= set(answer["tuners"])
    assert set(get_args(Scheduler)) <= set(answer["schedulers"])
    assert sorted(DEEPSPEED_NAMES) == sorted(answer["deepspeed"])
    for recipe in recipes:
        assert recipe.model_type in answer["types"]
        assert recipe.template in answer["templates"]
