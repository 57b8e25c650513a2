"""The fields of a ClinicalTrials.gov study (API v2) as plain text, by the types that the API documents."""

from __future__ import annotations

import re
from typing import Any

from medllm_ops.sources.text import tidy_line, tidy_lines

# CommonMark: a backslash before any ASCII punctuation stands for the punctuation itself.
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


class WrongTypeError(ValueError):
    """A field of a study has another JSON type than the API documents."""


class Fields:
    """A JSON object of a study, read by the types that the API documents; what is missing or null is empty."""

    def __init__(self, value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise WrongTypeError(f"{name} is {_type_name(value)} where an object belongs")
        self._value = value
        self._name = name

    def string(self, key: str) -> str:
        """The plain text of a field, Markdown's escapes undone, line by line."""
        return tidy_lines(_unescaped(self._get(key, str, ""), key))

    def line(self, key: str) -> str:
        """The plain text of a field as one line."""
        return tidy_line(_unescaped(self._get(key, str, ""), key))

    def lines(self, key: str) -> list[str]:
        """The plain texts of a list field, empty ones left out."""
        lines = (tidy_line(_unescaped(item, key)) for item in self._get(key, list, []))
        return [line for line in lines if line]

    def section(self, key: str) -> Fields:
        """The object in a field."""
        return Fields(self._get(key, dict, {}), key)

    def sections(self, key: str) -> list[Fields]:
        """The objects in a list field."""
        return [Fields(item, key) for item in self._get(key, list, [])]

    def _get(self, key: str, kind: type, empty: Any) -> Any:
        value = self._value.get(key)
        if value is None:
            return empty
        if not isinstance(value, kind):
            raise WrongTypeError(f"{key} is {_type_name(value)} where {_KINDS[kind]} belongs")
        return value


_KINDS = {str: "a string", list: "a list", dict: "an object", bool: "a truth value", int: "a number", float: "a number"}


def _type_name(value: Any) -> str:
    return _KINDS.get(type(value), "null")


def _unescaped(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise WrongTypeError(f"{name} holds {_type_name(value)} where a string belongs")
    return _ESCAPE.sub(r"\1", value) if "\\" in value else value
