"""Names and values of a recipe, held against the arguments that the installed ms-swift knows."""

from __future__ import annotations

import difflib
import importlib.metadata
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.swift.installed import Known, installed, is_installed
from medllm_ops.swift.parameters_2024 import SUCCESSORS

log = logging.getLogger(__name__)

# What the value of an argument may be, by the type that ms-swift gives it; other types take anything.
_KINDS: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}


def check_names(command: str, names: Iterable[str]) -> None:
    """Refuse argument names that ms-swift would refuse, but only once the model is loaded.

    Where ms-swift is not installed, as in the Airflow image, nothing is checked; the log says so.

    :param command: ``pt``, ``sft``, ``rlhf``, ``export``, ``deploy`` or ``infer``.
    :raises MedllmError: naming each one, with what it is called now or the closest name there is.
    """
    names = list(names)
    if not is_installed():
        log.warning("ms-swift is not installed here, so the names of %s were not checked", ", ".join(sorted(names)))
        return
    known = known_arguments()[command]
    problems = []
    for name in names:
        if name in known:
            continue
        close = difflib.get_close_matches(name, known, n=1)
        hint = SUCCESSORS.get(name) or (f"did you mean {close[0]}?" if close else "nothing is called like it")
        problems.append(f"{name} ({hint})")
    if problems:
        raise MedllmError(f"ms-swift {importlib.metadata.version('ms-swift')} has no argument {'; '.join(problems)}")


def check_arguments(command: str, arguments: Mapping[str, Any]) -> None:
    """Refuse names that ms-swift does not know, and values that it would refuse.

    :param arguments: names and values as in a recipe.
    :raises MedllmError: as :func:`check_names`; also naming each value, with what is allowed.
    """
    check_names(command, arguments)
    if not is_installed():
        return
    known = known_arguments()[command]
    problems = [
        f"{name} {wrong}"
        for name, value in arguments.items()
        for each in (value if isinstance(value, list) else [value])
        if (wrong := _wrong_value(known[name], each))
    ]
    if problems:
        version = importlib.metadata.version("ms-swift")
        raise MedllmError(f"ms-swift {version} refuses {'; '.join(dict.fromkeys(problems))}")


def _wrong_value(argument: dict[str, Any], value: Any) -> str | None:
    choices = argument["choices"]
    if choices:
        # On a command line, 4 and "4" are the same.
        fits = str(value) in map(str, choices)
        return None if fits else f"{value!r}: it is one of {', '.join(map(str, choices))}"
    allowed = _KINDS.get(argument["type"])
    if allowed is None or (isinstance(value, allowed) and not (isinstance(value, bool) and bool not in allowed)):
        return None
    return None if argument["type"] == "str" else f"{value!r}: it is of type {argument['type']}"


def known_arguments() -> dict[str, Known]:
    """The arguments of each command, by name.

    :raises MedllmError: if ms-swift is not installed or cannot be imported.
    """
    return dict(installed()["arguments"])
