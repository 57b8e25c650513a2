"""The places that jobs can run in, by name."""

from __future__ import annotations

from medllm_ops.compute.job import Place
from medllm_ops.compute.local import LocalPlace
from medllm_ops.errors import MedllmError

PLACES: dict[str, type[Place]] = {"local": LocalPlace}


def place_for(name: str) -> Place:
    """The place of this name.

    :raises MedllmError: with the names there are.
    """
    if name not in PLACES:
        raise MedllmError(f"no place {name!r} to run jobs in: it is one of {', '.join(PLACES)}")
    return PLACES[name]()
