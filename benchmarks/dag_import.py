"""What our DAGs add to Airflow's own start: ``python benchmarks/dag_import.py``."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
ROUNDS = 5


def seconds(script: str, home: str) -> float:
    """The median wall time of a Python process."""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(REPOSITORY / "plugins"),
    }
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Print both medians and their difference."""
    bag = "from airflow.dag_processing.dagbag import DagBag; DagBag({!r})"
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as empty:
        seconds(bag.format(empty), home)
        alone = seconds(bag.format(empty), home)
        ours = seconds(bag.format(str(REPOSITORY / "dags")), home)
    print(f"Airflow with no DAG {alone:.2f} s, with ours {ours:.2f} s: {ours - alone:+.2f} s, ratio {ours / alone:.2f}")


if __name__ == "__main__":
    main()
