from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from medllm_ops.errors import MedllmError
from medllm_ops.files import file_hash, read_json, write_json
from medllm_ops.parameters import Parameters
from medllm_ops.run import Run
from medllm_ops.swift.preflight import checks, cli
from medllm_ops.swift.preflight import preflight as module
from medllm_ops.swift.preflight.cards import Card
from medllm_ops.swift.preflight.estimate import Target
from medllm_ops.swift.preflight.preflight import Preflight, add_licences, preflight, preflight_run
from medllm_ops.swift.preflight.probe import measure
from medllm_ops.swift.recipe import Recipe, parse_recipe, read_recipe

app = typer.Typer()
app.command()(cli.preflight)


@pytest.fixture(autouse=True)
def _nothing_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started that imports ms-swift, and no driver is asked."""
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MEDLLM_TRAINER", raising=False)
    for place in (module, cli):
        monkeypatch.setattr(place, "add_static", lambda *arguments: None)
        monkeypatch.setattr(place, "host_target", lambda: (Target(None, 1, 16.0, 5e10), []))


@pytest.fixture
def dataset(make_dataset: Callable[..., Path]) -> Path:
    return make_dataset(
        pubmed=("pretrain", [200] * 40, 4000),
        alpaca=("sft", [100] * 20, 1500),
        self_cognition=("self_cognition", [50] * 10, 400),
    )


def _recipe(**stage: object) -> Recipe:
    values = {"num_train_epochs": 2.0, **stage}
    model = {"name": "mine", "model": "Qwen/Qwen3-14B", "torch_dtype": "bfloat16"}
    return parse_recipe({**model, "stages": {"sft": values}}, "mine")


def test_an_error_names_the_field_what_it_needs_and_what_would_fit() -> None:
    recipe = _recipe(per_device_train_batch_size=8, max_length=5000)
    (problem,) = preflight(recipe, Target(Card("RTX-4090", 24), 1, 24)).problems
    assert problem.startswith("stages.sft: max_length 5000 with per_device_train_batch_size 8 needs ")
    assert "GiB (" in problem
    assert ", the card has 24.0: try " in problem
    assert "quant_bits 4" in problem


def test_too_little_of_everything_says_what_the_least_is() -> None:
    (problem,) = preflight(_recipe(max_length=5000), Target(Card("small", 4), 1, 4)).problems
    assert "nothing makes it fit" in problem
    assert "is the least" in problem


def test_a_fitting_recipe_passes_with_steps_disk_and_hours(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target(Card("A100", 80, 312, 19.5), 1, 80)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: SimpleNamespace(free=1024**4))
    found = preflight(_recipe(max_length=512), target, dataset=dataset, folder=tmp_path)
    assert found.problems == []
    (need,) = found.estimates
    assert (need.rows, need.steps) == (20, 40)
    assert need.disk is not None
    assert need.hours is not None
    assert need.hours > 0


def test_a_processor_is_warned_of_time_and_memory(dataset: Path) -> None:
    recipe = _recipe(max_length=512, num_train_epochs=500.0).model_copy(update={"torch_dtype": "float32"})
    found = preflight(recipe, Target(None, 1, 16.0, 1e10), dataset=dataset)
    assert found.passed
    assert any("this host has 16.0" in text for text in found.warnings)
    assert any("hours on this processor" in text for text in found.warnings)


def _run(dataset: Path, licences: dict[str, int] | None = None, **parameters: object) -> Run:
    run = Run.create("one", Parameters.check({"recipe": "tiny", **parameters}))
    for name in ("train", "val"):
        (run.dataset / name).parent.mkdir(parents=True, exist_ok=True)
        (dataset / name).rename(run.dataset / name)
    (dataset / "manifest.json").rename(run.dataset / "manifest.json")
    run.recipe_file.write_bytes((Path(__file__).parents[3] / "include/swift_configs/tiny.yaml").read_bytes())
    write_json(run.plan_file, {"model": "tiny-random-qwen2"})
    run.curation_file.write_text("licences: {deny: ['*-NC-*']}\n")
    write_json(run.curated / "manifest.json", {"sources": {"pubmed": {"licences": licences or {"CC0-1.0": 1}}}})
    return run


def test_a_run_is_held_against_this_host_and_leaves_its_result(dataset: Path) -> None:
    run = _run(dataset)
    row = preflight_run(run)
    assert row["passed"]
    assert [stage["stage"] for stage in row["stages"]] == ["pretrain", "sft", "self_cognition"]
    assert [stage["steps"] for stage in row["stages"]] == [4, 4, 4]
    assert read_json(run.directory / "preflight.json") == row


def test_a_base_of_two_dtypes_is_told_before_it_is_trained(
    dataset: Path, tiny_model: Path, tmp_path: Path, edit_tensors: Callable[..., None]
) -> None:
    run = _run(dataset)
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    write_json(run.plan_file, {"model": str(base)})
    assert not any("one dtype" in text for text in preflight_run(run)["warnings"])
    edit_tensors(
        base / "model.safetensors",
        lambda tensors: tensors.update({name: each.half() for name, each in tensors.items() if "norm" not in name}),
    )
    assert any("are float16, some float32: where" in text for text in preflight_run(run)["warnings"])


def test_a_run_with_changed_rows_or_a_denied_licence_is_stopped(dataset: Path) -> None:
    run = _run(dataset, {"CC-BY-NC-4.0": 2})
    with (run.dataset / "train" / "pubmed.jsonl").open("ab") as file:
        file.write(b'{"id": "x", "messages": []}\n')
    with pytest.raises(MedllmError) as caught:
        preflight_run(run)
    assert "train/pubmed.jsonl was changed" in str(caught.value)
    assert "CC-BY-NC-4.0" in str(caught.value)
    assert not read_json(run.directory / "preflight.json")["passed"]


def test_another_hosts_gpu_is_not_judged_by_this_one(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = _run(dataset)
    monkeypatch.setenv("MEDLLM_TRAINER", "service")
    monkeypatch.setattr(module, "host_target", lambda: pytest.fail("this host was asked"))
    row = preflight_run(run)
    assert "training is done on another host: its GPU was not seen" in row["warnings"]
    assert row["memory_gib"] is None


def test_the_command_prints_json_and_fails_on_a_problem(dataset: Path) -> None:
    fits = CliRunner().invoke(app, ["--recipe", "tiny", "--dataset", str(dataset), "--gpu", "T4", "--json"])
    assert fits.exit_code == 0, fits.output
    row = json.loads(fits.stdout)
    assert row["stages"][0]["validated"] == "not validated on a GPU"
    assert row["stages"][0]["hours"] >= 0
    fails = CliRunner().invoke(app, ["--recipe", "qwen_14b_chat_2024", "--memory", "24"])
    assert fails.exit_code == 1
    assert "not validated on a GPU" in fails.output
    assert "without --gpu no hours are estimated" in fails.output
    here = CliRunner().invoke(app, ["--recipe", "tiny"])
    assert here.exit_code == 0
    assert "this host's processor" in here.output


def test_the_command_says_of_this_host_what_a_run_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("MEDLLM_SLOTS", "1")
    recipe = tmp_path / "x.yaml"
    stage = "{max_steps: 1, gpus: 2, quant_method: bnb, quant_bits: 4}"
    recipe.write_text(f"{{name: x, model: smollm2-135m-instruct, torch_dtype: float32, stages: {{sft: {stage}}}}}")
    told = CliRunner().invoke(app, ["--recipe", str(recipe)])
    assert told.exit_code == 1
    assert "stages.sft.quant_method bnb: bitsandbytes is not installed here: pip install bitsandbytes" in told.output
    assert "2 GPUs are wanted, and MEDLLM_SLOTS declares 1 without any" in told.output
    # Of another host's GPU, neither is known.
    assert CliRunner().invoke(app, ["--recipe", str(recipe), "--gpu", "T4"]).exit_code == 0


def test_a_configuration_of_deepspeed_that_is_not_there_is_named_with_its_stage() -> None:
    with pytest.raises(MedllmError) as caught:
        preflight(_recipe(deepspeed="/no/such.json"), Target(Card("A100", 80), 1, 80))
    assert str(caught.value).startswith("stages.sft.deepspeed /no/such.json cannot be read (No such file")
    assert "give a file that is there, or zero0," in str(caught.value)


def test_a_stage_without_rows_is_told_and_one_that_is_on_is_refused(make_dataset: Callable[..., Path]) -> None:
    dataset = make_dataset(pubmed=("pretrain", [200] * 40, 4000))
    found = preflight(_recipe(max_length=512), Target(Card("A100", 80, 312, 19.5), 1, 80), dataset=dataset)
    assert "has no set for it" in found.warnings[0]
    assert found.estimates[0].steps is None
    with pytest.raises(MedllmError, match="no set for stage sft"):
        preflight(_recipe(max_length=512), Target(), dataset=dataset, stages=["sft"])


def test_the_licences_beside_a_dataset_are_looked_at(dataset: Path) -> None:
    found = Preflight("a", "b", "c", None)
    add_licences(found, dataset)
    assert "were not looked at" in found.warnings[0]
    write_json(dataset.parent / "curated" / "manifest.json", {"sources": {"mine": {"licences": {"": 7}}}})
    add_licences(found, dataset)
    assert "mine (7 rows)" in found.warnings[1]


def test_findings_are_told_once() -> None:
    found = Preflight("a", "b", "c", None)
    found.add(["x", "x"], ["y"])
    found.add(["x"], ["y"])
    assert (found.problems, found.warnings) == (["x"], ["y"])


def test_a_measured_step_takes_time(tiny_model: Path) -> None:
    stage = read_recipe("tiny").stages["sft"].model_dump(mode="json", exclude_none=True)
    found = measure({"model": str(tiny_model), "stage": stage, "dtype": "float32", "length": 32})
    assert found["seconds"] > 0
    assert (found["length"], found["batch"], found["memory"]) == (32, 4, 0)


def test_the_dataset_is_not_changed(dataset: Path) -> None:
    before = file_hash(dataset / "manifest.json")
    preflight(read_recipe("tiny"), Target(), dataset=dataset)
    assert file_hash(dataset / "manifest.json") == before
