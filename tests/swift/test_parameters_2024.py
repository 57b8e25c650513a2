import re
from pathlib import Path

import pytest

from medllm_ops.swift.arguments import known_arguments
from medllm_ops.swift.parameters_2024 import SUCCESSORS


@pytest.fixture(scope="module")
def table(repository: Path) -> list[list[str]]:
    """The README's table: number, name of 2024, today's name, limits, trap."""
    lines = (repository / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| \d+ \|", line)]
    return [row for row in rows if len(row) == 5]


def test_all_27_are_there_in_order(table: list[list[str]]) -> None:
    assert [int(row[0]) for row in table] == list(range(1, 28))
    assert [row[1].strip("`") for row in table] == list(SUCCESSORS)


def test_every_name_of_today_is_one_that_ms_swift_knows(
    table: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path))
    known_arguments.cache_clear()
    known = set(known_arguments()["sft"])
    known_arguments.cache_clear()
    for _, old, today, *_ in table:
        name = old.strip("`") if today.startswith("same") else re.search(r"`(\w+)`", today)
        if name is None:
            assert today.startswith(("`#N`", "a data set")), today
            continue
        assert (name if isinstance(name, str) else name[1]) in known, today
