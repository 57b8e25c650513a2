import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.parameters import Parameters
from medllm_ops.run import Run, default_run_name, run_name


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "var"))


def test_the_same_parameters_go_on_with_the_same_run() -> None:
    first, same = Parameters(max_steps=3), Parameters.check({"max_steps": "3"})
    assert default_run_name(first) == default_run_name(same)
    assert default_run_name(first).startswith("demo-")
    assert default_run_name(first) != default_run_name(Parameters(max_steps=4))
    assert default_run_name(Parameters(recipe="recipes/my own.yaml")).startswith("my-own-")


def test_a_run_is_found_again_only_with_the_same_parameters() -> None:
    parameters = Parameters(max_steps=3)
    run = Run.create("first", parameters)
    assert Run.create("first", parameters) == run
    assert Run.open(run.directory) == run
    with pytest.raises(MedllmError, match="run first exists with other parameters: give this one another name"):
        Run.create("first", Parameters(max_steps=4))
    assert Run.open(run.directory).parameters == parameters


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "针灸", "x" * 121, "-x", "a\n"])
def test_a_name_that_is_no_folder_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match="letters, digits"):
        Run.create(name, Parameters())
    assert not (tmp_path / "var").exists()


def test_the_name_of_the_link_to_the_last_run_is_taken() -> None:
    with pytest.raises(MedllmError, match="link to the last finished run"):
        Run.create("latest", Parameters())


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match=re.escape(f"{tmp_path} is not a run: it has no run.json")):
        Run.open(tmp_path)


def test_a_run_has_the_same_folder_whichever_link_leads_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The id of a job is made of its folder: two names of it would be two jobs.
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "link"))
    first = Run.create("first", Parameters())
    assert first.directory == tmp_path / "disk" / "runs" / "first"
    assert Run.create("first", Parameters()) == first
    assert Run.open(tmp_path / "link" / "runs" / "first") == first


def test_the_id_of_an_airflow_run_becomes_a_readable_folder_name() -> None:
    assert run_name("manual__2026-11-24T10:00:00+00:00") == "manual__2026-11-24T10-00-00+00-00"
    assert run_name("a/b") != run_name("a b")


@given(st.text(max_size=300))
def test_every_airflow_run_id_gives_a_name_that_a_run_can_have(text: str) -> None:
    name = run_name(text)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}", name)
    assert name == run_name(text)


@pytest.mark.parametrize(
    ("stages", "before", "final"),
    [
        (
            ("pretrain", "sft", "self_cognition"),
            {"pretrain": "base", "sft": "pretrain", "self_cognition": "sft"},
            "self_cognition",
        ),
        (("pretrain", "self_cognition"), {"pretrain": "base", "self_cognition": "pretrain"}, "self_cognition"),
        (("sft",), {"sft": "base"}, "sft"),
        (("sft", "self_cognition"), {"sft": "base", "self_cognition": "sft"}, "self_cognition"),
        (("pretrain",), {"pretrain": "base", "sft": "pretrain", "self_cognition": "pretrain"}, "pretrain"),
        (("sft", "self_cognition", "dpo"), {"self_cognition": "sft", "dpo": "self_cognition"}, "dpo"),
        (("dpo",), {"dpo": "base"}, "dpo"),
    ],
)
def test_a_stage_starts_from_the_last_merged_model_before_it(
    stages: tuple[str, ...], before: dict[str, str], final: str
) -> None:
    switches = {name: name in stages for name in ("pretrain", "sft", "self_cognition", "dpo")}
    run = Run.create("run", Parameters.check(switches))
    write_json(run.plan_file, {"model": "/models/base"})
    folders = {"base": Path("/models/base")} | {name: run.directory / "merged" / name for name in switches}
    assert run.parameters.stages == stages
    assert {stage: run.model_before(stage) for stage in before} == {
        stage: folders[model] for stage, model in before.items()
    }
    assert run.final_model == folders[final]


def test_timings_tell_how_each_task_ended_the_last_time() -> None:
    run = Run.create("run", Parameters())
    with run.timed("convert"):
        assert read_json(run.directory / "timings.json") == [{"task": "convert", "seconds": 0.0, "state": "running"}]
    with pytest.raises(KeyError), run.timed("split"):
        raise KeyError
    with run.timed("split"):
        pass
    rows = read_json(run.directory / "timings.json")
    assert [(row["task"], row["state"]) for row in rows] == [("convert", "success"), ("split", "success")]
    with pytest.raises(KeyError), run.timed("convert"):
        raise KeyError
    rows = read_json(run.directory / "timings.json")
    assert [(row["task"], row["state"]) for row in rows] == [("convert", "failed"), ("split", "success")]


def test_the_link_to_a_dataset_outlives_a_move_of_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "old"))
    run = Run.create("one", Parameters())
    (tmp_path / "old" / "datasets" / "med" / "1").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    run.take_dataset(tmp_path / "elsewhere")
    assert run.curated.readlink() == tmp_path / "elsewhere"
    run.take_dataset(tmp_path / "old" / "datasets" / "med" / "1")
    (tmp_path / "old").rename(tmp_path / "new")
    moved = tmp_path / "new" / "runs" / "one" / "curated"
    assert moved.resolve() == tmp_path / "new" / "datasets" / "med" / "1"
