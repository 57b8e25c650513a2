"""From records to runs, models and services; and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from typer.testing import CliRunner

from corpus.toys import bring, deletion, document
from lineage.frozen import freeze
from medllm_ops.corpus.storage import Storage, open_storage
from medllm_ops.datasets.store import Dataset
from medllm_ops.errors import MedllmError
from medllm_ops.files import write_json, write_json_lines
from medllm_ops.lineage.cli import lineage
from medllm_ops.lineage.runs import find_run, run_of_model, trained_runs
from medllm_ops.lineage.trace import trace, withdrawn
from medllm_ops.serving.registry import Service

app = typer.Typer()
app.command()(lineage)
STAGES = ["pretrain", "sft", "self_cognition"]


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def told(*arguments: str) -> Any:
    result = invoke(*arguments, "--json")
    assert result.exception is None, result.exception
    return orjson.loads(result.stdout)


def make_run(home: Path, name: str, dataset: Dataset | None, merged: list[str], stages: list[str] = STAGES) -> Path:
    folder = home / "runs" / name
    write_json(folder / "run.json", {"run": name, "parameters": {}})
    write_json(folder / "plan.json", {"stages": stages})
    if dataset:
        (folder / "curated").symlink_to(dataset.directory)
    for stage in merged:
        (folder / "merged" / stage).mkdir(parents=True)
    return folder


def serve(name: str, model: Path) -> None:
    Service(name, "endpoint", "127.0.0.1", 1234, name, str(model), "a secret").write()


@pytest.fixture
def house(storage: Storage, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus of which 2 of 5 records were withdrawn; two datasets, two runs, two services of which one runs."""
    bring(storage, "file 1", [document(number) for number in range(5)])
    rows = {"pubmed": {"toy:0": "a", "toy:1": "b"}, "alpaca": {"toy:2": "c"}}
    one = freeze("med", 1, rows, {"pubmed": {"toy:3": "d"}}, corpus=storage.url, corpus_version=1)
    freeze("med", 2, {"pubmed": {"toy:4": "e"}}, {}, corpus=storage.url, corpus_version=1)
    bring(storage, "file 2", [deletion(1), document(3, retracted=True)])
    run = make_run(own_home, "nightly", one, STAGES)
    make_run(own_home, "half", one, ["pretrain"])
    make_run(own_home, "planned", None, [])
    (own_home / "runs" / "latest").symlink_to("nightly")
    serve("up", run / "merged" / "self_cognition")
    serve("down", run / "merged" / "sft")
    monkeypatch.setattr(Service, "running", lambda self: self.name == "up")
    return own_home


@pytest.mark.usefixtures("house")
def test_a_record_that_was_learnt() -> None:
    found = trace("toy:1").to_row()
    assert found["corpus"]["record"]["lived"] == [(1, 1)]
    assert [(place["dataset"], place["side"]) for place in found["datasets"]] == [("med@1", "train")]
    half, nightly = found["runs"]
    assert (half["run"], list(half["models"]), half["services"]) == ("half", ["pretrain"], [])
    assert (nightly["run"], list(nightly["models"])) == ("nightly", STAGES)
    assert nightly["services"] == [{"name": "up", "url": "http://127.0.0.1:1234/v1"}]


@pytest.mark.usefixtures("house")
def test_a_line_of_a_dataset_is_its_record_s() -> None:
    assert trace("toy:1#2").to_row() == trace("toy:1@2#1").to_row() == trace("toy:1").to_row()


@pytest.mark.usefixtures("house")
def test_a_line_that_the_corpus_does_not_know_is_looked_for_in_datasets() -> None:
    freeze("plain", 1, {"made": {"made:1": "a"}}, {})
    assert [place["dataset"] for place in trace("made:1#4").to_row()["datasets"]] == ["plain@1"]
    assert trace("made:2#4").to_row()["id"] == "made:2#4"


@pytest.mark.usefixtures("house")
def test_a_stage_before_the_one_that_trained_on_it_has_not_seen_it() -> None:
    half, nightly = trace("toy:2").to_row()["runs"]
    assert half["models"] == {}
    assert list(nightly["models"]) == ["sft", "self_cognition"]


@pytest.mark.usefixtures("house")
def test_a_record_that_only_measured() -> None:
    found = trace("toy:3").to_row()
    assert [place["side"] for place in found["datasets"]] == ["val"]
    assert [(use["side"], use["models"], use["services"]) for use in found["runs"]] == [("val", {}, [])] * 2


@pytest.mark.usefixtures("house")
def test_a_record_that_nobody_knows() -> None:
    assert trace("toy:77").to_row() | {"corpus": {}} == {"id": "toy:77", "corpus": {}, "datasets": [], "runs": []}
    result = invoke("toy:77")
    assert "never had it" in result.stdout
    assert "no dataset has it" in result.stdout


def make_seen(folder: Path, sets: dict[str, tuple[str, list[str]]]) -> None:
    """What a run made of its dataset: by set, its stage and ids."""
    for name, (_, ids) in sets.items():
        write_json_lines(folder / "dataset" / "train" / f"{name}.jsonl", [{"id": one, "messages": []} for one in ids])
        write_json_lines(folder / "dataset" / "val" / f"{name}.jsonl", [])
    manifest = {"sets": {name: {"stage": stage} for name, (stage, _) in sets.items()}}
    write_json(folder / "dataset" / "manifest.json", manifest)


def test_a_run_with_a_dataset_of_its_own(house: Path) -> None:
    folder = make_run(house, "own", None, ["sft"], ["sft"])
    make_seen(folder, {"notes": ("sft", ["toy:4"])})
    uses = trace("toy:4").to_row()["runs"]
    assert [(use["run"], use["side"], list(use["models"])) for use in uses] == [("own", "train", ["sft"])]
    assert find_run("own").dataset.directory == (folder / "dataset").resolve()


def test_only_what_a_run_made_of_its_dataset_was_seen(house: Path) -> None:
    """The run left toy:1 out, and mixed toy:2 into two of its sets."""
    make_seen(
        house / "runs" / "nightly",
        {"alpaca": ("sft", ["toy:2"]), "self_cognition": ("self_cognition", ["toy:2@2", "toy:0", "identity:x"])},
    )
    assert [use["run"] for use in trace("toy:1").to_row()["runs"]] == ["half"]
    uses = [use for use in trace("toy:2").to_row()["runs"] if use["run"] == "nightly"]
    assert [list(use["models"]) for use in uses] == [["sft", "self_cognition"], ["self_cognition"]]
    report = told("--retracted", "--run", "nightly")[0]
    assert (report["withdrawn"], report["runs"]) == ({"train": 0, "val": 0}, ["nightly"])
    bring(open_storage(str(house / "corpus")), "file 3", [deletion(2), deletion(0)])
    report = told("--retracted", "--run", "nightly")[0]
    assert report["withdrawn"] == {"train": 3, "val": 0}
    assert {row["id"] for row in report["records_withdrawn"]} == {"toy:2", "toy:0"}
    assert [service["name"] for service in report["services"]] == ["up"]


def test_runs_are_found_by_name_folder_and_model(house: Path) -> None:
    assert [run.name for run in trained_runs()] == ["half", "nightly"]
    assert find_run("latest").name == "nightly"
    assert find_run(str(house / "runs" / "half")).name == "half"
    assert run_of_model(house / "runs" / "half" / "merged" / "pretrain").name == "half"
    with pytest.raises(MedllmError, match=r"no run 'other' \(runs: half, nightly\)"):
        find_run("other")
    with pytest.raises(MedllmError, match="planned has no dataset yet"):
        find_run("planned")
    with pytest.raises(MedllmError, match="does not lie in the folder of a run"):
        run_of_model(house / "elsewhere")


@pytest.mark.usefixtures("house")
def test_withdrawn_records_and_what_they_reached() -> None:
    first, second = (report.to_row() for report in withdrawn())
    assert first["dataset"] == "med@1"
    assert first["withdrawn"] == {"train": 1, "val": 1}
    assert first["share"] == 1 / 3
    assert first["runs"] == ["half", "nightly"]
    assert len(first["models"]) == 4
    assert [service["name"] for service in first["services"]] == ["up"]
    assert [row["id"] for row in first["records_withdrawn"]] == ["toy:1", "toy:3"]
    assert (second["dataset"], second["share"], second["runs"]) == ("med@2", 0.0, [])


def test_the_command_answers_for_a_dataset_a_run_and_a_model(house: Path) -> None:
    model = house / "runs" / "nightly" / "merged" / "self_cognition"
    for asked in (["--dataset", "med@1"], ["--run", "latest"], ["--model", str(model)]):
        assert [report["dataset"] for report in told("--retracted", *asked)] == ["med@1"]
    assert [report["dataset"] for report in told("--retracted")] == ["med@1", "med@2"]
    assert told("toy:1") == orjson.loads(orjson.dumps(trace("toy:1").to_row()))


@pytest.mark.usefixtures("house")
def test_the_command_in_words() -> None:
    result = invoke("toy:1")
    assert "toy:1: gone in corpus" in result.stdout
    assert "dataset med@1: train (pubmed)" in result.stdout
    assert "served as up at http://127.0.0.1:1234/v1" in result.stdout
    result = invoke("--retracted")
    assert "med@1: toy:3 (val): retracted" in result.stdout
    assert "33.333%" in result.stdout


@pytest.mark.usefixtures("house")
def test_a_limit_decides_the_exit_code() -> None:
    assert invoke("--retracted", "--max-share", "0.4").exit_code == 0
    assert invoke("--retracted", "--max-share", "0.3").exit_code == 1
    assert invoke("--retracted", "--dataset", "med@2", "--max-share", "0").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the id of a record, or --retracted"),
        (["toy:1", "--retracted"], "the id of a record, or --retracted"),
        (["toy:1", "--run", "x"], "go with --retracted"),
        (["--retracted", "--run", "x", "--dataset", "y"], "give one of"),
    ],
)
def test_arguments_that_do_not_go_together(arguments: list[str], said: str) -> None:
    result = invoke(*arguments)
    assert isinstance(result.exception, MedllmError)
    assert said in str(result.exception)


def test_nothing_at_all(own_home: Path) -> None:
    assert not own_home.exists()
    assert "there is no dataset" in invoke("--retracted").stdout
