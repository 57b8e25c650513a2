"""``medllm-ops curate explain``: what a person reads about one record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from click.testing import Result
from typer.testing import CliRunner

from corpus.toys import bring, deletion, document
from curation import made
from lineage.frozen import freeze
from medllm_ops.cli import app
from medllm_ops.corpus.storage import open_storage
from medllm_ops.curation.curate import curate
from medllm_ops.curation.settings import CurationSettings
from medllm_ops.errors import MedllmError

pytestmark = pytest.mark.usefixtures("own_home")

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("MEDLLM_CORPUS", raising=False)

    def call(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, ["curate", "explain", *map(str, arguments)], catch_exceptions=False)

    return call


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    all_rows = made.rows(50, 2)
    all_rows[1] = {**made.row("other:private", 1, "other"), "retracted": False}
    all_rows[1]["messages"][0]["content"] = f"<b>Call</b> 13800138000 now. {made.text(4, 'en')}"
    all_rows[2]["retracted"] = True
    short = made.row("made:short", 3)
    short["messages"][0]["content"] = "Too short."
    return made.write(tmp_path / "rows.jsonl", [*all_rows, short, b'{"id": "made:broken", 13800138000'])


def test_explain_shows_what_was_done_and_no_personal_data(run: Run, rows: Path) -> None:
    told = run("other:private", rows).output
    assert "other:private in rows.jsonl, byte" in told
    assert "clean: turn 1, assistant: html (html.tag ×2)" in told
    assert "scrub: messages.0: PHONE by phone" in told
    assert "13800138000" not in told
    before, after = told.split("what was done")
    assert "<b>Call</b> ⟨PHONE⟩ now." in before
    assert "assistant: Call ⟨PHONE⟩ now." in after


def test_explain_tells_of_what_is_dropped_and_of_what_is_no_record(run: Run, rows: Path) -> None:
    told = run("made:short", rows).output
    assert "clean: dropped: too short (2 words)" in told
    assert "after: nothing is left" in told
    retracted = made.rows(50, 2)[2]["id"]
    assert "read: dropped: retracted" in run(retracted, rows).output
    position = rows.read_bytes().index(b'{"id": "made:broken"')
    told = run(f"rows.jsonl:{position}", rows).output
    assert "read: dropped: not JSON" in told
    assert "13800138000" not in told
    with pytest.raises(MedllmError, match="no record made:none in"):
        run("made:none", rows)
    with pytest.raises(MedllmError, match=r"none\.jsonl"):
        run("made:short", "none.jsonl")


def test_explain_tells_what_became_of_it_in_a_dataset(run: Run, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    curate([rows], out, CurationSettings())
    assert "made:short: removed by clean: too short" in run("made:short", rows, "--dataset", out).output
    private = run("other:private#2", rows, "--dataset", out).output
    assert "other:private: in train" in private or "other:private: in val" in private
    twin = next(row for row in map(orjson.loads, (out / "removed.jsonl").open("rb")) if "kept" in row)
    told = run(twin["id"], rows, "--dataset", out).output
    assert f"{twin['id']}: removed by {twin['step']}: {twin['reason']}; {twin['kept']} stands for it" in told
    with pytest.raises(MedllmError, match=r"no folder that curate made"):
        run(twin["id"], rows, "--dataset", tmp_path)


def test_without_files_the_record_is_the_corpus_s(run: Run, own_home: Path) -> None:
    storage = open_storage(str(own_home / "corpus"))
    text = f"<i>Call</i> 13800138000. {made.text(4, 'en')}"
    bring(storage, "file 1", [document(1, text), document(2, made.text(5, "en"))])
    bring(storage, "file 2", [deletion(2)])
    for id_ in ("toy:1", "toy:1#3"):
        told = run(id_).output
        assert f"{id_} in corpus {own_home / 'corpus'}, version " in told
        assert "clean: turn 1, assistant: html (html.tag ×2)" in told
        assert "scrub: messages.0: PHONE by phone" in told
        assert "13800138000" not in told
    with pytest.raises(MedllmError, match=r"toy:2 is gone from corpus .*, version \d+: deleted"):
        run("toy:2")
    with pytest.raises(MedllmError, match=r"has no record toy:3: name the files"):
        run("toy:3")
    assert "html.tag" in run("toy:1", "--version", "1").output


def test_a_dataset_is_named_as_elsewhere(run: Run, rows: Path) -> None:
    freeze("med", 1, {"other": {"other:private": "a"}}, {"other": {"toy:3": "c"}})
    for name in ("med", "med@1"):
        assert "other:private: in train" in run("other:private", rows, "--dataset", name).output
    with pytest.raises(MedllmError, match="there is no dataset 'none'"):
        run("other:private", rows, "--dataset", "none")
