"""Read a shell script of ms-swift 1.x: its commands, their arguments, and the variables in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from medllm_ops.swift.migrate.calls import KINDS, Argument, Call, Kind, Script
from medllm_ops.swift.migrate.shell_commands import (
    ASSIGNMENT,
    Command,
    changed_by,
    command_in,
    commands_of,
    settings_of,
)
from medllm_ops.swift.migrate.shell_scopes import Scopes
from medllm_ops.swift.migrate.shell_words import Words, without_signs

_ARRAY = re.compile(r"^\s*(?:(?:export|declare|local|readonly|typeset)\s+(?:-\w+\s+)*)?(\w+)(\+?)=\(")
_NUMBER = re.compile(r"^[-+]?\d+$")
_PLAIN_STARTS = {
    "",
    "python",
    "python3",
    "nohup",
    "exec",
    "nohup python",
    "then",
    "do",
    "else",
    "python -m",
    "python3 -m",
}
# What a command starts, by itself or behind the name of a shell or of Python.
_SCRIPT = re.compile(r"\.(?:sh|bash|py)$")
_REDIRECTION = re.compile(r"^[<>]|^>&|^&>")
_HERE = re.compile(r"(?<!<)<<-?\s*(['\"]?)(\w+)\1")
_MODULE = "swift.cli."
# Commands inside of commands; a variable can hold one that asks for itself.
_DEEPEST = 5
# Commands that may name ms-swift, and train nothing.
_HARMLESS = frozenset({"cd", "conda", "echo", "git", "ls", "mkdir", "pip", "source"})


def read_shell(text: str, file: str, first_line: int = 1) -> Script:
    """The calls of ms-swift in a shell script, in order.

    Variables that the script itself sets are put in, and so are the defaults of ``${NAME:-default}``; whatever else
    stands in a call is left to a human.
    """
    reader = _Reader(file)
    reader.read(without_signs(text), first_line)
    reader.tell_unused()
    return reader.script


def shell_line(words: Sequence[Any]) -> str:
    """A command line of these words, which a shell would split into them again."""
    return " ".join("'" + str(word).replace("'", "'\"'\"'") + "'" for word in words)


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.script = Script()
        self._words = Words()
        self._depth = 0
        self._scopes = Scopes(self._words)
        self._exported: dict[str, int] = {}
        self._arrays: dict[str, int] = {}

    def read(self, text: str, first_line: int) -> None:
        """Take the calls of a text."""
        for number, line in self._logical_lines(text, first_line):
            words, comment = self._words.split(line)
            if words is None:
                self._leave(number, f"the quotes do not balance: {line}")
                words, comment = line.split(), ""
            if self._take_array(line, words, number):
                words = []
            for command in commands_of(words):
                bare, lost = self._scopes.enter(command.before, command.words, command.after)
                if lost:
                    self._leave(number, f"set in a function, or only sometimes: {', '.join(lost)}")
                if bare and not self._take_settings(bare, command, number) and not self._change(bare, number):
                    self._read_command(command.words, number)
            if comment and words:
                self._leave(number, f"after a # stands: {comment}")

    def tell_unused(self) -> None:
        """Leave over what no line of the script put in: what the commands found in their environment, and arrays."""
        for name, line in self._arrays.items():
            if name not in self._words.used:
                self._leave(line, f"not used: {name}=({self._show(self._words.arrays[name])})")
        for name, line in self._exported.items():
            if name in self._words.variables and name not in self._words.used:
                self._leave(line, self._given({name: self._words.variables[name]}))

    def _given(self, environment: Mapping[str, str]) -> str:
        settings = ", ".join(f"{key}={self._words.show(value)}" for key, value in environment.items())
        told = "; its processes are the field gpus now" if "NPROC_PER_NODE" in environment else ""
        return f"the environment was given {settings}{told}"

    def _take_settings(self, bare: list[str], command: Command, line: int) -> bool:
        """Take what a command sets, and return whether it only does that; nobody knows what is set only sometimes."""
        settings = settings_of(bare)
        if settings is None:
            return False
        names = [each.name for each in settings]
        if bare[0] == "export":
            bare_names = [word for word in bare[1:] if not ASSIGNMENT.match(word)]
            self._exported |= dict.fromkeys([*names, *bare_names], line)
        if settings and not self._scopes.is_sure(command.before, command.after):
            self._words.forget(names)
            self._leave(line, f"set only sometimes: {self._show(command.words)}")
            return True
        for each in settings:
            self._words.assign(each.name, self._words.expand_one(each.value), appended=each.appended)
            if each.appended and each.name in self._words.unsure:
                self._leave(line, f"put behind what nobody knows: {self._show(bare)}")
        return True

    def _change(self, bare: list[str], line: int) -> bool:
        """Forget the variables that a command sets to what only a run would tell; return whether it is no call."""
        names = changed_by(bare)
        if self._words.forget(names):
            self._leave(line, f"changed by what is not followed: {self._show(bare)}")
        return bool(names)

    def _take_array(self, line: str, words: list[str], number: int) -> bool:
        """Remember the words of ``NAME=(…)``, or of ``NAME+=(…)`` behind them; return whether it is one."""
        found = _ARRAY.match(line)
        if not found or words[-1:] != [")"] or words.count("(") + words.count(")") != 2:
            return False
        self._arrays.setdefault(found[1], number)
        inside = [each for word in words[words.index("(") + 1 : -1] for each in self._words.expand(word)]
        before = self._words.arrays.get(found[1], []) if found[2] else []
        self._words.arrays[found[1]] = before + inside
        if self._scopes.in_branch:
            self._words.forget([found[1]])
            self._leave(number, f"set only sometimes: {found[1]}=({self._show(inside)})")
        elif not found[2]:
            self._words.unsure.discard(found[1])
        return True

    def _leave(self, line: int, told: str) -> None:
        self.script.leftovers.append(f"{self.file}, line {line}: {told}")

    def _logical_lines(self, text: str, first: int) -> list[tuple[int, str]]:
        """Lines with those that a backslash or the bracket of an array continues, each with its first one's number.

        Comment lines are left out.
        """
        lines: list[tuple[int, str]] = []
        held, start = "", 0
        # Only \n ends a line in a shell.
        raw_lines = [raw.removesuffix("\r") for raw in text.split("\n")]
        until = 0
        for position, line in enumerate(raw_lines):
            number = first + position
            if position < until:
                if "swift" in line:
                    self._leave(number, f"a text for another command is not read: {line.strip()}")
                continue
            start = start if held else number
            if held and _ARRAY.match(held):
                if line.lstrip().startswith("#"):
                    continue
                line = _without_comment(line)
            if _ARRAY.match(held + line) and not _is_closed(held + line):
                held += line.removesuffix("\\") + " "
                continue
            if line.endswith("\\") and not line.endswith("\\\\"):
                held += line[:-1] + " "
                continue
            line, held = held + line, ""
            if line.strip() and not line.lstrip().startswith("#"):
                lines.append((start, line))
                if here := _HERE.search(line):
                    ends = (at + 1 for at in range(position + 1, len(raw_lines)) if raw_lines[at].strip() == here[2])
                    until = next(ends, 0)
        if held.strip() and not held.lstrip().startswith("#"):
            lines.append((start, held))
        return lines

    def _read_command(self, words: list[str], line: int) -> None:
        environment, unexpanded = self._environment(words)
        rest = [each for word in unexpanded for each in self._words.expand(word)]
        if (inner := command_in(rest)) and self._depth < _DEEPEST:
            self._depth += 1
            self.read(inner, line)
            self._depth -= 1
            return
        found = _find_call(rest)
        if found is None:
            named = any(re.search(r"\bswift\b", word) for word in rest) and rest[0] not in _HARMLESS
            if any(word.startswith("--") for word in rest) or named:
                self._leave(line, f"not understood: {self._show(words)}")
            elif any(_SCRIPT.search(word) for word in rest[:2]):
                self._leave(line, f"another script, to be migrated with this one: {self._show(words)}")
            return
        kind, name, begin, start = found
        call = Call(kind, name, self.file, line)
        self.script.calls.append(call)
        if environment:
            self._leave(line, self._given(environment))
        if " ".join(before := rest[:begin]) not in _PLAIN_STARTS:
            self._leave(line, f"{name} was started by: {self._show(before)}")
        self._read_arguments(rest[start:], call)

    def _show(self, words: Sequence[str]) -> str:
        return " ".join(shlex.quote(word) if self._words.is_known(word) else self._words.show(word) for word in words)

    def _environment(self, words: list[str]) -> tuple[dict[str, str], list[str]]:
        """Assignments before a command, and the command."""
        environment = {}
        position = 1 if words[0] in ("set", "env") else 0
        while position < len(words) and (found := ASSIGNMENT.match(words[position])):
            environment[found[1]] = self._words.expand_one(found[3])
            position += 1
        return environment, words[position:]

    def _read_arguments(self, words: list[str], call: Call) -> None:
        name: str | None = None
        values: list[str] = []
        redirected: list[str] = []
        left = iter(words)
        for word in left:
            if self._words.is_descriptor(word):
                redirected.append(word + next(left, "") + next(left, ""))
                continue
            if _REDIRECTION.match(word):
                redirected.append(f"{word} {next(left, '')}")
                continue
            if word.startswith("--") and len(word) > 2:
                self._finish(name, values, call)
                name, equals, value = word[2:].partition("=")
                values = [value] if equals else []
            else:
                values.append(word)
        self._finish(name, values, call)
        if redirected:
            self.script.leftovers.append(
                f"{call.place}: the output went elsewhere: {self._words.show(' '.join(redirected))}"
            )

    def _finish(self, name: str | None, values: list[str], call: Call) -> None:
        if name is None:
            if values:
                self.script.leftovers.append(f"{call.place}: before the first option stands: {self._show(values)}")
            return
        readable = all(self._words.is_known(value) for value in [name, *values])
        read: Any = [_read_value(value) for value in values]
        if len(read) < 2:
            # An option alone is switched on.
            read = read[0] if read else True
        text = self._words.show(" ".join(values)) or "true"
        self.script.add(call, Argument(self._words.show(name), read if readable else None, text, call.line, readable))


def _is_closed(line: str) -> bool:
    """Whether a line that opens an array closes it, too, as far as its end tells."""
    return line.rstrip().endswith(")")


def _without_comment(line: str) -> str:
    """A line of an array without the comment at its end."""
    return re.sub(r"(^|\s)#[^'\"]*$", "", line)


def _find_call(words: list[str]) -> tuple[Kind, str, int, int] | None:
    """The call of ms-swift in a command: its kind, its name, where it and its arguments start."""
    for position, word in enumerate(words):
        if word.startswith("-"):
            continue
        path = PurePosixPath(word)
        if path.name == "swift" and position + 1 < len(words) and words[position + 1] in KINDS:
            name = words[position + 1]
            return KINDS[name], name, position, position + 2
        stem = word.removeprefix(_MODULE) if word.startswith(_MODULE) else path.stem
        if stem in KINDS and (path.suffix == ".py" or stem != path.stem):
            return KINDS[stem], stem, position, position + 1
    return None


def _read_value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text in ("None", "none", "null"):
        return None
    if _NUMBER.match(text) and len(text) < 19:
        return int(text)
    try:
        return float(text) if re.match(r"^[-+]?[\d.]", text) and "_" not in text else text
    except ValueError:
        return text
