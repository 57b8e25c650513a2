"""The sentences that docs/operations/what_to_do.md quotes are those of the program."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

QUOTED = re.compile(r"^> `(.+)`$", re.MULTILINE)


def texts(source: str) -> Iterator[str]:
    """Each text of a module, with … in place of what is filled in."""
    tree = ast.parse(source)
    within: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            within |= set(ast.walk(node)) - {node}
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in within:
            yield node.value


@pytest.fixture(scope="module")
def sentences(repository: Path) -> list[str]:
    modules = sorted((repository / "plugins" / "medllm_ops").rglob("*.py"))
    return [text for path in modules for text in texts(path.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "operations" / "what_to_do.md").read_text(encoding="utf-8")


def test_what_is_quoted_is_what_the_program_says(page: str, sentences: list[str]) -> None:
    quoted = QUOTED.findall(page)
    assert len(quoted) >= 30
    assert [text for text in quoted if not any(text in sentence for sentence in sentences)] == []


def test_each_situation_says_what_to_do(page: str) -> None:
    entries = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    assert len(entries) >= 25
    for entry in entries:
        rest = [line for line in entry.splitlines()[1:] if line and not line.startswith(">")]
        assert rest, entry
