"""What an expression of a Python script is, as far as no code has to run to know it."""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medllm_ops.swift.migrate.python_blocks import Block

_LARGEST = 10**18
_LONGEST = 10_000
_DEEPEST = 20
_ENUMERATIONS = ("ModelType", "DatasetName", "TemplateType", "LLMModelType", "MLLMModelType")
# Methods that change what a name holds.
CHANGING = frozenset(
    {"append", "clear", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault", "sort", "update"}
)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of what a name holds.

    :param name: the key that got a value; None: something else was changed.
    """

    line: int
    text: str
    block: Block
    name: str | None = None
    value: ast.expr | None = None


class Constants:
    """The names of a script that are given a value exactly once, those in its classes too."""

    def __init__(self, tree: ast.AST, blocks: Mapping[ast.AST, Block]) -> None:
        self._blocks = blocks
        self._given: dict[str, list[ast.expr | None]] = {}
        self._changes: dict[str, list[Change]] = {}
        for node in ast.walk(tree):
            self._read(node)

    def first(self, name: str) -> ast.expr | None:
        """What a name was given, if it was given something once."""
        given = self._given.get(name, [])
        return given[0] if len(given) == 1 else None

    def changes(self, name: str) -> list[Change]:
        """What was done to it afterwards, in the order of the lines."""
        return sorted(self._changes.get(name, []), key=lambda each: each.line)

    def value(self, node: ast.expr, depth: int = 0) -> Any:
        """What an expression is: a text, a number, true, false, nothing, or a list of them.

        :raises ValueError: if code has to run for it, or no recipe can hold it.
        """
        if depth > _DEEPEST:
            raise ValueError("a constant that is defined by itself")
        if isinstance(node, ast.Attribute) and last_name(node.value) in _ENUMERATIONS:
            return node.attr
        name = _dotted(node)
        if name and (constant := self.first(name)) is not None and not self.changes(name):
            return self.value(constant, depth + 1)
        if isinstance(node, ast.List | ast.Tuple):
            return [self.value(each, depth + 1) for each in node.elts]
        if isinstance(node, ast.JoinedStr):
            return _bounded("".join(self._part(each, depth + 1) for each in node.values))
        if isinstance(node, ast.BinOp):
            return _bounded(_joined(node.op, self.value(node.left, depth + 1), self.value(node.right, depth + 1)))
        if isinstance(node, ast.Call) and not node.keywords and node.args:
            return self._path(node, depth + 1)
        return _bounded(ast.literal_eval(node))

    def _part(self, node: ast.expr, depth: int) -> str:
        if isinstance(node, ast.FormattedValue):
            if node.conversion != -1 or node.format_spec is not None:
                raise ValueError("a format of its own")
            return str(self.value(node.value, depth))
        return str(self.value(node, depth))

    def _path(self, node: ast.Call, depth: int) -> str:
        """A path that is put together: ``Path(...)``, ``str(...)``, ``os.path.join(...)``."""
        joins = (
            isinstance(node.func, ast.Attribute) and node.func.attr == "join" and last_name(node.func.value) == "path"
        )
        if not joins and not (last_name(node.func) in ("Path", "str") and len(node.args) == 1):
            raise ValueError("code that would have to run")
        parts = [self.value(each, depth) for each in node.args]
        if not all(isinstance(part, str) for part in parts):
            raise ValueError("no path")
        return str(posixpath.join(*parts))

    def _read(self, node: ast.AST) -> None:
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.Assign | ast.AnnAssign):
                    targets = part.targets if isinstance(part, ast.Assign) else [part.target]
                    for target in targets:
                        self._given.setdefault(f"{node.name}.{last_name(target)}", []).append(part.value)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, node)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            self._given.setdefault(node.target.id, []).append(node.value)
        elif isinstance(node, ast.AugAssign | ast.For | ast.NamedExpr | ast.AsyncFor | ast.comprehension):
            self._forget(node.target)
        elif isinstance(node, ast.withitem) and node.optional_vars:
            self._forget(node.optional_vars)
        elif name := _bound_by(node):
            self._given.setdefault(name, []).append(None)
        elif isinstance(node, ast.Delete):
            for target in node.targets:
                if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
                    self._change(target.value.id, Change(node.lineno, source(node), self._blocks[node]))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGING:
            self._method(node, node.func)

    def _assign(self, target: ast.expr, node: ast.Assign) -> None:
        if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            key = target.slice.value if isinstance(target.slice, ast.Constant) else None
            named = key if isinstance(key, str) else None
            self._change(target.value.id, Change(node.lineno, source(node), self._blocks[node], named, node.value))
            return
        if attribute := _dotted(target):
            self._given.setdefault(attribute, []).append(node.value)
            return
        if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Call):
            if last_name(target.value.func) == "globals" and isinstance(target.slice, ast.Constant):
                self._given.setdefault(str(target.slice.value), []).append(None)
            return
        self._forget(target)

    def _forget(self, target: ast.expr) -> None:
        """Nobody knows what these names are given."""
        for part in ast.walk(target):
            if name := _dotted(part):
                self._given.setdefault(name, []).append(None)

    def _method(self, node: ast.Call, method: ast.Attribute) -> None:
        if not isinstance(method.value, ast.Name):
            return
        name = method.value.id
        pairs: list[tuple[str, ast.expr]] = []
        plain = method.attr == "update" and all(isinstance(each, ast.Dict) for each in node.args)
        for each in node.args:
            for key, value in zip(each.keys, each.values, strict=True) if isinstance(each, ast.Dict) else ():
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    pairs.append((key.value, value))
                else:
                    plain = False
        for keyword in node.keywords:
            if keyword.arg is None:
                plain = False
            else:
                pairs.append((keyword.arg, keyword.value))
        if not plain:
            self._change(name, Change(node.lineno, source(node), self._blocks[node]))
            return
        for key_name, value in pairs:
            self._change(name, Change(node.lineno, source(node), self._blocks[node], key_name, value))

    def _change(self, name: str, change: Change) -> None:
        self._changes.setdefault(name, []).append(change)


def _bound_by(node: ast.AST) -> str:
    """The name that a node gives to what only a run would tell."""
    if isinstance(node, ast.alias):
        return node.asname or node.name.partition(".")[0]
    if isinstance(node, ast.arg):
        return node.arg
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return node.name or ""
    return (node.rest or "") if isinstance(node, ast.MatchMapping) else ""


def source(node: ast.AST) -> str:
    """A part of a script as it could have been written."""
    try:
        return ast.unparse(node)
    except ValueError:  # a number of thousands of digits
        return "a number that is too long to be written"


def last_name(node: ast.expr) -> str:
    """The last part of a name with points in it."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _dotted(node: ast.AST) -> str:
    """A name, or one of what a name holds: ``N``, ``Settings.N``."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _joined(operator: ast.operator, left: Any, right: Any) -> Any:
    """Texts and lists that are added, paths that are divided, numbers that are reckoned with."""
    if isinstance(operator, ast.Add) and type(left) is type(right) and isinstance(left, str | list):
        return left + right
    if isinstance(operator, ast.Div) and isinstance(left, str) and isinstance(right, str):
        return posixpath.join(left, right)
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in (left, right)):
        raise ValueError("nothing that can be reckoned with")
    try:
        if isinstance(operator, ast.Add):
            return left + right
        if isinstance(operator, ast.Sub):
            return left - right
        if isinstance(operator, ast.Mult):
            return left * right
        if isinstance(operator, ast.Div):
            return left / right
        if isinstance(operator, ast.FloorDiv):
            return left // right
    except ArithmeticError as error:
        raise ValueError("no number") from error
    raise ValueError("an operation that is not followed")


def _bounded(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool | list | None):
        raise ValueError("nothing that a recipe can hold")
    # Text and lists can double with each constant that is followed.
    if isinstance(value, str | list) and len(value) > _LONGEST:
        raise ValueError("too long")
    if isinstance(value, int | float) and not abs(value) <= _LARGEST:
        raise ValueError("too large")
    return value
