"""YAML without the traps of YAML 1.1: ``1e-4`` is a number, ``1:30`` is none, and no key may stand there twice.

Also what is wrong with it, in words.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final, TypeGuard, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from medllm_ops.errors import MedllmError

MOST_SHOWN = 200
"""Characters of a wrong value."""

# How like a wrong name one of its own section must be, and one of another section.
_HERE: Final = 0.5
_ELSEWHERE: Final = 0.8


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, stricter with keys and with numbers as YAML 1.2 writes them."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here and not while values are made: by then, merge keys (<<) have rightly put keys in front of their like.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"the key {key.value} stands there twice", key.start_mark)
            seen.add(key.value)
        return node


# In YAML 1.1, 0777 is 511, and 1:30 is 90. Here they are texts, which no field for a number takes unseen.
_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?(0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)",
    "tag:yaml.org,2002:float": r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^({_pattern})$"), list("-+.0123456789"))


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    :raises yaml.YAMLError: if it is none, or a mapping holds a key twice.
    :raises ValueError: if it is not UTF-8 (UnicodeDecodeError), or a value is not what it looks like, such as a date.
    """
    return read_yaml_text(path.read_text(encoding="utf-8"))


def read_yaml_text(text: str) -> Any:
    """The content of YAML text.

    :raises yaml.YAMLError: as :func:`read_yaml`.
    """
    return yaml.load(text, Loader=_Loader)


def read_setting(item: str, model: type[BaseModel]) -> tuple[str, Any]:
    """A field of a model, and its value, from ``NAME=VALUE`` as a person types it.

    The value is YAML, but a text is taken as it is: a query such as ``"lung cancer"[title]`` is no YAML, and 7 and
    2026-10-01 may be names of versions.

    :raises MedllmError: if it is neither.
    """
    name, equals, text = item.partition("=")
    if not equals:
        raise MedllmError(f"--set {item}: it must be NAME=VALUE")
    kind = model.model_fields[name].annotation if name in model.model_fields else None
    if kind is str or (kind == str | None and text not in ("", "null")):
        return name, text
    try:
        return name, read_yaml_text(text)
    except yaml.YAMLError as error:
        raise MedllmError(f"--set {item}: the value is not YAML: {' '.join(str(error).split())}") from error


def problems_in_words(
    error: ValidationError, model: type[BaseModel], prefix: str = "", hidden: Collection[str] = ()
) -> str:
    """All that is wrong with settings, in a sentence; for an unknown name, the one that was meant.

    :param prefix: where the settings stand, if not at the top.
    :param hidden: names of the model that nobody may write.
    """
    told = []
    for problem in error.errors():
        place = tuple(str(part) for part in problem["loc"])
        where = ".".join(filter(None, (prefix, *place)))
        if problem["type"] == "extra_forbidden":
            names = [name for name in _names_at(model, place[:-1]) if name not in hidden]
            elsewhere = [other for other in _places(model) if other.partition(".")[0] not in hidden]
            close = _closest(place[-1], names, elsewhere)
            hint = f"; did you mean {' or '.join(close)}?" if close else f" (there are {', '.join(names)})"
            told.append(f"{where} is unknown{hint}")
        elif problem["type"] == "missing":
            told.append(f"{where} is missing")
        else:
            said = problem["msg"].removeprefix("Value error, ")
            told.append(": ".join(filter(None, (where, f"{said} (got {shortened(problem['input'])})"))))
    return "; ".join(told)


def _closest(wrong: str, here: Collection[str], elsewhere: Collection[str]) -> list[str]:
    """The names most like a wrong one: those of its own section, or, where they are clearly more like it, others."""
    likeness = {name: _likeness(wrong, name) for name in here}
    best = max(likeness.values(), default=0)
    others = {place: _likeness(wrong, place.rpartition(".")[2]) for place in elsewhere}
    farthest = max(others.values(), default=0)
    if farthest > best and farthest >= _ELSEWHERE:
        return [place for place, like in others.items() if like == farthest]
    return [max(here, key=lambda name: likeness[name])] if best >= _HERE else []


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _places(model: type[BaseModel], place: str = "") -> Iterator[str]:
    """The dotted names of all fields; ``NAME`` stands for any key of a mapping."""
    for name, field in model.model_fields.items():
        yield f"{place}{name}"
        inner = field.annotation
        if _is_model(inner):
            yield from _places(inner, f"{place}{name}.")
        elif get_origin(inner) is dict and _is_model(get_args(inner)[1]):
            yield from _places(get_args(inner)[1], f"{place}{name}.NAME.")


def _names_at(model: type[BaseModel], place: tuple[str, ...]) -> list[str]:
    """The names that there are at a place of a model, whose mappings have any keys."""
    here: Any = model
    for part in place:
        inner = here.model_fields[part].annotation if _is_model(here) and part in here.model_fields else here
        candidates = [inner, *get_args(inner)]
        here = next((one for one in candidates if _is_model(one)), inner)
    return list(here.model_fields) if _is_model(here) else []


def shortened(value: Any) -> str:
    """A wrong value as a sentence shows it."""
    told = repr(value)
    return told if len(told) <= MOST_SHOWN else f"{told[: MOST_SHOWN - 1]}…"


def _is_model(value: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(value, type) and issubclass(value, BaseModel)
