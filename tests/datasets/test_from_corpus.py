"""A run trains on one version of the corpus."""

from pathlib import Path

import pytest

from medllm_ops.corpus.items import write_items
from medllm_ops.corpus.storage import open_storage
from medllm_ops.corpus.writer import open_writer
from medllm_ops.datasets.convert import convert_source
from medllm_ops.errors import MedllmError
from medllm_ops.fetch.base import FetchedFile
from medllm_ops.files import read_json, read_json_lines
from medllm_ops.records import Deletion, Document


def document(number: int, retracted: bool = False) -> Document:
    return Document(
        id=f"pubmed:{number}", source="pubmed", language="en", title="", text=f"text {number}", retracted=retracted
    )


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    url = str(tmp_path / "corpus")
    updates = [
        [document(number, retracted=number == 3) for number in range(10)],
        [Deletion(id=f"pubmed:{number}", file="", position="") for number in range(10)],
    ]
    for number, items in enumerate(updates):
        write_items(items, tmp_path / "items")
        with open_writer(open_storage(url), "pubmed") as writer:
            writer.apply(FetchedFile(name=str(number), path=tmp_path), tmp_path / "items")
    return url


def test_a_version_of_the_corpus_is_taken_as_it_was(corpus: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = convert_source("pubmed", [], str(out), corpus={"url": corpus, "version": 1})
    assert result == {"directory": str(out), "step": "corpus pubmed", "in": 10, "out": 10, "dropped": {}}
    rows = list(read_json_lines(out / "records.jsonl"))
    assert [row["id"] for row in rows] == [f"pubmed:{number}" for number in range(10)]
    assert [row["id"] for row in rows if row["retracted"]] == ["pubmed:3"]
    assert rows[0]["messages"] == [{"role": "assistant", "content": "text 0"}]
    assert read_json(out / "ledger.json") == {"step": "corpus pubmed", "in": 10, "out": 10, "dropped": {}}


def test_a_sample_is_counted(corpus: str, tmp_path: Path) -> None:
    result = convert_source("pubmed", [], str(tmp_path / "out"), 4, {"url": corpus, "version": 1})
    assert (result["in"], result["out"], result["dropped"]) == (10, 4, {"not in the sample": 6})


def test_a_version_without_living_records_fails(corpus: str, tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match="version 2: no record of pubmed is alive"):
        convert_source("pubmed", [], str(tmp_path / "out"), corpus={"url": corpus, "version": 2})
