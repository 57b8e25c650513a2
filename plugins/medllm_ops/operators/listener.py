"""What Airflow tells about tasks whose state a user has set by hand: their jobs end, also where no worker watches."""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl

from medllm_ops.operators.watching import stop_jobs_of

log = logging.getLogger(__name__)


@hookimpl  # type: ignore[untyped-decorator]
def on_task_instance_failed(previous_state: Any, task_instance: Any, error: Any) -> None:
    """A task was marked as failed; where Airflow itself failed it, it says which state it was in before."""
    if previous_state is None:
        _stop(task_instance)


@hookimpl  # type: ignore[untyped-decorator]
def on_task_instance_success(previous_state: Any, task_instance: Any) -> None:
    """A task was marked as a success: nobody waits for its job any more."""
    if previous_state is None:
        _stop(task_instance)


def _stop(instance: Any) -> None:
    stopped = stop_jobs_of(instance.dag_id, instance.run_id, instance.task_id, instance.map_index)
    if stopped:
        log.info("%s was given up by a user: ended %s", instance, ", ".join(stopped))
