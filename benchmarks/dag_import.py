"""What our DAGs add to Airflow's own start: ``python benchmarks/dag_import.py``."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
ROUNDS = 7
SCRIPT = "from airflow.dag_processing.dagbag import DagBag; DagBag({!r})"


def seconds(folder: str, home: str) -> tuple[float, float]:
    """Wall and processor time of a Python process that reads the DAGs of a folder."""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(REPOSITORY / "plugins"),
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    command = [sys.executable, "-c", SCRIPT.format(folder)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the best of several rounds of each, and the difference."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as empty:
        folders = {"no DAG": empty, "ours": str(REPOSITORY / "dags")}
        seconds(empty, home)
        # In turns, and the best of each: what else the machine does can only make a round longer.
        rounds = [{name: seconds(folder, home) for name, folder in folders.items()} for _ in range(ROUNDS)]
    for number, kind in enumerate(("wall", "processor")):
        alone, with_ours = (min(times[name][number] for times in rounds) for name in folders)
        print(f"{kind}: Airflow with no DAG {alone:.2f} s, with ours {with_ours:.2f} s: {with_ours - alone:+.2f} s")


if __name__ == "__main__":
    main()
