"""The places of jobs as Airflow's tasks see them."""

from __future__ import annotations

from collections.abc import Callable

from airflow.sdk import Context

from medllm_ops.compute.places import place_for
from medllm_ops.compute.watched import WatchedPlace
from medllm_ops.operators.owner import owner_of


def task_place(where: str, context: Context | None = None, watch: Callable[[], None] | None = None) -> WatchedPlace:
    """The place of this name.

    :param context: of the task that asks; None for whoever ends the job of another. :param watch: called at every look.
    :raises MedllmError: with the names there are.
    """
    if where == "kubernetes":
        # Only here: Airflow's Kubernetes provider takes a second to import.
        from medllm_ops.operators.pod import kubernetes_place

        return kubernetes_place(context, watch)
    return place_for(where, owner_of(context) if context else None, watch)
