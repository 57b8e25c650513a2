"""Each recipe that ships goes through the whole DAG, as its tiny twin."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dags.recipe_twin import EXTRA_ON_A_GPU, OF_THE_MODEL, ON_A_GPU, SHORTER, STEPS, twin_member, twin_of, write_twin
from medllm_ops.files import read_json
from medllm_ops.home import include
from medllm_ops.swift.recipe import list_recipes, read_recipe
from preferences import write_pairs

Airflow = Callable[..., subprocess.CompletedProcess[str]]


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a recipe by their path, such as ``stages.sft.extra.optim``."""
    found = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": each for inner, each in flat(value).items()}
        else:
            found[name] = value
    return found


@pytest.mark.parametrize("name", list_recipes())
def test_a_twin_differs_in_nothing_but_the_model_the_length_and_what_a_gpu_does(name: str) -> None:
    recipe = read_recipe(name)
    twin = twin_of(recipe, twin_member(recipe), Path("/twin"))
    before, after = (flat(each.model_dump(mode="json", exclude_none=True)) for each in (recipe, twin))
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    allowed = OF_THE_MODEL | SHORTER.keys() | set(ON_A_GPU) | set(EXTRA_ON_A_GPU)
    of_the_class = {"target_modules"} if name == "qwen_14b_chat_2024" else set()
    assert {path.rpartition(".")[2] for path in changed} <= allowed | of_the_class
    assert list(twin.stages) == list(recipe.stages)
    assert (twin == recipe) is (name == "tiny")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", list_recipes())
def test_the_twin_goes_through_the_whole_dag(name: str, airflow: Airflow, medllm_home: Path, tmp_path: Path) -> None:
    recipe = read_recipe(name)
    raw = Path(shutil.copytree(include() / "datasets" / "demo", tmp_path / "raw"))
    if "dpo" in recipe.stages:
        write_pairs(raw / "sft" / "pairs.jsonl", 80)
    configuration = {"recipe": str(write_twin(recipe, tmp_path)), "run_name": name, "raw": str(raw)}
    done = airflow("dags", "test", "medllm_train", "-c", json.dumps(configuration))
    assert done.returncode == 0, done.stdout[-6000:]
    report = read_json(medllm_home / "runs" / name / "report.json")
    assert report["passed"]
    assert [stage["name"] for stage in report["stages"]] == list(recipe.stages)
    assert all(stage["steps"] == stage["max_steps"] == STEPS for stage in report["stages"])
    assert [merge["stage"] for merge in report["merges"]] == list(recipe.stages)
    assert all(merge["passed"] for merge in report["merges"])
    assert report["serving"]["left_running"] is False
