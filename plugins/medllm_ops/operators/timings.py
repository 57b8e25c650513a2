"""How long the tasks of a DAG run took, as Airflow knows it, for the run's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import Context

from medllm_ops.run import Run


def record_timings(context: Context, run_dir: str) -> None:
    """Write the durations of the DAG run's finished tasks into the run's ``timings.json``.

    The mapped conversions count as one task, with the sum of their times; a skipped task has none.
    """
    instance: Any = context["ti"]
    seconds: dict[str, float] = {}
    failed: set[str] = set()
    for task in instance.get_task_breadcrumbs(instance.dag_id, instance.run_id):
        name = task["task_id"]
        if task["duration"] is None or task["state"] not in ("success", "failed"):
            continue
        seconds[name] = seconds.get(name, 0.0) + task["duration"]
        if task["state"] == "failed":
            failed.add(name)
    run = Run.open(Path(run_dir))
    for name, taken in seconds.items():
        run.write_timing(name, taken, "failed" if name in failed else "success")
