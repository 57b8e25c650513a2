"""Every DAG imports, and the DAG processor pays for none of the heavy packages."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from medllm_ops.chain import STEPS

HEAVY = ("torch", "swift", "transformers", "peft", "gradio", "plotly", "openai", "pandas", "lance", "lxml", "mammoth")
SCRIPT = """
import sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
print("errors", bag.import_errors)
print("dags", sorted(bag.dags))
print("tasks", [task.task_id for task in bag.dags["medllm_train"].topological_sort()])
print("heavy", sorted(set(sys.argv[2:]) & set(sys.modules)))
"""


def import_dags(python: str, repository: Path, home: Path) -> dict[str, str]:
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(repository / "plugins"),
    }
    done = subprocess.run(
        [python, "-c", SCRIPT, str(repository / "dags"), *HEAVY],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = ("errors", "dags", "tasks", "heavy")
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(told))


def test_every_dag_imports_without_the_heavy_packages(repository: Path, tmp_path: Path) -> None:
    told = import_dags(sys.executable, repository, tmp_path)
    # The groups that the graph shows leave the tasks the names and the order of the chain's steps.
    dags = str(sorted(path.stem for path in (repository / "dags").glob("*.py")))
    tasks = str([step.name for step in STEPS])
    assert told == {"errors": "{}", "dags": dags, "tasks": tasks, "heavy": "[]"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_control_extra_is_enough_to_import_every_dag(repository: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", str(repository / "requirements.txt")]
    subprocess.run([*install, f"{repository}[control]"], check=True)
    absent = "import importlib.util as u; assert not u.find_spec('torch') and not u.find_spec('swift')"
    subprocess.run([python, "-c", absent], check=True)
    assert import_dags(python, repository, tmp_path)["errors"] == "{}"
