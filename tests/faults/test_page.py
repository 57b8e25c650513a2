"""The table of faults in the docs: every test that it names is there, and runs where the table says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

# Whether all of the test is for `make slow`.
PLACES = {"CI": False, "slow": True, "CI, slow": False}


def rows(repository: Path) -> list[tuple[str, str]]:
    """The last two cells of each row: a test, and where it runs."""
    text = (repository / "docs" / "operations" / "faults.md").read_text(encoding="utf-8")
    found = re.findall(r"\| `(tests/[^`]+)` \| ([^|]+) \|$", text, re.MULTILINE)
    lines = [line for line in text.splitlines() if line.startswith("| ") and "| test |" not in line]
    assert len(found) == len(lines), "a row names no test"
    return found


def is_slow(node: ast.AST) -> bool:
    return "pytest.mark.slow" in ast.unparse(node)


def test_every_test_of_the_table_is_there_and_runs_where_it_says(repository: Path) -> None:
    table = rows(repository)
    assert len(table) > 40
    for name, place in table:
        file, _, function = name.partition("::")
        tree = ast.parse((repository / file).read_text(encoding="utf-8"))
        tests = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function in tests, f"{name} is not there"
        marks = [
            node for node in tree.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node.targets)
        ]
        plainly = [node for node in tests[function].decorator_list if ast.unparse(node) == "pytest.mark.slow"]
        slow = any(map(is_slow, marks)) or bool(plainly)
        assert place in PLACES, f"{name}: {place} is no place"
        assert slow == PLACES[place], f"{name} runs in {'make slow' if slow else 'CI'}"


@pytest.mark.parametrize("word", ["SIGTERM", "SIGKILL", "launcher", "rank", "supervisor", "worker", "scheduler"])
def test_everybody_who_can_be_killed_is_in_it(repository: Path, word: str) -> None:
    assert word in (repository / "docs" / "operations" / "faults.md").read_text(encoding="utf-8")
