"""The images' installs, the lock and the extras hold together."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = {"airflow": {"control"}, "trainer": {"control", "train"}}
# torch brings the CUDA wheels that fit it, by exact versions of its own; the lock leaves them out.
BY_TORCH = ("nvidia-", "cuda-", "triton")
HEAVY = {"torch", "ms-swift", "transformers", "peft", "deepspeed", "gradio", "modelscope"}
INSTALL = re.compile(r"python3?(?:\.11)? -m pip install ([^&;]+)")


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def lock(repository: Path) -> dict[str, str]:
    lines = (repository / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def installs(image: Any) -> list[str]:
    return [" ".join(line.split()) for run in image.arguments("RUN") for line in INSTALL.findall(run)]


def extras_of(image: Any) -> set[str]:
    (wanted,) = re.findall(r"'\.\[([a-z,]+)\]'", " ".join(installs(image)))
    return set(wanted.split(","))


@pytest.mark.parametrize("name", EXTRAS)
def test_an_image_installs_its_extras_and_all_of_it_by_the_lock(
    name: str, images: dict[str, Any], project: dict[str, Any]
) -> None:
    image = images[name]
    assert extras_of(image) == EXTRAS[name]
    assert EXTRAS[name] <= set(project["optional-dependencies"])
    *packages, itself = installs(image)
    assert itself == "--no-deps --editable ."
    assert packages
    assert all(line.startswith("--constraint requirements.txt ") for line in packages)
    assert len(installs(image)) == sum(run.count("pip install") for run in image.arguments("RUN"))


def closure(requirements: list[str]) -> set[str]:
    """All that comes with these packages, by what is installed here."""
    found: set[tuple[str, str]] = set()
    todo = [Requirement(line) for line in requirements]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in found or name.startswith(BY_TORCH):
                continue
            found.add((name, extra))
            try:
                wanted = distribution(name).requires or []
            except PackageNotFoundError:
                pytest.fail(f"{name} is not installed: run make install")
            for line in wanted:
                inner = Requirement(line)
                if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                    todo.append(inner)
    return {name for name, _ in found}


@pytest.mark.parametrize("name", EXTRAS)
def test_the_lock_has_all_that_an_image_installs(
    name: str, images: dict[str, Any], project: dict[str, Any], lock: dict[str, str]
) -> None:
    extras = project["optional-dependencies"]
    packages = closure(
        [*project["dependencies"], *(line for extra in extras_of(images[name]) for line in extras[extra])]
    )
    assert not packages - {canonicalize_name(locked) for locked in lock}
    if name == "airflow":
        assert not packages & HEAVY
    else:
        assert packages >= HEAVY
    # The driver that the compose file's database needs, for both of Airflow's engines, and what its broker needs.
    assert packages >= {"psycopg2-binary", "asyncpg", "apache-airflow-providers-celery", "celery", "redis"}


def test_both_images_have_one_interpreter_and_one_layout(images: dict[str, Any], project: dict[str, Any]) -> None:
    airflow, trainer = images["airflow"], images["trainer"]
    assert airflow.defaults["PYTHON_IMAGE"] == trainer.defaults["PYTHON_IMAGE"] == "python:3.11-slim-bookworm"
    assert project["requires-python"] == ">=3.11"
    assert airflow.arguments("FROM") == ["${PYTHON_IMAGE}"]
    assert trainer.arguments("FROM") == ["${PYTHON_IMAGE} AS python", "${CUDA_IMAGE}"]
    assert re.fullmatch(r"nvidia/cuda:13\.\d+\.\d+-devel-ubuntu24\.04", trainer.defaults["CUDA_IMAGE"])
    assert airflow.variables.items() <= trainer.variables.items()
    assert airflow.variables["MEDLLM_HOME"] == "/srv/medllm"
    assert airflow.arguments("WORKDIR") == trainer.arguments("WORKDIR") == ["/opt/medllm"]
    assert trainer.arguments("CMD") == ['["medllm-ops", "trainer"]']


@pytest.mark.parametrize("name", EXTRAS)
def test_what_an_image_copies_is_there_and_reaches_the_engine(
    name: str, images: dict[str, Any], repository: Path
) -> None:
    rules = (repository / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert "*" in rules
    for source in images[name].copied:
        assert (repository / source).exists(), source
        assert any(source == rule or source.startswith(f"{rule}/") for rule in allowed), source
    assert {"plugins", "dags", "include"} <= set(images[name].copied)
    # No state, no secret, no history.
    assert not any(fnmatch.fnmatch(secret, rule) for secret in (".env", "var", ".git", ".venv") for rule in allowed)


def test_the_executor_of_the_compose_file_can_be_imported() -> None:
    # The provider allows a Celery that it does not work with.
    from airflow.providers.celery.executors import celery_executor_utils

    assert celery_executor_utils.app.tasks["execute_workload"]
