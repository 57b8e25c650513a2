from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

INSTRUCTION = re.compile(r"^([A-Z]+)\s+(.*)$", re.DOTALL)


def read_dockerfile(path: Path) -> list[tuple[str, str]]:
    """Its instructions with their arguments, each on one line."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [INSTRUCTION.match(line) for line in joined.splitlines() if line.strip()]
    assert all(found), path
    return [(match[1], match[2]) for match in found if match]


class Dockerfile:
    def __init__(self, path: Path) -> None:
        self.instructions = read_dockerfile(path)

    def arguments(self, name: str) -> list[str]:
        return [argument for instruction, argument in self.instructions if instruction == name]

    @property
    def variables(self) -> dict[str, str]:
        return dict(word.split("=", 1) for line in self.arguments("ENV") for word in shlex.split(line))

    @property
    def defaults(self) -> dict[str, str]:
        pairs = (shlex.split(line)[0].partition("=") for line in self.arguments("ARG"))
        return {name: value for name, _, value in pairs}

    @property
    def copied(self) -> list[str]:
        """What it takes from the checkout."""
        lines = [shlex.split(line) for line in self.arguments("COPY") if "--from=" not in line]
        return [source for words in lines for source in words[:-1]]


@pytest.fixture(scope="session")
def compose_text(repository: Path) -> str:
    return (repository / "docker-compose.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def compose(compose_text: str) -> dict[str, Any]:
    """The file with its anchors resolved, and its variables as they stand."""
    return yaml.safe_load(compose_text)  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def images(repository: Path) -> dict[str, Dockerfile]:
    return {name: Dockerfile(repository / f"docker/{name}.Dockerfile") for name in ("airflow", "trainer")}
