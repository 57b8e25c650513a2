"""What a field of a recipe does, in a few lines."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic.fields import FieldInfo

from medllm_ops.errors import MedllmError
from medllm_ops.swift.arguments import known_arguments
from medllm_ops.swift.installed import is_installed
from medllm_ops.swift.parameters_2024 import SUCCESSORS
from medllm_ops.swift.recipe import OWNED_BY_THE_CHAIN, PreferenceRecipe, Recipe, StageRecipe, is_ours

_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than", "min_length": "length at least"}


def explain(name: str) -> str:
    """What a name means: a field, an argument of ms-swift, or a parameter of 1.x.

    :param name: as in a recipe; what stands in front of its last part, such as ``stages.sft.``, does not matter.
    :raises MedllmError: with the closest name there is.
    """
    name = name.rpartition(".")[2]
    lines: list[str] = []
    if name in PreferenceRecipe.model_fields:
        where = "every stage" if name in StageRecipe.model_fields else "the stage dpo"
        whose = "ours" if is_ours(name) else "ms-swift's own argument"
        lines += _field(name, PreferenceRecipe.model_fields[name], f"a field of {where}; {whose}")
    elif name in Recipe.model_fields:
        lines += _field(name, Recipe.model_fields[name], "a field of the recipe")
    if name in SUCCESSORS:
        number = list(SUCCESSORS).index(name) + 1
        lines.append(f"{name} of ms-swift 1.x ({number} of 27): {SUCCESSORS[name]}")
    if not lines:
        lines += _argument(name)
    return "\n".join(lines)


def _field(name: str, field: FieldInfo, where: str) -> list[str]:
    limits = [
        f"{word} {value}"
        for limit in field.metadata
        for sign, word in _LIMITS.items()
        if (value := getattr(limit, sign, None)) is not None
    ]
    about = field.json_schema_extra
    unit = about.get("unit") if isinstance(about, dict) else None
    default = (
        "none: it has to be given" if field.is_required() else _plain(field.get_default(call_default_factory=True))
    )
    lines = [f"{name}: {where}", f"  {field.description}", f"  type      {_type(field.annotation)}"]
    lines += [f"  unit      {unit}"] if unit else []
    lines += [f"  limits    {', '.join(limits)}"] if limits else []
    return [*lines, f"  default   {default}"]


def _plain(value: Any) -> str:
    if value is None:
        return "left out"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return text.replace("typing.", "").replace("Literal", "one of ").replace(" | None", " or left out")


def _argument(name: str) -> list[str]:
    """An argument of ms-swift that has no field."""
    names = [*PreferenceRecipe.model_fields, *Recipe.model_fields, *SUCCESSORS]
    if is_installed():
        for command, known in known_arguments().items():
            if name in known:
                where = "the chain decides it" if name in OWNED_BY_THE_CHAIN else "goes under extra of a stage"
                about = known[name]
                kind = ", ".join(map(str, about["choices"])) if about["choices"] else about["type"]
                found = [f"{name}: an argument of swift {command}; {where}", f"  type      {kind}"]
                return [*found, f"  default   {_plain(about['default'])}"]
        names += known_arguments()["sft"]
    close = difflib.get_close_matches(name, names, n=1)
    raise MedllmError(f"{name} is no field of a recipe{f'; did you mean {close[0]}?' if close else ''}")
