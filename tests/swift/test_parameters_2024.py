import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.swift.parameters_2024 import SUCCESSORS
from medllm_ops.swift.recipe import load_recipe

Rows = list[list[str]]


def read_rows(path: Path, columns: int) -> Rows:
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| (\d+|`\w+`) \|", line)
    ]
    return [row for row in rows if len(row) == columns]


@pytest.fixture(scope="module")
def table(repository: Path) -> Rows:
    """The README's table: number, name of 2024, today's name, limits, trap."""
    return [row for row in read_rows(repository / "README.md", 5) if row[0].isdigit()]


@pytest.fixture(scope="module")
def page(repository: Path) -> Path:
    return repository / "docs" / "parameters_2024.md"


@pytest.fixture(scope="module")
def defaults() -> dict[str, Any]:
    """The arguments of ``swift sft`` and their defaults, from ms-swift itself."""
    script = (
        "import dataclasses, json\n"
        "from swift import SftArguments\n"
        "fields = {each.name: each for each in dataclasses.fields(SftArguments)}\n"
        "values = {\n"
        "    name: each.default if each.default_factory is dataclasses.MISSING else each.default_factory()\n"
        "    for name, each in fields.items()\n"
        "}\n"
        "print('ANSWER' + json.dumps(values, default=str))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.partition("ANSWER")[2]))


def test_all_27_are_there_in_order(table: Rows, page: Path) -> None:
    for rows in (table, read_rows(page, 6)):
        assert [int(row[0]) for row in rows] == list(range(1, 28))
        assert [row[1].strip("`") for row in rows] == list(SUCCESSORS)


def test_every_name_of_today_is_one_that_ms_swift_knows(table: Rows, defaults: dict[str, Any]) -> None:
    for _, old, today, *_ in table:
        name = old.strip("`") if today.startswith("same") else re.search(r"`(\w+)`", today)
        if name is None:
            assert today.startswith(("`#N`", "a data set")), today
            continue
        assert (name if isinstance(name, str) else name[1]) in defaults, today


def test_the_defaults_of_today_are_ms_swifts_own(page: Path, defaults: dict[str, Any]) -> None:
    told = {row[3].strip("`"): row[4] for row in read_rows(page, 6) if row[3] != "–"}
    told |= {row[0].strip("`"): row[2] for row in read_rows(page, 3)}
    assert len(told) == 23 + 7
    assert {name: ast.literal_eval(value.strip("`")) for name, value in told.items()} == {
        name: defaults.get(name, "unknown to ms-swift") for name in told
    }


def test_the_recipe_of_2024_writes_the_changed_defaults_out(page: Path) -> None:
    then = {row[0].strip("`"): ast.literal_eval(row[1].strip("`")) for row in read_rows(page, 3)}
    # 1.x saved whenever it evaluated.
    then["save_steps"] = then["eval_steps"]
    for stage in load_recipe("qwen_14b_chat_2024").stages.values():
        values = {**stage.model_dump(), **stage.extra}
        assert {name: values[name] for name in then} == then
