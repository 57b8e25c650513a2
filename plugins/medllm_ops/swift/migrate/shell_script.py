"""Read a shell script of ms-swift 1.x: its commands, their arguments, and the variables in them."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath
from typing import Any

from medllm_ops.swift.migrate.calls import KINDS, Argument, Call, Kind, Script

_ASSIGNMENT = re.compile(r"^([A-Za-z_]\w*)=(.*)$", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_NUMBER = re.compile(r"^[-+]?\d+$")
_SEPARATORS = frozenset({";", "&&", "||", "|", "&", ";;", "(", ")", "|&"})
_PLAIN_STARTS = (["python"], ["python3"], ["nohup"], ["exec"], ["nohup", "python"])
_REDIRECTION = re.compile(r"^[<>]|^>&|^&>")


def read_shell(text: str, file: str, first_line: int = 1) -> Script:
    """The calls of ms-swift in a shell script, in order.

    Variables that the script itself sets are put in; whatever else stands in a call is left to a human.
    """
    script = Script()
    variables: dict[str, str] = {}
    for number, line in _logical_lines(text, first_line):
        words, comment = _words(line)
        if words is None:
            script.leftovers.append(f"{file}, line {number}: the quotes do not balance: {line}")
            words, comment = line.split(), ""
        for command in _commands(words):
            _read_command(command, script, variables, file, number)
        if comment and words:
            script.leftovers.append(f"{file}, line {number}: after a # stands: {comment}")
    return script


def _logical_lines(text: str, first: int) -> list[tuple[int, str]]:
    """Lines with those that a backslash continues, each with the number of its first one; no comment lines."""
    lines: list[tuple[int, str]] = []
    held, start = "", 0
    # Only \n ends a line in a shell.
    for number, raw in enumerate(text.split("\n"), start=first):
        line = raw.removesuffix("\r")
        start = start if held else number
        if line.endswith("\\") and not line.endswith("\\\\"):
            held += line[:-1] + " "
            continue
        line, held = held + line, ""
        if line.strip() and not line.lstrip().startswith("#"):
            lines.append((start, line))
    if held.strip() and not held.lstrip().startswith("#"):
        lines.append((start, held))
    return lines


def _words(line: str) -> tuple[list[str] | None, str]:
    """The words of a line, and the comment at its end; None in place of words if the quotes do not balance."""
    comment = ""
    # Inside a word, # is a letter: ms-swift's data sets are written path#rows.
    found = re.search(r"(?:^|\s)#", line)
    if found and not any(line[: found.start()].count(quote) % 2 for quote in "'\""):
        line, comment = line[: found.start()], line[found.end() :].strip()
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer), comment
    except ValueError:
        return None, comment


def _commands(words: list[str]) -> list[list[str]]:
    commands: list[list[str]] = [[]]
    for word in words:
        if word in _SEPARATORS:
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def _read_command(words: list[str], script: Script, variables: dict[str, str], file: str, line: int) -> None:
    environment, rest = _environment(words, variables)
    found = _find_call(rest)
    if found is None:
        if any(word.startswith("--") for word in rest) or "swift" in rest:
            script.leftovers.append(f"{file}, line {line}: not understood: {shlex.join(words)}")
        elif not rest:
            variables.update(environment)
        return
    kind, name, begin, start = found
    call = Call(kind, name, file, line)
    script.calls.append(call)
    if environment:
        settings = ", ".join(f"{key}={value}" for key, value in environment.items())
        told = "; its processes are the field gpus now" if "NPROC_PER_NODE" in environment else ""
        script.leftovers.append(f"{file}, line {line}: the environment was given {settings}{told}")
    if (before := rest[:begin]) and before not in _PLAIN_STARTS:
        script.leftovers.append(f"{file}, line {line}: {name} was started by: {shlex.join(before)}")
    _read_arguments(rest[start:], call, script, variables)


def _environment(words: list[str], variables: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Assignments before a command, and the command."""
    environment = {}
    position = 1 if words[0] in ("export", "set", "env", "declare") else 0
    while position < len(words) and (found := _ASSIGNMENT.match(words[position])):
        environment[found[1]] = _expand(found[2], variables)
        position += 1
    return environment, words[position:]


def _find_call(words: list[str]) -> tuple[Kind, str, int, int] | None:
    """The call of ms-swift in a command: its kind, its name, where it and its arguments start."""
    for position, word in enumerate(words):
        if word.startswith("-"):
            continue
        path = PurePosixPath(word)
        if path.name == "swift" and position + 1 < len(words) and words[position + 1] in KINDS:
            name = words[position + 1]
            return KINDS[name], name, position, position + 2
        if path.suffix == ".py" and path.stem in KINDS:
            return KINDS[path.stem], path.stem, position, position + 1
    return None


def _read_arguments(words: list[str], call: Call, script: Script, variables: dict[str, str]) -> None:
    name: str | None = None
    values: list[str] = []
    for position, word in enumerate(words):
        if _REDIRECTION.match(word):
            script.leftovers.append(f"{call.place}: the output went elsewhere: {' '.join(words[position:])}")
            break
        if word.startswith("--") and len(word) > 2:
            _finish(name, values, call, script, variables)
            name, equals, value = word[2:].partition("=")
            values = [value] if equals else []
        else:
            values.append(word)
    _finish(name, values, call, script, variables)


def _finish(name: str | None, values: list[str], call: Call, script: Script, variables: dict[str, str]) -> None:
    if name is None:
        if values:
            script.leftovers.append(f"{call.place}: before the first option stands: {' '.join(values)}")
        return
    expanded = [_expand(value, variables) for value in values]
    readable = not any("$" in value or "`" in value for value in expanded)
    read: Any = [_read_value(value) for value in expanded]
    if len(read) < 2:
        # An option alone is switched on.
        read = read[0] if read else True
    script.add(call, Argument(name, read if readable else None, " ".join(expanded) or "true", call.line, readable))


def _expand(text: str, variables: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[2], found[0]), text)


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
