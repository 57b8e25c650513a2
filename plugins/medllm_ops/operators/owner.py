"""The task that runs, as the owner of the jobs that it asks for."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Context

from medllm_ops.compute.owner import TaskOwner


def owner_of(context: Context) -> TaskOwner | None:
    """The task that runs, or None outside of Airflow.

    Airflow raises ``max_tries`` when a user clears a task, and not when it retries it.
    """
    instance: Any = context.get("ti")
    if instance is None:
        return None
    index = -1 if instance.map_index is None else instance.map_index
    return TaskOwner(instance.dag_id, instance.run_id, instance.task_id, index, instance.max_tries)
