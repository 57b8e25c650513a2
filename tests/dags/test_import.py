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
print("cut", [name for name, dag in bag.dags.items() if not dag.description.endswith(".")])
schemas = {f"{dag}.{name}": one.params.get_param(name).schema for dag, one in bag.dags.items() for name in one.params}
offered = {name: schema.get("enum") or schema.get("examples") or () for name, schema in schemas.items()}
print("toy", sorted(name for name, sources in offered.items() if "toy" in sources))
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
    told = ("errors", "dags", "tasks", "heavy", "cut", "toy")
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(told))


def test_every_dag_imports_without_the_heavy_packages(repository: Path, tmp_path: Path) -> None:
    told = import_dags(sys.executable, repository, tmp_path)
    # The groups that the graph shows leave the tasks the names and the order of the chain's steps.
    dags = str(sorted(path.stem for path in (repository / "dags").glob("*.py")))
    tasks = str([step.name for step in STEPS])
    assert told == {"errors": "{}", "dags": dags, "tasks": tasks, "heavy": "[]", "cut": "[]", "toy": "[]"}


def test_a_source_of_ones_own_can_be_chosen_in_every_form(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "include" / "datasets"
    folder.mkdir(parents=True)
    for path in (repository / "include" / "datasets").glob("*.yaml"):
        (folder / path.name).write_bytes(path.read_bytes())
    entry = "{module: no.such.module, title: x, publisher: x, licence: x, terms: x, order: 999}"
    (folder / "toy.yaml").write_text(entry, encoding="utf-8")
    monkeypatch.setenv("MEDLLM_INCLUDE", str(folder.parent))
    told = import_dags(sys.executable, repository, tmp_path)
    assert told["errors"] == "{}"
    forms = {"build_datasets": ("allow_licences", "sources"), "import_documents": ("source",)}
    forms["medllm_train"] = ("allow_licences", "sources")
    assert told["toy"] == str([f"{dag}.{field}" for dag, fields in forms.items() for field in fields])


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
