"""``medllm-ops corpus``: what a person types and reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from click.testing import Result
from typer.testing import CliRunner

from medllm_ops.cli import app
from medllm_ops.errors import MedllmError
from servers.nlm import NlmMirror
from servers.pubmed_xml import article_set, citation

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def run() -> Run:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["corpus", *arguments], catch_exceptions=False)

    return call


@pytest.fixture
def mirror() -> Iterator[NlmMirror]:
    with NlmMirror() as server:
        server.add("baseline", "pubmed26n0001.xml.gz", article_set([citation(n) for n in range(1, 12)]))
        update = [citation(2, title="New."), citation(3, retracted_type=True), citation(4, abstract=None)]
        server.add("updatefiles", "pubmed26n0002.xml.gz", article_set(update, [1]))
        yield server


def test_refresh_tells_what_was_new_and_then_that_nothing_is(run: Run, mirror: NlmMirror) -> None:
    told = run("refresh", "pubmed", "--base-url", mirror.url).output
    assert "pubmed: 2 raw files, 15 items, corpus version 2" in told
    for line in (
        "  baseline/pubmed26n0001.xml.gz: 11 new, 0 changed, 0 deleted, 0 retracted, 0 rejected",
        "  updatefiles/pubmed26n0002.xml.gz: 0 new, 2 changed, 1 deleted, 1 retracted, 1 rejected, 1 withdrawn",
        "  in all: 11 new, 2 changed, 1 deleted, 1 retracted, 1 rejected, 1 withdrawn",
        "  1 × no abstract",
    ):
        assert line in told.splitlines()
    assert "pubmed: nothing new" in run("refresh", "pubmed", "--base-url", mirror.url).output


def test_a_refresh_that_fails_tells_what_it_did_before(mirror: NlmMirror) -> None:
    mirror.set_md5("updatefiles", "pubmed26n0002.xml.gz", "0" * 32)
    failed = CliRunner().invoke(app, ["corpus", "refresh", "pubmed", "--base-url", mirror.url])
    assert isinstance(failed.exception, MedllmError)
    assert "baseline/pubmed26n0001.xml.gz: 11 new, 0 changed, 0 deleted, 0 retracted, 0 rejected" in failed.output


def test_show_get_and_history_tell_the_state_and_the_facts(run: Run, mirror: NlmMirror) -> None:
    run("refresh", "pubmed", "--base-url", mirror.url)
    shown = run("show").output.split()
    assert shown[shown.index("pubmed") :][:7] == ["pubmed", "9", "1", "2", "1", "2", "pubmed26"]
    assert "last updatefiles/pubmed26n0002.xml.gz" in run("show").output
    record = orjson.loads(run("get", "pubmed:1").output)
    assert (record["deleted"], record["file"]) == ("deleted by its publisher", "updatefiles/pubmed26n0002.xml.gz")
    assert "text" not in record
    told = run("history", "pubmed:3").output
    assert told.index("added") < told.index("changed") < told.index("retracted")
    (reject,) = run("rejects", "pubmed").output.splitlines()
    assert orjson.loads(reject)["reason"] == "no abstract"
    with pytest.raises(MedllmError, match="there is no record 'pubmed:999'"):
        run("get", "pubmed:999")


def test_a_long_name_stands_on_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    folder = tmp_path / "handbooks of all the wards and of the pharmacy"
    folder.mkdir()
    (folder / "questions.jsonl").write_text('{"instruction": "Which dose?", "output": "Ask."}\n')
    run("refresh", "alpaca", "--set", f"location={folder}")
    run("export", "--out", str(tmp_path / "out.jsonl"))
    record = orjson.loads((tmp_path / "out.jsonl").read_bytes())["id"]
    name = "handbooks of all the wards and of the pharmacy/questions.jsonl"
    (fact,) = (line for line in run("history", record).output.splitlines() if name in line)
    assert fact.split()[1:3] == ["added", "1"]
    assert f"alpaca: last {name}, applied " in run("show").output
    assert f"corpus {tmp_path / 'home' / 'corpus'}, version 1 of " in run("show").output


def test_an_export_has_what_it_promises_and_no_more(run: Run, mirror: NlmMirror, tmp_path: Path) -> None:
    run("refresh", "pubmed", "--base-url", mirror.url)
    assert "(pubmed: 8)" in run("export", "--out", str(tmp_path / "out.jsonl")).output
    rows = [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert [row["id"] for row in rows] == [f"pubmed:{number}" for number in (10, 11, 2, 5, 6, 7, 8, 9)]
    assert list(rows[0]) == ["id", "title", "text", "language", "source", "url", "version"]
    assert "(pubmed: 9)" in run("export", "--retracted", "--out", str(tmp_path / "all.jsonl")).output
    assert "(pubmed: 11)" in run("export", "--version", "1", "--out", str(tmp_path / "first.jsonl")).output


def test_a_tag_is_kept_by_compaction_and_a_sound_version_is_called_so(
    run: Run, mirror: NlmMirror, tmp_path: Path
) -> None:
    run("refresh", "pubmed", "--base-url", mirror.url, "--max-files", "1")
    run("tag", "first")
    run("refresh", "pubmed", "--base-url", mirror.url)
    assert "MB freed" in run("compact", "--keep", "1").output
    assert "(pubmed: 11)" in run("export", "--version", "first", "--out", str(tmp_path / "first.jsonl")).output
    assert "is sound" in run("verify").output
    with pytest.raises(MedllmError, match="the tag 'first' is on version 1; move it with --move"):
        run("tag", "first")
    assert run("tag", "first", "--version", "1").exit_code == 0
    assert run("tag", "first", "--move").exit_code == 0


def test_a_rebuilt_corpus_exports_the_same_bytes(run: Run, mirror: NlmMirror, tmp_path: Path) -> None:
    run("refresh", "pubmed", "--base-url", mirror.url)
    run("rebuild", "pubmed", "--out", str(tmp_path / "again"))
    run("export", "--out", str(tmp_path / "old.jsonl"))
    run("export", "--corpus", str(tmp_path / "again"), "--out", str(tmp_path / "new.jsonl"))
    assert (tmp_path / "old.jsonl").read_bytes() == (tmp_path / "new.jsonl").read_bytes()


def test_every_raw_file_that_is_damaged_or_was_not_kept_is_named_where_they_are_asked_for(
    run: Run, mirror: NlmMirror, tmp_path: Path
) -> None:
    run("refresh", "pubmed", "--base-url", mirror.url)
    assert run("verify", "--raw").exit_code == 0
    raw = tmp_path / "home" / "corpus" / "raw"
    for path in raw.glob("blobs/*/*"):
        path.write_bytes(path.read_bytes()[:-1])
    assert run("verify").exit_code == 0
    told = run("verify", "--raw")
    assert told.exit_code == 1
    for name in ("baseline/pubmed26n0001.xml.gz", "updatefiles/pubmed26n0002.xml.gz"):
        assert f"version 2, pubmed: raw file {name} is damaged: its SHA-256 is no longer" in told.output
    (raw / "log" / "pubmed" / "000000000001.json").unlink()
    told = run("verify", "--raw")
    assert "version 2, pubmed: raw file 1 of pubmed was not kept: nothing can be rebuilt" in told.output
    assert "raw file updatefiles/pubmed26n0002.xml.gz is damaged" in told.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["refresh", "pubmd"], "did you mean pubmed"),
        (["refresh", "pubmed", "--set", "querry=x"], "settings.querry is unknown; did you mean query"),
        (["refresh", "pubmed", "--set", "query"], "it must be NAME=VALUE"),
        (["refresh", "pubmed", "--set", "max_files='"], "--set max_files='"),
        (
            ["refresh", "pubmed", "--set", 'query="lung cancer"[title] # 1', "--set", "page_size=0"],
            "settings.page_size",
        ),
        (["refresh", "pubmed", "--since", "yesterday"], "settings.since"),
        (["export", "--out", "x", "--version", "7"], "the corpus has no version 7"),
        (["export", "--out", "x", "--corpus", "/no/such/folder"], "/no/such/folder: there is no corpus"),
        (["rejects", "pubmd"], r"there is nothing of pubmd \(sources: none\)"),
        (["compact", "--corpus", "/no/such/folder"], "/no/such/folder: there is no corpus"),
        (["show", "--corpus", __file__], "test_cli.py: cannot list manifests/: .*Not a directory"),
        (["tag", "7"], "a tag is up to 64 letters"),
    ],
)
def test_a_mistake_is_one_sentence(run: Run, arguments: list[str], sentence: str) -> None:
    with pytest.raises(MedllmError, match=sentence):
        run(*arguments)
