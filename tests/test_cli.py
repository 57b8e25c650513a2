import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from medllm_ops import chain
from medllm_ops.chain import Step
from medllm_ops.cli import app, main
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, read_json_lines
from medllm_ops.parameters import Parameters
from medllm_ops.run import Run

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


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))
    return Run.create("x", Parameters.check({"recipe": "tiny", "dpo": False}))


@pytest.mark.parametrize(("name", "sentence"), [("mergesft", "no step 'mergesft'"), ("dpo", "step dpo is off")])
def test_a_step_that_the_run_does_not_have_leaves_no_trace_in_it(run: Run, name: str, sentence: str) -> None:
    with pytest.raises(MedllmError, match=sentence):
        CliRunner().invoke(app, ["step", name, "--run", str(run.directory)], catch_exceptions=False)
    assert run.state_of(name) is None


@pytest.mark.parametrize("error", [MedllmError("the reason"), OSError("the reason")])
def test_a_report_that_cannot_be_made_does_not_hide_why_the_run_failed(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    def no_report(directory: Path) -> None:
        raise MedllmError("a file is not what its step writes")

    monkeypatch.setattr(chain, "STEPS", (Step("plan", "first", fail),))
    monkeypatch.setattr("medllm_ops.cli.start", lambda name, parameters: run)
    monkeypatch.setattr("medllm_ops.report.build.build_report", no_report)
    result = CliRunner().invoke(app, ["run"])
    assert result.exception is error
    assert "no report could be made: a file is not what its step writes" in result.output


def test_a_model_that_did_not_pass_its_gates_is_not_served(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[str] = []
    monkeypatch.setattr("medllm_ops.serving.prove.serve_model", lambda **arguments: served.append(arguments["name"]))
    recipe = {"name": "x", "model": "tiny-random-qwen2", "stages": {"sft": {"max_steps": 1}}}
    for state, enforced, count in (("failed", True, 0), ("failed", False, 1), ("success", True, 1)):
        run.recipe_file.write_text(yaml.safe_dump({**recipe, "enforce_gates": enforced}), encoding="utf-8")
        run.write_timing("evaluate", 1.0, state)
        served.clear()
        result = CliRunner().invoke(app, ["step", "serve", "--run", str(run.directory)])
        assert len(served) == count, result.output
        assert count or "has not passed its gates" in str(result.exception)


def test_what_a_user_can_act_on_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["medllm-ops", "convert", "alpca", "rows.jsonl", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: there is no source 'alpca'; did you mean alpaca?")
