"""What the installed ms-swift knows: the arguments of its commands, and the models of the families.

Both are read from its own classes, in one process of its own, once for each version; then from a file below
``MEDLLM_HOME/cache``. ``python -m medllm_ops.swift.installed RESULT`` writes that file: ``{"arguments": {command:
{name: {"type", "default", "choices"}}}, "models": {"types", "classes", "model_types", "templates"}}``.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import code_hash, read_json, write_json
from medllm_ops.home import home
from medllm_ops.models.families import members
from medllm_ops.swift.environment import process_environment

Known = dict[str, dict[str, Any]]
# What the result depends on, beside the versions: the code that reads, and the families that are asked for.
_READS = ("swift/installed.py", "models/families.yaml")
# The types of arguments that a recipe's values are held against.
SIMPLE = (bool, int, float, str)


def is_installed() -> bool:
    """Whether ms-swift is installed here."""
    return importlib.util.find_spec("swift") is not None


@cache
def installed() -> dict[str, Any]:
    """What ms-swift knows, with the keys ``arguments`` and ``models``.

    :raises MedllmError: if ms-swift is not installed or cannot be imported.
    """
    try:
        # Most arguments of a training are transformers' own, and so are the models' classes.
        versions = [importlib.metadata.version(name) for name in ("ms-swift", "transformers")]
    except importlib.metadata.PackageNotFoundError as error:
        raise MedllmError("ms-swift is not installed here: install the extra `train`") from error
    path = home() / "cache" / f"swift_{'_'.join(versions)}_{code_hash(*_READS)[:8]}.json"
    if not path.is_file():
        command = [sys.executable, "-m", "medllm_ops.swift.installed", str(path)]
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
        return (kind, choices) if kind in {each.__name__ for each in SIMPLE} or choices else ("any", [])
    return (annotation.__name__, []) if annotation in SIMPLE else ("any", [])


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


def _read_models() -> dict[str, Any]:
    import transformers
    from swift.model import MODEL_MAPPING
    from swift.template import TEMPLATE_MAPPING

    types = {}
    for name in {member.model_type for member in members()} & set(MODEL_MAPPING):
        meta = MODEL_MAPPING[name]
        templates, requires = {}, {}
        for group in meta.model_groups:
            for model in group.models:
                for name_there in filter(None, (model.ms_model_id, model.hf_model_id)):
                    templates[name_there] = group.template or meta.template
                    requires[name_there] = meta.requires if group.requires is None else group.requires
        types[name] = {
            "architectures": meta.architectures,
            "general": meta.requires,
            "requires": requires,
            "templates": templates,
        }
    names = {template for meta in MODEL_MAPPING.values() for template in meta.candidate_templates}
    classes = sorted({each.architecture for each in members() if hasattr(transformers, each.architecture)})
    return {
        "types": types,
        "classes": classes,
        "model_types": sorted(MODEL_MAPPING),
        "templates": sorted(names | set(TEMPLATE_MAPPING)),
    }


if __name__ == "__main__":
    write_json(Path(sys.argv[1]), {"arguments": _read_arguments(), "models": _read_models()})
