"""Read a Python script of ms-swift 1.x by its syntax tree; nothing of it is ever executed."""

from __future__ import annotations

import ast
import warnings
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.swift.migrate.calls import KINDS, Argument, Call, Script
from medllm_ops.swift.migrate.shell_script import read_shell

_LARGEST = 10**18
_SHELLS = ("system", "run", "call", "check_call", "check_output", "Popen", "getoutput")
_ENUMERATIONS = ("ModelType", "DatasetName", "TemplateType", "LLMModelType", "MLLMModelType")


def read_python(text: str, file: str) -> Script:
    """The calls of ms-swift in a Python script, in the order of its lines.

    Constants that a name was given once are followed, and so are ``dict(...)`` and ``**settings``; whatever would
    have to be computed is left to a human.

    :raises MedllmError: if it is no Python.
    """
    try:
        with warnings.catch_warnings():
            # How an old script writes its strings is nobody's business here.
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise MedllmError(f"{file} is not Python that can be read: {error}") from error
    try:
        reader = _Reader(tree, file)
        reader.visit(tree)
    except RecursionError as error:
        raise MedllmError(f"{file} is nested too deeply to be read") from error
    return reader.script


class _Reader(ast.NodeVisitor):
    def __init__(self, tree: ast.AST, file: str) -> None:
        self.file = file
        self.script = Script()
        self._constants = _constants(tree)
        self._bound: dict[str, Call] = {}
        self._functions: list[str] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._functions.append(node.name)
        self.generic_visit(node)
        self._functions.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            self._assign(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.generic_visit(node)
        if node.value is not None:
            self._assign(node.target, node.value)

    def visit_Call(self, node: ast.Call) -> None:
        name = _last_name(node.func)
        if name in KINDS and (name.endswith("Arguments") or name == "merge_lora"):
            self._take(node, name)
        elif name in _SHELLS:
            self._shell(node)
        self.generic_visit(node)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name) and isinstance(value, ast.Call):
            for call in self.script.calls:
                if (call.line, call.name) == (value.lineno, _last_name(value.func)):
                    self._bound[target.id] = call
                    call.hints.append(target.id)
        elif (
            isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id in self._bound
        ):
            self.script.add(self._bound[target.value.id], self._argument(target.attr, value))
        elif isinstance(target, ast.Subscript) and _last_name(target.value) == "environ":
            name = _source(target.slice)
            self.script.leftovers.append(
                f"{self.file}, line {value.lineno}: the environment was given {name} = {_source(value)}"
            )

    def _take(self, node: ast.Call, name: str) -> None:
        call = Call(KINDS[name], name, self.file, node.lineno, hints=[*self._functions])
        self.script.calls.append(call)
        for position, value in enumerate(node.args):
            if name == "merge_lora" and isinstance(value, ast.Name | ast.Call):
                continue
            self._leave(value, f"argument {position + 1} of {name}")
        for keyword in node.keywords:
            if keyword.arg is not None:
                self.script.add(call, self._argument(keyword.arg, keyword.value))
            else:
                self._unpack(call, keyword.value)

    def _unpack(self, call: Call, node: ast.expr) -> None:
        """Take what ``**settings`` holds."""
        if isinstance(node, ast.Name) and node.id in self._constants:
            node = self._constants[node.id]
        if isinstance(node, ast.Call) and _last_name(node.func) == "dict" and not node.args:
            for keyword in node.keywords:
                if keyword.arg is not None:
                    self.script.add(call, self._argument(keyword.arg, keyword.value))
                else:
                    self._unpack(call, keyword.value)
            return
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    self.script.add(call, self._argument(key.value, value))
                elif key is None:
                    self._unpack(call, value)
                else:
                    self._leave(value, f"a setting of {call.name} whose name is computed ({_source(key)})")
            return
        self._leave(node, f"settings of {call.name}")

    def _argument(self, name: str, node: ast.expr) -> Argument:
        text = _source(node)
        try:
            value = self._value(node, 0)
        except (ValueError, RecursionError):
            return Argument(name, None, text, node.lineno, readable=False)
        followed = f"{text}: {value!r}" if isinstance(node, ast.Name) else text
        return Argument(name, value, followed, node.lineno)

    def _value(self, node: ast.expr, depth: int) -> Any:
        """What an expression is, if no code has to run for it.

        :raises ValueError: if some has to.
        """
        if depth > 20:
            raise ValueError("a constant that is defined by itself")
        if isinstance(node, ast.Attribute) and _last_name(node.value) in _ENUMERATIONS:
            return node.attr
        if isinstance(node, ast.Name) and node.id in self._constants:
            return self._value(self._constants[node.id], depth + 1)
        if isinstance(node, ast.List | ast.Tuple):
            return [self._value(each, depth + 1) for each in node.elts]
        value = ast.literal_eval(node)
        too_long = isinstance(value, int) and abs(value) > _LARGEST
        if too_long or not isinstance(value, str | int | float | bool | None):
            raise ValueError("nothing that a recipe can hold")
        return value

    def _shell(self, node: ast.Call) -> None:
        """Read a command line that the script starts."""
        for argument in node.args[:1]:
            try:
                value = self._value(argument, 0)
            except ValueError:
                if "swift" in _source(argument):
                    self._leave(argument, "a command")
                continue
            line = " ".join(map(_quote, value)) if isinstance(value, list) else str(value)
            if "swift" in line or "llm_" in line:
                found = read_shell(line, self.file, first_line=node.lineno)
                self.script.calls += found.calls
                self.script.leftovers += found.leftovers

    def _leave(self, node: ast.expr, what: str) -> None:
        self.script.leftovers.append(f"{self.file}, line {node.lineno}: {what} has to be read: {_source(node)}")


def _source(node: ast.AST) -> str:
    try:
        return ast.unparse(node)
    except ValueError:  # a number of thousands of digits
        return "a number that is too long to be written"


def _quote(value: Any) -> str:
    return "'" + str(value).replace("'", "'\"'\"'") + "'"


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _constants(tree: ast.AST) -> dict[str, ast.expr]:
    """Names that are given a value exactly once, with that value."""
    found: dict[str, list[ast.expr | None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        found.setdefault(name.id, []).append(node.value if name is target else None)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.setdefault(node.target.id, []).append(node.value)
        elif isinstance(node, ast.AugAssign | ast.For | ast.NamedExpr | ast.AsyncFor):
            for name in ast.walk(node.target):
                if isinstance(name, ast.Name):
                    found.setdefault(name.id, []).append(None)
        elif isinstance(node, ast.arg):
            found.setdefault(node.arg, []).append(None)
    return {name: values[0] for name, values in found.items() if len(values) == 1 and values[0] is not None}
