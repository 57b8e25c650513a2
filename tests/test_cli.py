import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from medllm_ops.cli import app, main
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, read_json_lines
from medllm_ops.parameters import Parameters

GOOD = '{"instruction": "q", "output": "a"}\n'


def rows(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_convert_ends_well_with_rejects(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["convert", "alpaca", str(rows(tmp_path, f"{GOOD}broken\n")), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [f"2 in, 1 out, 1 dropped → {out}", "  1 × not JSON"]
    assert read_json(out / "ledger.json") == {"step": "convert alpaca", "in": 2, "out": 1, "dropped": {"not JSON": 1}}
    assert [row["position"] for row in read_json_lines(out / "rejects.jsonl")] == ["line 2"]


def test_convert_says_which_file_could_not_be_read_and_keeps_the_others(tmp_path: Path) -> None:
    files = [str(tmp_path / "none.jsonl"), str(rows(tmp_path, GOOD))]
    result = CliRunner().invoke(app, ["convert", "alpaca", *files, "--out", str(tmp_path / "out")])
    assert result.exit_code == 3
    assert result.stderr == f"error: {files[0]}: no such file or directory\n"
    assert len(list(read_json_lines(tmp_path / "out" / "records.jsonl"))) == 1


def test_brackets_in_a_path_are_no_markup(tmp_path: Path) -> None:
    out = tmp_path / "[/b]" / "[bold]"
    result = CliRunner().invoke(app, ["convert", "alpaca", str(rows(tmp_path, GOOD)), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert str(out) in result.stdout


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_steps=5", 5),
        ("learning_rate=1e-4", 1e-4),
        ("sources=[pubmed, docx]", ["pubmed", "docx"]),
        ("corpus=3", "3"),
        ("corpus=2026-10-01", "2026-10-01"),
        ("raw=", None),
        ("name_en=", ""),
        ("name_en={{NAME}}", "{{NAME}}"),
        ("name_en=Med: Buddy", "Med: Buddy"),
        ("epochs=3", 3),
    ],
)
def test_settings_are_read_as_their_fields_take_them(setting: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(Parameters, "check", seen.append)
    CliRunner().invoke(app, ["run", "--set", setting])
    assert seen[0][setting.partition("=")[0]] == value


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("sources", "--set sources: it must be NAME=VALUE"),
        ("sources=[pubmed", "--set sources=[pubmed: the value is not"),
    ],
)
def test_a_setting_that_cannot_be_read_is_refused(setting: str, sentence: str) -> None:
    with pytest.raises(MedllmError, match=re.escape(sentence)):
        CliRunner().invoke(app, ["run", "--set", setting], catch_exceptions=False)


def test_what_a_user_can_act_on_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["medllm-ops", "convert", "alpca", "rows.jsonl", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: there is no source 'alpca'; did you mean alpaca?")
