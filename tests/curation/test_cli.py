"""``medllm-ops curate``: what a person types and reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from curation import made
from medllm_ops.curation.cli import curate_app
from medllm_ops.curation.explain import record_of
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "120")
    app = typer.Typer()
    app.add_typer(curate_app, name="curate")
    app.command()(lambda: None)

    def call(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, ["curate", *map(str, arguments)], catch_exceptions=False)

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


def test_the_funnel_is_told_and_the_folder_is_there(run: Run, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(rows, "--out", out, "--workers", "1")
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert ["read", "52", "50", "1", "not", "JSON"] in lines
    assert ["1", "retracted"] in lines
    assert ["clean", "50", "49", "1", "too", "short"] in lines
    assert ["scrub", "49", "49"] in lines
    sources = read_json(out / "manifest.json")["sources"]
    for name in ("made", "other"):
        (line,) = (line for line in lines if line[:1] == [name])
        assert [int(figure) for figure in line[3:]] == [sources[name]["train"], sources[name]["val"]]
        assert int(line[1]) == sum(map(int, line[2:]))
    assert f"made: {out}" in result.output
    again = run("--out", out, rows)
    assert f"nothing to do, as made before: {out}" in again.output
    assert again.output.splitlines()[:-1] == result.output.splitlines()[:-1]


def test_settings_and_evaluation_sets_are_taken(run: Run, rows: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("sample: {total: 20}\n")
    evalset = tmp_path / "evalset.jsonl"
    evalset.write_bytes(orjson.dumps({"question": made.rows(50, 2)[7]["messages"][-1]["content"]}))
    result = run(rows, "--out", tmp_path / "out", "--settings", settings, "--evalset", evalset)
    assert "overlap with an evaluation set" in result.output
    assert "not in the sample" in result.output
    settings.write_text("sampel: {total: 20}\n")
    with pytest.raises(MedllmError, match="sampel is unknown; did you mean sample"):
        run(rows, "--out", tmp_path / "out", "--settings", settings)


def test_help_names_both_commands(run: Run) -> None:
    for arguments in (["--help"], []):
        told = " ".join(run(*arguments).output.replace("│", " ").split())
        assert "FILE" in told
    assert "--evalset" in run("--help").output
    assert "medllm-ops curate explain ID FILE" in run("--help").output
    assert "ID" in run("explain", "--help").output
    assert run("rows.jsonl").exit_code == 2


def test_explain_shows_what_was_done_and_no_personal_data(run: Run, rows: Path) -> None:
    told = run("explain", "other:private", rows).output
    assert "other:private in rows.jsonl, byte" in told
    assert "clean: turn 1, assistant: html (html.tag ×2)" in told
    assert "scrub: messages.0: PHONE by phone" in told
    assert "13800138000" not in told
    before, after = told.split("what was done")
    assert "<b>Call</b> ⟨PHONE⟩ now." in before
    assert "assistant: Call ⟨PHONE⟩ now." in after


def test_explain_tells_of_what_is_dropped_and_of_what_is_no_record(run: Run, rows: Path) -> None:
    told = run("explain", "made:short", rows).output
    assert "clean: dropped: too short (2 words)" in told
    assert "after: nothing is left" in told
    retracted = made.rows(50, 2)[2]["id"]
    assert "read: dropped: retracted" in run("explain", retracted, rows).output
    position = rows.read_bytes().index(b'{"id": "made:broken"')
    told = run("explain", f"rows.jsonl:{position}", rows).output
    assert "read: dropped: not JSON" in told
    assert "13800138000" not in told
    with pytest.raises(MedllmError, match="no record made:none in"):
        run("explain", "made:none", rows)
    with pytest.raises(MedllmError, match=r"none\.jsonl"):
        run("explain", "made:short", "none.jsonl")


def test_explain_tells_what_became_of_it_in_a_dataset(run: Run, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(rows, "--out", out)
    assert "made:short: removed by clean: too short" in run("explain", "made:short", rows, "--dataset", out).output
    private = run("explain", "other:private#2", rows, "--dataset", out).output
    assert "other:private: in train" in private or "other:private: in val" in private
    twin = next(row for row in map(orjson.loads, (out / "removed.jsonl").open("rb")) if "kept" in row)
    told = run("explain", twin["id"], rows, "--dataset", out).output
    assert f"{twin['id']}: removed by {twin['step']}: {twin['reason']}; {twin['kept']} stands for it" in told
    with pytest.raises(MedllmError, match=r"no folder that curate made"):
        run("explain", twin["id"], rows, "--dataset", tmp_path)


@pytest.mark.parametrize(
    ("id_", "record"),
    [("a:1", "a:1"), ("a:1#3", "a:1"), ("a:1@2", "a:1"), ("a:1@2#3", "a:1"), ("a:x@y", "a:x@y"), ("a#b", "a#b")],
)
def test_the_record_of_a_piece_or_a_repetition(id_: str, record: str) -> None:
    assert record_of(id_) == record
