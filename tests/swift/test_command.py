import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.swift.arguments import check_names
from medllm_ops.swift.command import Command, build, parse_kept_rows
from medllm_ops.swift.recipe import StageRecipe, list_recipes, load_recipe


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


def test_what_the_chain_promises_is_in_every_command(files: dict[str, Path]) -> None:
    built = command(files)
    assert flag(built, "add_version") == ["false"]
    assert flag(built, "split_dataset_ratio") == ["0"]
    assert flag(built, "create_checkpoint_symlink") == ["false"]
    assert flag(built, "save_only_model") == ["false"]
    assert flag(built, "check_model") == ["false"]
    assert flag(built, "dataset") == [str(files["train"])]
    assert flag(built, "val_dataset") == [str(files["val"])]
    assert (flag(built, "fp16"), flag(built, "bf16")) == (["false"], ["false"])
    assert flag(built, "seed") == flag(built, "data_seed") == ["42"]


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


def test_unknown_arguments_are_named_with_what_they_are_called_now(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path_factory.mktemp("home")))
    check_names("sft", ["learning_rate", "use_liger_kernel"])
    with pytest.raises(MedllmError, match=r"sft_type \(now tuner_type.*lerning_rate \(did you mean learning_rate"):
        check_names("sft", ["sft_type", "lerning_rate"])


def test_ms_swift_itself_knows_every_argument_of_every_recipe(files: dict[str, Path], tmp_path: Path) -> None:
    """One process that imports ms-swift parses the command of each stage that ships, without loading a model."""
    commands = {}
    for name in list_recipes():
        for stage, settings in load_recipe(name).stages.items():
            kind = "pt" if stage == "pretrain" else "sft"
            commands[f"{name} {stage}"] = [kind, *command(files, settings, kind).argv[3:]]
    (tmp_path / "commands.json").write_text(json.dumps(commands), encoding="utf-8")
    script = (
        "import json, sys, dataclasses\n"
        "from transformers import HfArgumentParser\n"
        "from swift import PretrainArguments, SftArguments\n"
        "for cls in (PretrainArguments, SftArguments): cls.__post_init__ = lambda self: None\n"
        "for name, (kind, *argv) in json.load(open(sys.argv[1])).items():\n"
        "    parser = HfArgumentParser(PretrainArguments if kind == 'pt' else SftArguments)\n"
        "    _, rest = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)\n"
        "    print(name, rest)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "commands.json")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith(tuple(list_recipes()))]
    assert len(lines) == len(commands)
    assert all(line.endswith("[]") for line in lines), lines
