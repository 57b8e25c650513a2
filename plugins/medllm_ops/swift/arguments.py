"""Which arguments the installed ms-swift knows: read from its own classes, in a process of its own, once a version.

``python -m medllm_ops.swift.arguments RESULT`` writes ``{command: {name: {"type", "default", "choices"}}}``.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import importlib.util
import logging
import os
import subprocess
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.home import home
from medllm_ops.swift.environment import process_environment
from medllm_ops.swift.parameters_2024 import SUCCESSORS

log = logging.getLogger(__name__)

Known = dict[str, dict[str, Any]]
# What the value of an argument may be, by the type that ms-swift gives it; other types take anything.
_KINDS: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}


def is_installed() -> bool:
    """Whether ms-swift is installed here."""
    return importlib.util.find_spec("swift") is not None


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


@cache
def known_arguments() -> dict[str, Known]:
    """The arguments of each command, by name; read once for each version of ms-swift, then from a file.

    :raises MedllmError: if ms-swift is not installed or cannot be imported.
    """
    try:
        # Most arguments of a training are transformers' own.
        versions = [importlib.metadata.version(name) for name in ("ms-swift", "transformers")]
    except importlib.metadata.PackageNotFoundError as error:
        raise MedllmError("ms-swift is not installed here: install the extra `train`") from error
    path = home() / "cache" / f"swift_arguments_{'_'.join(versions)}_typed.json"
    if not path.is_file():
        command = [sys.executable, "-m", "medllm_ops.swift.arguments", str(path)]
        environment = {**os.environ, **process_environment(path.parent)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise MedllmError(f"ms-swift {versions[0]} cannot be imported: {reason}")
    return dict(read_json(path))


def describe_type(annotation: Any) -> tuple[str, list[Any]]:
    """The type of an argument in a word, and the values that it is limited to, if it is.

    An optional type is the type itself: no recipe holds the value None.
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return "choice", [value for value in inner if value is not None]
    if origin in (typing.Union, types.UnionType):
        kinds = [each for each in inner if each is not type(None)]
        return describe_type(kinds[0]) if len(kinds) == 1 else ("any", [])
    if origin in (list, tuple):
        kind, choices = describe_type(inner[0]) if inner else ("any", [])
        return (kind, choices) if kind in _KINDS or choices else ("any", [])
    return (annotation.__name__, []) if annotation in (bool, int, float, str) else ("any", [])


def _read_arguments() -> dict[str, Known]:
    from swift import (
        DeployArguments,
        ExportArguments,
        InferArguments,
        PretrainArguments,
        RLHFArguments,
        SftArguments,
    )

    classes = {
        "pt": PretrainArguments,
        "sft": SftArguments,
        "rlhf": RLHFArguments,
        "export": ExportArguments,
        "deploy": DeployArguments,
        "infer": InferArguments,
    }
    return {name: _read_class(kind) for name, kind in classes.items()}


def _read_class(kind: Any) -> Known:
    known = {}
    for field in sorted((each for each in dataclasses.fields(kind) if each.init), key=lambda each: each.name):
        word, choices = describe_type(field.type)
        default = None if field.default is dataclasses.MISSING else field.default
        known[field.name] = {"type": word, "default": None if default is None else str(default), "choices": choices}
    return known


if __name__ == "__main__":
    write_json(Path(sys.argv[1]), _read_arguments())
