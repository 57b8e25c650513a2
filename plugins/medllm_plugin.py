"""What Airflow learns from this package beside the operators: whose job ends when a user sets a task's state."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from medllm_ops.operators import listener


class MedllmPlugin(AirflowPlugin):
    """Registers the listener."""

    name = "medllm"
    listeners = [listener]  # noqa: RUF012  as Airflow wants it
