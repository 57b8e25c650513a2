"""The names of a Python script that hold the arguments of a call."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from medllm_ops.swift.migrate.calls import Call
from medllm_ops.swift.migrate.python_blocks import Block
from medllm_ops.swift.migrate.python_values import last_name, source


@dataclass(slots=True)
class Bound:
    """Arguments that a name holds.

    :param block: where they were made; :param used: whether a training had them already.
    """

    call: Call
    block: Block
    used: bool = False


class BoundNames:
    """Names such as ``arguments`` and ``self.arguments``."""

    def __init__(self) -> None:
        self._bound: dict[str, Bound] = {}

    def add(self, node: ast.Name | ast.Attribute, bound: Bound) -> None:
        """A name holds these arguments from now on."""
        self._bound[source(node)] = bound

    def of(self, node: ast.expr) -> Bound | None:
        """The arguments that a name holds."""
        return self._bound.get(source(node)) if self._bound and isinstance(node, ast.Name | ast.Attribute) else None

    def around(self, node: ast.expr) -> tuple[Bound | None, str]:
        """The arguments that something is part of, and which of them it is part of."""
        argument = ""
        while (bound := self.of(node)) is None:
            if isinstance(node, ast.Attribute):
                argument, node = node.attr, node.value
            elif isinstance(node, ast.Subscript):
                node = node.value
            elif isinstance(node, ast.Call):
                node = node.args[0] if node.args and last_name(node.func) == "vars" else node.func
            else:
                break
        return bound, argument
