"""docs/operations/backup.md: a home is copied while it is used, restored elsewhere, and gone on with."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medllm_ops.files import read_json

pytestmark = pytest.mark.slow

Medllm = Callable[..., str]
SETTINGS = ["corpus=latest", "serve=false", "sft=false", "self_cognition=false"]
RUN = ["run", "--recipe", "tiny", "--name", "small", *(part for item in SETTINGS for part in ("--set", item))]
LICENCES = ["alpaca", "docx"]


@pytest.fixture
def blocks(repository: Path) -> list[str]:
    """What the page says to do: back up, restore."""
    for program in ("rsync", "flock", "sqlite3"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt install rsync util-linux sqlite3")
    text = (repository / "docs" / "operations" / "backup.md").read_text(encoding="utf-8")
    return re.findall(r"```bash\n(.*?)```", text, re.DOTALL)


def execute(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[:3]}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done.stdout


def in_home(home: Path, **more: str) -> tuple[Medllm, dict[str, str]]:
    """Call ``medllm-ops`` in a home; and its environment."""
    environment = {**os.environ, "MEDLLM_HOME": str(home), **more}
    environment.pop("MEDLLM_CORPUS", None)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"

    def medllm(*arguments: object) -> str:
        return execute([sys.executable, "-m", "medllm_ops.cli", *map(str, arguments)], environment)

    return medllm, environment


@pytest.mark.parametrize("place", ["corpus/curation", "curation/0123456789abcdef"])
def test_the_sides_are_copied_wherever_the_corpus_lies(tmp_path: Path, blocks: list[str], place: str) -> None:
    home, backup = tmp_path / "home", tmp_path / "backup"
    (home / place / "state").mkdir(parents=True)
    (home / place / "state" / "taken.json").write_text("{}")
    for folder in ("runs", "datasets"):
        (home / folder).mkdir()
    _, environment = in_home(home, BACKUP=str(backup), AIRFLOW_HOME=str(tmp_path))
    execute(["bash", "-c", blocks[0]], environment)
    assert (backup / place / "state" / "taken.json").read_text() == "{}"


def test_a_restored_home_is_sound_and_goes_on_at_another_path(
    tmp_path: Path, repository: Path, blocks: list[str]
) -> None:
    back_up, restore = blocks
    demo = repository / "include" / "datasets" / "demo"
    old, new, backup, airflow = (tmp_path / name for name in ("old", "new", "backup", "airflow"))
    airflow.mkdir()
    with sqlite3.connect(airflow / "airflow.db") as database:
        database.execute("CREATE TABLE dag_run (run_id)")
        database.execute("INSERT INTO dag_run VALUES ('night')")
    database.close()
    medllm, environment = in_home(old, BACKUP=str(backup), AIRFLOW_HOME=str(airflow))
    medllm("corpus", "refresh", "docx", "--set", f"location={demo / 'docx'}")
    medllm("corpus", "refresh", "alpaca", "--set", f"location={demo / 'sft'}")
    licences = [part for name in LICENCES for part in ("--allow-licence", name)]
    medllm("dataset", "build", "med", *licences)
    run = [*RUN, "--set", f"allow_licences=[{', '.join(LICENCES)}]"]
    medllm(*run)
    known = medllm("lineage", "alpaca:alpaca_en.jsonl:1").replace(str(old), "HOME")

    execute(["bash", "-c", back_up], environment)
    # Nothing of the old place may be of use.
    old.rename(tmp_path / "away")
    medllm, environment = in_home(new, BACKUP=str(backup))
    told = execute(["bash", "-c", restore], environment)
    assert "ithdrawn" in told or "retracted" in told
    with sqlite3.connect(backup / "airflow.db") as database:
        assert database.execute("SELECT run_id FROM dag_run").fetchall() == [("night",)]
    database.close()
    assert (new / "runs" / "latest").resolve() == new / "runs" / "small"
    assert (new / "runs" / "small" / "curated").resolve().is_relative_to(new)
    assert medllm("lineage", "alpaca:alpaca_en.jsonl:1").replace(str(new), "HOME") == known
    assert "med@1" in medllm("dataset", "build", "med", *licences)

    # The run goes on where it stood: nothing is trained again.
    logs = {path: path.read_bytes() for path in (new / "runs" / "small" / "stages").glob("*/job/job.log")}
    assert len(logs) == 1
    medllm(*run)
    assert {path: path.read_bytes() for path in logs} == logs
    assert read_json(new / "runs" / "small" / "report.json")["passed"]

    model = new / "runs" / "latest" / "merged" / "pretrain"
    recipe = new / "runs" / "latest" / "recipe.yaml"
    assert "endpoint" in medllm("serve", "start", model, "--recipe", recipe, "--name", "restored", "--no-chat")
    assert "stopped endpoint restored" in medllm("serve", "stop", "restored")
