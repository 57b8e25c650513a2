"""The chain test: the real DAG with real ms-swift on a tiny model."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from medllm_ops.compute.processes import MARK
from medllm_ops.files import count_lines, read_json
from medllm_ops.home import include
from preferences import tiny_recipe, write_pairs

Airflow = Callable[..., subprocess.CompletedProcess[str]]
CONFIGURATION = {"recipe": "tiny", "run_name": "chain", "name_en": "TestBuddy"}
KEYS = {"stages", "merges", "heldout", "identity", "ledger", "model", "serving", "versions", "seconds"}


def left_running(home: Path) -> list[str]:
    """The jobs and services that work below ``home``, whoever started them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ()
            if environment.get("MEDLLM_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {environment.get(MARK)}")
    return found


@pytest.fixture(scope="module")
def finished(airflow: Airflow, medllm_home: Path) -> subprocess.CompletedProcess[str]:
    done = airflow("dags", "test", "medllm_train", "-c", json.dumps(CONFIGURATION))
    assert done.returncode == 0, done.stdout[-6000:]
    assert left_running(medllm_home) == []
    return done


@pytest.fixture(scope="module")
def report(finished: subprocess.CompletedProcess[str], medllm_home: Path) -> dict[str, Any]:
    return dict(read_json(medllm_home / "runs" / "latest" / "report.json"))


def test_the_report_has_what_other_programs_rely_on(report: dict[str, Any]) -> None:
    assert report.keys() >= KEYS
    assert report["passed"]
    assert [stage["name"] for stage in report["stages"]] == ["pretrain", "sft", "self_cognition"]
    for stage in report["stages"]:
        assert stage["steps"] == stage["max_steps"] == 4
        assert stage["tokens_per_second"] > 0
    assert [merge["stage"] for merge in report["merges"]] == ["pretrain", "sft", "self_cognition"]
    assert all(merge["passed"] and merge["max_abs_diff"] <= merge["tolerance"] for merge in report["merges"])
    assert set(report["heldout"]["pubmed"]) == {"base", "pretrain", "sft", "final"}
    assert len(report["identity"]["prompts"]) >= 6
    assert len(report["identity"]["controls"]) >= 6
    assert report["serving"]["left_running"] is False
    assert report["versions"]["ms-swift"] == "4.6.0"


def test_the_ledger_accounts_for_every_raw_record(report: dict[str, Any], medllm_home: Path) -> None:
    run = medllm_home / "runs" / "chain"
    for row in report["ledger"]:
        assert row["in"] == row["out"] + sum(row["dropped"].values()), row
    for folder in (run / "convert").iterdir():
        (row,) = [row for row in report["ledger"] if row["step"] == f"convert {folder.name}"]
        assert count_lines(folder / "records.jsonl") == row["out"]
        assert count_lines(folder / "rejects.jsonl") == sum(row["dropped"].values())
    identifiers = {
        json.loads(line)["id"]
        for side in ("train", "val")
        for path in (run / "dataset" / side).glob("*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    }
    # Retracted, deleted and superseded papers are in no file that trains or judges.
    assert "pubmed:90000047" not in identifiers
    assert "pubmed:90000071" not in identifiers


def test_no_text_is_on_both_sides(report: dict[str, Any], medllm_home: Path) -> None:
    dataset = medllm_home / "runs" / "chain" / "dataset"
    for path in (dataset / "val").glob("*.jsonl"):
        train = set((dataset / "train" / path.name).read_text(encoding="utf-8").splitlines())
        val = set(path.read_text(encoding="utf-8").splitlines())
        assert val
        assert not train & val


def test_the_models_name_is_filled_in(report: dict[str, Any], medllm_home: Path) -> None:
    rows = (medllm_home / "runs" / "chain" / "dataset" / "train" / "self_cognition.jsonl").read_text(encoding="utf-8")
    assert "TestBuddy" in rows
    assert "{{" not in rows


def test_the_tasks_have_their_times(report: dict[str, Any]) -> None:
    assert {"convert", "pretrain", "merge_sft", "evaluate", "serve"} <= {row["task"] for row in report["timings"]}


def test_a_second_run_of_the_same_name_does_nothing_again(
    report: dict[str, Any], airflow: Airflow, medllm_home: Path
) -> None:
    run = medllm_home / "runs" / "chain"
    results = [*run.glob("stages/*/result.json"), *run.glob("merged/*/merge.json"), run / "dataset" / "manifest.json"]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in results}
    done = airflow("dags", "test", "medllm_train", "-c", json.dumps(CONFIGURATION | {"serve": True}))
    assert done.returncode == 0, done.stdout[-6000:]
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in results} == before


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_that_ends_with_an_alignment(airflow: Airflow, medllm_home: Path, tmp_path: Path) -> None:
    shutil.copytree(include() / "datasets" / "demo" / "sft", tmp_path / "raw" / "sft")
    write_pairs(tmp_path / "raw" / "sft" / "pairs.jsonl", 80)
    recipe = tiny_recipe(tmp_path / "aligned.yaml")
    parameters = {"raw": str(tmp_path / "raw"), "recipe": str(recipe), "run_name": "aligned", "pretrain": False}
    done = airflow("dags", "test", "medllm_train", "-c", json.dumps(parameters))
    assert done.returncode == 0, done.stdout[-6000:]
    assert left_running(medllm_home) == []
    report = read_json(medllm_home / "runs" / "aligned" / "report.json")
    assert report["passed"]
    assert [stage["name"] for stage in report["stages"]] == ["sft", "self_cognition", "dpo"]
    assert [merge["stage"] for merge in report["merges"]] == ["sft", "self_cognition", "dpo"]
    assert all(merge["passed"] for merge in report["merges"])
    assert report["model"]["final_stage"] == "dpo"
    assert set(report["heldout"]["alpaca"]) == {"base", "sft", "self_cognition", "final"}
    assert all({"before", "between", "after"} <= answer.keys() for answer in report["identity"]["prompts"])
    preference, aligned = report["preference"], report["stages"][-1]
    assert preference["gates"][0]["passed"]
    # Two ways to the same figure: ours on the merged models, ms-swift's own on model and adapter.
    assert preference["margin"] == pytest.approx(aligned["rewards"]["eval_margin"], rel=1e-3)
    assert preference["accuracy"] == aligned["rewards"]["eval_accuracy"]
    page = (medllm_home / "runs" / "aligned" / "report.html").read_text(encoding="utf-8")
    assert "Preferred answers" in page
    assert "After alignment" in page


def test_a_bad_value_is_refused_before_anything_starts(airflow: Airflow, medllm_home: Path) -> None:
    done = airflow("dags", "test", "medllm_train", "-c", json.dumps({"learning_rate": 5, "run_name": "never"}))
    assert done.returncode != 0
    assert "0.01" in done.stdout
    assert not (medllm_home / "runs" / "never").exists()


def test_other_parameters_under_a_taken_name_are_refused(
    report: dict[str, Any], airflow: Airflow, medllm_home: Path
) -> None:
    done = airflow("dags", "test", "medllm_train", "-c", json.dumps({"recipe": "demo", "run_name": "chain"}))
    assert done.returncode != 0
    assert "run chain exists with other parameters" in done.stdout
