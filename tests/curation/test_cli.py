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


@pytest.mark.parametrize("before", [[], ["--workers", "1"], ["--evalset=none.txt"]])
def test_several_evaluation_sets_may_follow_one_option(run: Run, rows: Path, tmp_path: Path, before: list[str]) -> None:
    questions = [row["messages"][-1]["content"] for row in made.rows(50, 2)]
    (tmp_path / "none.txt").write_text("A question that no row gives away, whichever way one looks at it at all.")
    evalsets = [tmp_path / "one.txt", tmp_path / "two.txt"]
    evalsets[0].write_text(questions[7])
    evalsets[1].write_text(questions[8])
    before = [argument.replace("none.txt", str(tmp_path / "none.txt")) for argument in before]
    assert run(rows, "--out", tmp_path / "out", *before, "--evalset", *evalsets).exit_code == 0
    manifest = read_json(tmp_path / "out" / "manifest.json")
    assert {"one.txt", "two.txt"} <= {one["name"] for one in manifest["evalsets"]}
    assert [one["file"] for one in manifest["inputs"]] == ["rows.jsonl"]


def test_what_follows_an_evaluation_set_in_front_of_the_files_is_a_file(run: Run, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text(made.rows(50, 2)[7]["messages"][-1]["content"])
    assert run("--evalset", tmp_path / "one.txt", rows, "--out", tmp_path / "out").exit_code == 0
    manifest = read_json(tmp_path / "out" / "manifest.json")
    assert [one["name"] for one in manifest["evalsets"]] == ["one.txt"]
    assert [one["file"] for one in manifest["inputs"]] == ["rows.jsonl"]


def test_help_names_both_commands(run: Run) -> None:
    for arguments in (["--help"], []):
        told = " ".join(run(*arguments).output.replace("│", " ").split())
        assert "FILE" in told
    assert "--evalset" in run("--help").output
    assert "medllm-ops curate explain ID" in run("--help").output
    assert run("rows.jsonl").exit_code == 2
