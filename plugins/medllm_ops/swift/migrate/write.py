"""Write a migrated recipe: YAML with a comment for everything that stood in the old script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from medllm_ops.swift.migrate.stage import Stage

HUMAN = "For a human:"


def write_recipe(
    values: Mapping[str, Any],
    comments: Mapping[str, list[str]],
    stages: Sequence[Stage],
    others: Sequence[str],
    human: Sequence[str],
) -> str:
    """The recipe as text.

    :param values: of the whole recipe; :param comments: by their names.
    :param others: calls that are no training, with what does their work today.
    :param human: what somebody has to decide.
    """
    lines: list[str] = []
    for name, value in values.items():
        lines += _comments(comments.get(name, []), 0)
        lines.append(f"{name}: {_inline(value)}")
    lines.append("stages:")
    for stage in stages:
        lines.append(f"  {stage.name}:")
        lines += _comments([f"From {stage.call.place}."], 4)
        for name, value in stage.fields.items():
            lines += _comments(stage.comments.get(name, []), 4)
            if value is not None:
                lines.append(f"    {name}: {_inline(value)}")
        # Also of what was taken out again.
        for name, told in stage.comments.items():
            lines += _comments(told if name not in stage.fields else [], 4)
        if stage.extra:
            lines.append("    extra:")
            lines += [f"      {_inline(name)}: {_inline(value)}" for name, value in stage.extra.items()]
        lines += _comments(["Gone:", *stage.gone] if stage.gone else [], 4)
    lines += _comments(["", "What was no training:", *others] if others else [], 0)
    lines += _comments(["", HUMAN, *human] if human else [], 0)
    return "\n".join(lines) + "\n"


def _inline(value: Any) -> str:
    """A value on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").replace("\n", " ")


def _comments(texts: Sequence[str], indent: int) -> list[str]:
    return [f"{' ' * indent}# {_printable(text)}".rstrip() for text in texts]


def _printable(text: str) -> str:
    """Text that YAML takes as one line of a comment."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in text
    )
