"""The command ``medllm-ops dataset``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from corpus.toys import bring, document
from lineage.frozen import freeze
from medllm_ops.corpus.storage import open_storage
from medllm_ops.datasets.cli import dataset_app
from medllm_ops.datasets.store import versions
from medllm_ops.errors import MedllmError
from medllm_ops.files import write_json

pytestmark = pytest.mark.usefixtures("own_home")


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(dataset_app, list(arguments))


def told(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exception is None, result.exception
    return str(result.stdout)


@pytest.fixture
def _two(own_home: Path) -> None:
    freeze("med", 1, {"toy": {"toy:1": "a", "toy:2": "b"}}, {"toy": {"toy:3": "c"}}, settings={"seed": 1})
    freeze("med", 2, {"toy": {"toy:1": "a", "toy:2": "d"}}, {"toy": {"toy:3": "c"}}, settings={"seed": 2})


@pytest.fixture
def _corpus(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDLLM_CORPUS", raising=False)
    texts = [" ".join(f"w{number}x{place * 7 % (11 + number)}" for place in range(40)) for number in range(12)]
    storage = open_storage(str(own_home / "corpus"))
    bring(storage, "file 1", [document(number, text) for number, text in enumerate(texts)])


@pytest.mark.usefixtures("_two")
def test_list_and_show() -> None:
    assert told("list").split()[-8:] == ["med", "1", "2", "1", "med", "2", "2", "1"]
    shown = told("show", "med@1")
    assert "toy" in shown
    row = orjson.loads(told("show", "med", "--json"))
    assert (row["dataset"], row["sources"]["toy"]["train"]) == ("med@2", 2)


def test_show_says_nothing_of_a_hash_that_a_folder_of_curate_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "curated").mkdir()
    write_json(tmp_path / "curated" / "manifest.json", {"sources": {}})
    assert told("show", str(tmp_path / "curated")).splitlines()[-1] == f"in {tmp_path / 'curated'}"


def test_list_of_nothing() -> None:
    assert told("list").strip() == "there is no dataset"


@pytest.mark.usefixtures("_two")
def test_diff() -> None:
    assert "settings: seed: 1 → 2" in told("diff", "med@1", "med@2")
    row = orjson.loads(told("diff", "med@1", "med", "--json"))
    assert row["records"][0] == {
        "source": "toy",
        "side": "train",
        "added": 0,
        "removed": 0,
        "changed": 1,
        "moved": 0,
        "same": 1,
    }
    lines = told("diff", "med@1", "med@2", "--ids").splitlines()
    assert [orjson.loads(line) for line in lines] == [
        {"id": "toy:2", "source": "toy", "side": "train", "what": "changed"}
    ]


@pytest.mark.usefixtures("_two")
def test_verify_has_an_exit_code(own_home: Path) -> None:
    assert "med@2 is as it was built" in told("verify", "med")
    with (own_home / "datasets" / "med" / "2" / "train" / "toy.jsonl").open("ab") as file:
        file.write(b'{"id":"toy:9","messages":[]}\n')
    result = invoke("verify", "med")
    assert result.exit_code == 1
    assert "error: train/toy.jsonl was changed" in result.stderr
    assert invoke("verify", "med@1").exit_code == 0


@pytest.mark.usefixtures("_corpus")
def test_build(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("clean: {enabled: false}\nscrub: {enabled: false}\nsplit: {val_share: 0.5}\n")
    stopped = invoke("build", "med", "--settings", str(settings))
    assert isinstance(stopped.exception, MedllmError)
    assert "licences.allow" in str(stopped.exception)
    arguments = ["build", "med", "--settings", str(settings), "--allow-licence", "toy"]
    first = told(*arguments)
    assert "unknown: 12" in first
    assert "med@1: " in first
    assert "med@1 (as built before)" in told(*arguments)
    assert versions("med") == [1]
    shown = told("show", "med")
    assert "corpus" in shown
    assert "version 1" in shown
    assert told("verify", "med")


@pytest.mark.usefixtures("_corpus")
def test_wrong_arguments_are_sentences(tmp_path: Path) -> None:
    for arguments, said in (
        (["build", "med", "--version", "9"], "no version 9"),
        (["build", "med", "--source", "pubmed"], "nothing of pubmed"),
        (["show", "other"], "no dataset 'other'"),
    ):
        result = invoke(*arguments)
        assert isinstance(result.exception, MedllmError), result.exception
        assert said in str(result.exception)
    assert invoke("build", "med", "--runner", "spark").exit_code == 2
