from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from lineage.frozen import freeze
from medllm_ops.report.data.cli import report

Change = Callable[[str, Callable[[Any], Any]], None]


@pytest.fixture
def run() -> Callable[..., Any]:
    app = typer.Typer()
    app.command()(report)
    return lambda *arguments: CliRunner().invoke(app, [str(each) for each in arguments])


def test_what_is_to_be_looked_at_is_printed(run: Callable[..., Any], dataset: Path) -> None:
    result = run(dataset, "--previous", dataset)
    assert result.exit_code == 0
    assert result.output.splitlines()[0] == "to look at: 220 rows have no known licence: 220 of deepctrl."
    assert "note:       Since 2026-11: 0 new rows, 0 with another text, 0 gone." in result.output.splitlines()
    last = result.output.splitlines()[-1]
    assert last == f"7 of 13 findings are good: {dataset / 'report' / 'data_report.html'}"


def test_a_dataset_is_named_as_elsewhere(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path))
    for version in (1, 2):
        freeze("med", version, {"toy": {"toy:1": "a"}}, {"toy": {"toy:2": "b"}})
    result = run("med", "--previous", "med@1")
    assert result.exit_code == 0
    assert (tmp_path / "datasets" / "med" / "2" / "report" / "data_report.html").is_file()
    assert "Since 1: 0 new rows" in result.output


def test_what_is_wrong_ends_with_an_error(run: Callable[..., Any], dataset: Path, change: Change) -> None:
    change("ledger.json", lambda rows: rows[0].update(source="pub\u202emed"))
    result = run(dataset)
    assert result.exit_code == 1
    assert result.output.startswith("wrong:      This does not hold")
    assert "pub[U+202E]med" in result.output
    assert "\u202e" not in result.output
