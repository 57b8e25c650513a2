"""Read a Python script of ms-swift 1.x by its syntax tree; nothing of it is ever executed."""

from __future__ import annotations

import ast
import warnings
from dataclasses import replace

from medllm_ops.errors import MedllmError
from medllm_ops.swift.migrate.calls import KINDS, MAINS, Argument, Call, Script
from medllm_ops.swift.migrate.python_blocks import blocks_of
from medllm_ops.swift.migrate.python_bound import Bound, BoundNames
from medllm_ops.swift.migrate.python_values import CHANGING, Change, Constants, last_name, source
from medllm_ops.swift.migrate.shell_script import read_shell, shell_line

_SHELLS = ("system", "run", "call", "check_call", "check_output", "Popen", "getoutput")


def read_python(text: str, file: str) -> Script:
    """The calls of ms-swift in a Python script, in the order of its lines.

    Constants that a name was given once are followed, in formatted texts, sums and paths too, and so are ``dict(...)``
    and ``**settings`` with what was put into them later; whatever else would have to be computed is left to a human.

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
        self._blocks = blocks_of(tree)
        self._constants = Constants(tree, self._blocks)
        self._aliases: dict[str, str] = {}
        self._bound = BoundNames()
        self._statement: ast.stmt = ast.Pass()
        self._merged: set[ast.expr] = set()
        self._called: set[ast.expr] = set()
        self._functions: list[str] = []

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._aliases |= {each.asname: each.name for each in node.names if each.asname}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._functions.append(node.name)
        # Not what it is said to return.
        for part in (*node.decorator_list, node.args, *node.body):
            self.visit(part)
        self._functions.pop()

    def visit(self, node: ast.AST) -> None:
        """Remember which simple statement it is."""
        if isinstance(node, ast.stmt):
            self._statement = node
        super().visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._assign(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
            self._assign(node.target, node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._change(node)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self._mention(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._mention(node)
        self._change(node)
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        """What a parameter is said to be is no call."""

    def visit_Call(self, node: ast.Call) -> None:
        name = self._name(node.func)
        if name in KINDS and (name.endswith("Arguments") or name == "merge_lora"):
            self._called.add(node.func)
            self._take(node, name)
        elif name == "setattr" and len(node.args) > 1:
            changed = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
            self._disturb(self._bound.of(node.args[0]), str(changed), node)
        elif name in MAINS:
            self._main(node, MAINS[name], name)
        elif last_name(getattr(node.func, "value", node)) == "environ" or name == "putenv":
            if name in ("putenv", "setdefault", "update"):
                self._leave(node, "what the environment was given")
        elif name in _SHELLS:
            self._shell(node)
        elif isinstance(node.func, ast.Attribute):
            bound, argument = self._bound.around(node.func.value)
            if not argument or name in CHANGING:
                self._disturb(bound, argument, node)
        self.generic_visit(node)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            values = value.elts if isinstance(value, ast.Tuple | ast.List) else []
            pairs = len(values) == len(target.elts) and not any(isinstance(each, ast.Starred) for each in values)
            for position, each in enumerate(target.elts):
                if pairs:
                    self._assign(each, values[position])
                else:
                    self.visit(each)
        elif isinstance(target, ast.Name | ast.Attribute) and (made := self._made_by(value)):
            self._bound.add(target, Bound(made, self._blocks[target]))
            made.hints.append(last_name(target))
        elif isinstance(target, ast.Name | ast.Attribute) and (held := self._bound.of(value)):
            self._bound.add(target, held)
        elif isinstance(target, ast.Attribute) and (bound := self._bound.of(target.value)):
            self._give(bound, target.attr, value)
        elif isinstance(target, ast.Subscript) and self._name(target.value) == "environ":
            name = source(target.slice)
            self.script.leftovers.append(
                f"{self.file}, line {value.lineno}: the environment was given {name} = {source(value)}"
            )
        else:
            self.visit(target)

    def _made_by(self, node: ast.expr) -> Call | None:
        """The arguments that an expression makes."""
        made = None
        if isinstance(node, ast.Call):
            for call in self.script.calls:
                if (call.line, call.name) == (node.lineno, self._name(node.func)):
                    made = call
        return made

    def _give(self, bound: Bound, name: str, value: ast.expr) -> None:
        """Take an argument that is set behind the call."""
        if bound.used:
            self._leave(self._statement, "a change behind the use")
        elif self._blocks[value] == bound.block:
            self.script.add(bound.call, self._argument(name, value))
        else:
            self._take_unsure(bound.call, name, value)

    def _take_unsure(self, call: Call, name: str, value: ast.expr) -> None:
        """Take an argument that is set in a branch, a loop or a function of its own."""
        told = f"{source(value)}, set only sometimes"
        self.script.add(call, Argument(name, None, told, value.lineno, readable=False))

    def _change(self, node: ast.Attribute | ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._disturb(*self._bound.around(node), node)

    def _disturb(self, bound: Bound | None, name: str, node: ast.expr) -> None:
        """Leave over what is done to arguments in a way that is not followed; nobody knows the one that it changes."""
        if bound is None:
            return
        whole = self._statement if not hasattr(self._statement, "body") else node
        self._leave(whole, "a change")
        if name in bound.call.arguments and not bound.used:
            bound.call.arguments[name] = replace(bound.call.arguments[name], value=None, readable=False)

    def _take(self, node: ast.Call, name: str) -> None:
        kind = "merge" if node in self._merged else KINDS[name]
        call = Call(kind, name, self.file, node.lineno, hints=[*self._functions])
        self.script.calls.append(call)
        for position, value in enumerate(node.args):
            if name == "merge_lora" and isinstance(value, ast.Name | ast.Call):
                self._merges(value)
                continue
            self._leave(value, f"argument {position + 1} of {name}")
        for keyword in node.keywords:
            if keyword.arg is not None:
                self.script.add(call, self._argument(keyword.arg, keyword.value))
            else:
                self._unpack(call, keyword.value)

    def _mention(self, node: ast.Name | ast.Attribute) -> None:
        """Leave over a class of arguments that is not called where it stands, such as in ``partial(…)``."""
        name = self._name(node)
        if node not in self._called and name.endswith("Arguments") and name in KINDS:
            told = f"{name} is not called there: what it is given elsewhere has to be read"
            self.script.leftovers.append(f"{self.file}, line {node.lineno}: {told}")

    def _merges(self, node: ast.expr) -> None:
        """These arguments are of a merge, whatever their class is called."""
        self._merged.add(node)
        if bound := self._bound.of(node):
            bound.call.kind = "merge"

    def _unpack(self, call: Call, node: ast.expr) -> None:
        """Take what ``**settings`` holds."""
        changes: list[Change] = []
        if isinstance(node, ast.Name) and (constant := self._constants.first(node.id)) is not None:
            changes, node = self._constants.changes(node.id), constant
        block = self._blocks[node]
        self._unpack_first(call, node)
        for change in changes:
            if change.line > call.line or change.name is None or change.value is None:
                self.script.leftovers.append(f"{self.file}, line {change.line}: not followed: {change.text}")
            elif change.block == block:
                self.script.add(call, self._argument(change.name, change.value))
            else:
                self._take_unsure(call, change.name, change.value)

    def _unpack_first(self, call: Call, node: ast.expr) -> None:
        if isinstance(node, ast.Call) and self._name(node.func) == "dict" and not node.args:
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
                    self._leave(value, f"a setting of {call.name} whose name is computed ({source(key)})")
            return
        self._leave(node, f"settings of {call.name}")

    def _argument(self, name: str, node: ast.expr) -> Argument:
        text = source(node)
        try:
            value = self._constants.value(node)
        except (ValueError, RecursionError):
            return Argument(name, None, text, node.lineno, readable=False)
        followed = f"{text}: {value!r}" if isinstance(node, ast.Name) else text
        return Argument(name, value, followed, node.lineno)

    def _shell(self, node: ast.Call) -> None:
        """Read a command line that the script starts."""
        named = [each.value for each in node.keywords if each.arg == "args"]
        for argument in [*node.args, *named][:1]:
            try:
                value = self._constants.value(argument)
            except ValueError:
                if "swift" in source(argument):
                    self._leave(argument, "a command")
                continue
            line = shell_line(value) if isinstance(value, list) else str(value)
            if any(word in line for word in ("swift", "llm_", ".sh")):
                self._read_line(line, node.lineno)

    def _main(self, node: ast.Call, command: str, name: str) -> None:
        """Read the words that a main function is given; a class of arguments is found by itself."""
        for keyword in node.keywords:
            self._leave(keyword.value, f"argument {keyword.arg or '**'} of {name}")
        for given in (*node.args, *(keyword.value for keyword in node.keywords)):
            if bound := self._bound.of(given):
                bound.used = True
        if not node.args:
            return
        argument = node.args[0]
        if command == "merge-lora":
            self._merges(argument)
        if isinstance(argument, ast.Call) or self._bound.of(argument):
            return
        try:
            words = self._constants.value(argument)
        except (ValueError, RecursionError):
            words = None
        if isinstance(words, list):
            self._read_line(f"swift {command} {shell_line(words)}", argument.lineno)
        else:
            self._leave(argument, f"what {name} is given")

    def _read_line(self, line: str, number: int) -> None:
        found = read_shell(line, self.file, first_line=number)
        for call in found.calls:
            call.hints += self._functions
        self.script.calls += found.calls
        self.script.leftovers += found.leftovers

    def _name(self, node: ast.expr) -> str:
        """The last part of a name, as it is called where it comes from."""
        name = last_name(node)
        return self._aliases.get(name, name)

    def _leave(self, node: ast.expr | ast.stmt, what: str) -> None:
        self.script.leftovers.append(f"{self.file}, line {node.lineno}: {what} has to be read: {source(node)}")
