"""YAML without the traps of YAML 1.1: ``1e-4`` is a number, and a key that stands there twice is refused.

Also what is wrong with it, in words.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

MOST_SHOWN = 200
"""Characters of a wrong value."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, stricter with keys and with numbers as YAML 1.2 writes them."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here and not while values are made: by then, merge keys (<<) have rightly put keys in front of their like.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"the key {key.value} stands there twice", key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    :raises yaml.YAMLError: if it is none, or a mapping holds a key twice.
    :raises UnicodeDecodeError: if it is not UTF-8.
    """
    return read_yaml_text(path.read_text(encoding="utf-8"))


def read_yaml_text(text: str) -> Any:
    """The content of YAML text.

    :raises yaml.YAMLError: as :func:`read_yaml`.
    """
    return yaml.load(text, Loader=_Loader)


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
            close = difflib.get_close_matches(place[-1], names, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]}?" if close else f" (there are {', '.join(names)})"
            told.append(f"{where} is unknown{hint}")
        elif problem["type"] == "missing":
            told.append(f"{where} is missing")
        else:
            said = problem["msg"].removeprefix("Value error, ")
            told.append(": ".join(filter(None, (where, f"{said} (got {_short(problem['input'])})"))))
    return "; ".join(told)


def _names_at(model: type[BaseModel], place: tuple[str, ...]) -> list[str]:
    """The names that there are at a place of a model, whose mappings have any keys."""
    here: Any = model
    for part in place:
        inner = here.model_fields[part].annotation if _is_model(here) and part in here.model_fields else here
        candidates = [inner, *get_args(inner)]
        here = next((one for one in candidates if _is_model(one)), inner)
    return list(here.model_fields) if _is_model(here) else []


def _short(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= MOST_SHOWN else f"{told[: MOST_SHOWN - 1]}…"


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)
