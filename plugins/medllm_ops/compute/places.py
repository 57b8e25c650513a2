"""The places that jobs can run in, by name."""

from __future__ import annotations

from collections.abc import Callable

from medllm_ops.compute.kubernetes.place import KubernetesPlace
from medllm_ops.compute.local import LocalPlace
from medllm_ops.compute.owner import TaskOwner
from medllm_ops.compute.watched import WatchedPlace
from medllm_ops.errors import MedllmError

PLACES: dict[str, type[WatchedPlace]] = {place.name: place for place in (LocalPlace, KubernetesPlace)}


def place_for(name: str, owner: TaskOwner | None = None, watch: Callable[[], None] | None = None) -> WatchedPlace:
    """The place of this name.

    :param owner: the Airflow task that asks, if one does; :param watch: called at every look at a job.
    :raises MedllmError: with the names there are.
    """
    if name not in PLACES:
        raise MedllmError(f"no place {name!r} to run jobs in: it is one of {', '.join(PLACES)}")
    return PLACES[name](owner, watch)
