"""The commands of a line of a shell script, and which variables each of them sets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

_SEPARATORS = frozenset({";", "&&", "||", "|", "&", ";;", "(", ")", "|&"})
_TOUCHING = re.compile(r"\(\)|&&|\|\||\|&|;;|[();|&]")
ASSIGNMENT = re.compile(r"^([A-Za-z_]\w*)(\+?)=(.*)$", re.DOTALL)
_ELEMENT = re.compile(r"^[A-Za-z_]\w*\[[^\]]*\]\+?=")
_NAME = re.compile(r"[A-Za-z_]\w*")
_DECLARING = frozenset({"declare", "export", "local", "readonly", "typeset"})
# Options of theirs that change nothing about a value.
_PLAIN_OPTIONS = frozenset("-gprx")
# Commands that set the variables that they name to what only a run would tell.
_CHANGING = frozenset({"getopts", "mapfile", "read", "readarray", "unset"})
# What a sum sets: B=2, B*=2, B++, --B; B==2 and B<=2 only ask.
_RECKONED = re.compile(r"([A-Za-z_]\w*)(?:(?:[-+*/%&|^]|<<|>>)?=(?!=)|\+\+|--)|(?:\+\+|--)([A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True)
class Command:
    """A command with the separators before it, and the one behind it."""

    before: list[str]
    words: list[str]
    after: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """A variable and what a command gives it, or puts behind what it has."""

    name: str
    value: str
    appended: bool = False


def commands_of(words: Sequence[str]) -> list[Command]:
    """The commands of a line; the last one is empty where only separators are left."""
    commands: list[Command] = []
    before: list[str] = []
    inside: list[str] = []
    reckons, brackets = False, 0
    for word in (part for each in words for part in _apart(each)):
        brackets += (word == "(") - (word == ")")
        if word == "))" and brackets > 1 and not reckons:
            commands.append(Command(before, inside, ")"))
            before, inside, brackets = [")", ")"], [], brackets - 2
            continue
        reckons = (reckons or (word == "((" and inside in ([], ["for"]))) and word != "))"
        if reckons or word not in _SEPARATORS:
            inside.append(word)
            continue
        if inside:
            commands.append(Command(before, inside, word))
            before, inside = [], []
        before.append(word)
    return [*commands, Command(before, inside)]


def _apart(word: str) -> list[str]:
    """Separators that touch each other are one word to shlex: ``);``."""
    parts = _TOUCHING.findall(word)
    return parts if len(parts) > 1 and "".join(parts) == word and word not in ("((", "))") else [word]


def settings_of(words: Sequence[str]) -> list[Setting] | None:
    """What a command sets, if it only sets variables to what is written there; else None."""
    declares = bool(words) and words[0] in _DECLARING
    names = [word for word in words[declares:] if not (declares and word.startswith("-"))]
    found = [ASSIGNMENT.match(name) for name in names]
    settings = [Setting(each[1], each[3], bool(each[2])) for each in found if each]
    if not declares:
        return settings if settings and len(settings) == len(names) else None
    options = {letter for word in words[1:] if word.startswith("-") for letter in word} - _PLAIN_OPTIONS
    whole = options <= {"i"} and all(each.value.isdecimal() and not each.appended for each in settings)
    return settings if not options or whole else None


def changed_by(words: Sequence[str]) -> list[str]:
    """The variables that a command sets to what only a run would tell."""
    words = list(words)
    while len(words) > 1 and ASSIGNMENT.match(words[0]):
        words.pop(0)  # IFS= read B
    if not words:
        return []
    if _ELEMENT.match(words[0]):
        return _NAME.findall(words[0])[:1]
    if words[0] in ("((", "let") or words[1:2] == ["(("]:
        return [before or behind for before, behind in _RECKONED.findall("".join(words[1:]))]
    if words[0] in ("for", "select"):
        return words[1:2]
    if words[0] in _CHANGING or words[0] in _DECLARING:
        return [name for word in words[1:] if not word.startswith("-") for name in _NAME.findall(word)]
    return words[words.index("-v") + 1 :][:1] if words[0] == "printf" and "-v" in words else []


def command_in(words: Sequence[str]) -> str:
    """The command line that a command only hands on: ``eval LINE``, ``bash -c LINE``."""
    if words[:1] == ["eval"]:
        return " ".join(words[1:])
    shell = words and PurePosixPath(words[0]).name in ("bash", "sh", "zsh")
    return words[2] if shell and len(words) > 2 and words[1] in ("-c", "-lc", "-ec") else ""
