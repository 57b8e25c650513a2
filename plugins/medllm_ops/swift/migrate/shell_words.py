"""The words of a line of a shell script, and what its variables put into them; nothing is ever run for it.

What a shell would put in (``$NAME``, ``${NAME:-default}``, ``$(command)``, backquotes) is held back by a sign of its
own before the line is split, so that a blank or a bracket inside of it splits no word.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

# Signs of the private area, which no script needs.
_OPEN, _CLOSE = "\ue000", "\ue001"
_HELD = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_NAME = re.compile(r"\$(\w+|[@*#?!$-])")
# Text in which a backslash stands for something else than in any other quotes.
_ESCAPED = re.compile(r"\$'(?:[^'\\]|\\.)*'", re.DOTALL)
_DESCRIPTOR = re.compile(r"[0-9]+(?=[<>])")
_ARRAY = re.compile(r"\$\{(\w+)\[[@*]\]\}")
_BRACED = re.compile(r"\$\{(\w+)(?:(:?[-=])(.*))?\}", re.DOTALL)


def without_signs(text: str) -> str:
    """A text without the signs that are used here."""
    return text.replace(_OPEN, "").replace(_CLOSE, "")


@dataclass(frozen=True, slots=True)
class _Insertion:
    source: str
    quoted: bool
    descriptor: bool = False
    """The 2 of ``2>&1``, which is no word of its own."""


@dataclass(slots=True)
class Variables:
    """The variables of a script at one of its lines.

    :param unsure: those whose value nobody knows.
    """

    variables: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, list[str]] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)

    def copy(self) -> Variables:
        """The same variables, whatever becomes of these."""
        return Variables(dict(self.variables), dict(self.arrays), set(self.unsure))

    def restore(self, before: Variables) -> None:
        """Go back to the variables of a line before."""
        self.variables, self.arrays, self.unsure = before.variables, before.arrays, before.unsure

    def assign(self, name: str, value: str, *, appended: bool = False) -> None:
        """Give a variable a value, or put it behind the one that it has."""
        if not appended:
            self.variables[name] = value
            self.unsure.discard(name)
        elif name in self.variables:
            self.variables[name] += value
        else:
            self.unsure.add(name)

    def forget(self, names: Iterable[str]) -> list[str]:
        """Nobody knows these variables any more; return those that had a value until now."""
        found = {name for name in names if name in self.variables or name in self.arrays} - self.unsure
        self.unsure.update(names)
        return sorted(found)

    def forget_changes(self, before: Variables) -> list[str]:
        """Nobody knows whether what was set since then holds; return the variables that had a value then."""
        changed = [name for name, value in self.variables.items() if before.variables.get(name) != value]
        changed += [name for name, value in self.arrays.items() if before.arrays.get(name) != value]
        had = [name for name in changed if name in before.variables or name in before.arrays]
        self.unsure |= before.unsure | set(changed)
        return sorted(set(had) - before.unsure)


@dataclass(slots=True)
class Words(Variables):
    """The variables of a script, and what was held back of its lines.

    :param used: variables that were put in somewhere.
    """

    used: set[str] = field(default_factory=set)
    _held: list[_Insertion] = field(default_factory=list)

    def split(self, line: str) -> tuple[list[str] | None, str]:
        """The words of a line, and the comment at its end; None in place of words if the quotes do not balance."""
        line, comment = self._hold(line), ""
        # Inside a word, # is a letter: ms-swift's data sets are written path#rows.
        found = re.search(r"(?:^|\s)#", line)
        if found and not any(line[: found.start()].count(quote) % 2 for quote in "'\""):
            line, comment = line[: found.start()], self.show(line[found.end() :].strip())
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = ""
        try:
            return list(lexer), comment
        except ValueError:
            return None, comment

    def expand(self, word: str) -> list[str]:
        """A word with the variables put in: several words, or none, where a shell would split it."""
        if (found := _HELD.fullmatch(word)) and self._is_held(int(found[1])):
            array = _ARRAY.fullmatch(self._held[int(found[1])].source)
            if array and array[1] in self.arrays and array[1] not in self.unsure:
                self.used.add(array[1])
                return list(self.arrays[array[1]])
        split = any(not self._held[int(found)].quoted for found in _HELD.findall(word) if self._is_known(int(found)))
        text = self.expand_one(word)
        return text.split() if split else [text]

    def expand_one(self, word: str) -> str:
        """A word with the variables put in, whole; what is not known stays held back."""
        return _HELD.sub(lambda found: self._value(found[0], int(found[1])), word)

    def is_known(self, word: str) -> bool:
        """Whether nothing of an expanded word is held back."""
        return not any(self._is_held(int(found)) for found in _HELD.findall(word))

    def is_descriptor(self, word: str) -> bool:
        """Whether a word is the number of what is redirected by the word behind it."""
        found = _HELD.fullmatch(word)
        return bool(found and self._is_held(int(found[1])) and self._held[int(found[1])].descriptor)

    def _is_held(self, number: int) -> bool:
        """Whether something is held back under a number: a script can hold signs of its own."""
        return number < len(self._held)

    def show(self, word: str) -> str:
        """A word as it stood in the script, as far as it is held back."""
        while (shown := _HELD.sub(lambda found: self._source(found[0], int(found[1])), word)) != word:
            word = shown
        return word

    def _source(self, sign: str, number: int) -> str:
        return self._held[number].source if self._is_held(number) else sign

    def _is_known(self, number: int) -> bool:
        return self._is_held(number) and self._value("", number) != ""

    def _value(self, sign: str, number: int) -> str:
        if not self._is_held(number):
            return sign
        source = self._held[number].source
        found = _NAME.fullmatch(source) or _BRACED.fullmatch(source)
        if found and found[1] in self.unsure:
            return sign
        if found and found[1] in self.variables:
            self.used.add(found[1])
            return self.variables[found[1]]
        # Whoever started the script may have said otherwise, which nobody can know.
        default = _BRACED.fullmatch(source)
        if default and default[2] and "$" not in default[3] and "`" not in default[3]:
            return default[3].strip("'\"")
        return sign

    def _hold(self, line: str) -> str:
        kept: list[str] = []
        quote, position = "", 0
        while position < len(line):
            letter = line[position]
            if letter == "\\" and quote != "'":
                kept.append(line[position : position + 2])
                position += 2
                continue
            if not quote and (not kept or kept[-1].isspace()) and (found := _DESCRIPTOR.match(line, position)):
                kept.append(self._sign(_Insertion(found[0], quoted=False, descriptor=True)))
                position = found.end()
                continue
            if not quote and (found := _ESCAPED.match(line, position)):
                kept.append(self._sign(_Insertion(found[0], quoted=True)))
                position = found.end()
                continue
            if letter in "'\"" and quote in ("", letter):
                quote = "" if quote else letter
            end = _end_of_insertion(line, position) if letter in "$`" and quote != "'" else position
            if end > position:
                kept.append(self._sign(_Insertion(line[position:end], quoted=quote == '"')))
                position = end
                continue
            kept.append(letter)
            position += 1
        return "".join(kept)

    def _sign(self, insertion: _Insertion) -> str:
        """Hold something back, and return what stands for it."""
        self._held.append(insertion)
        return f"{_OPEN}{len(self._held) - 1}{_CLOSE}"


def _end_of_insertion(line: str, start: int) -> int:
    """Where what begins at ``start`` ends; ``start`` itself, if nothing begins there."""
    if line[start] == "`":
        return line.find("`", start + 1) + 1 or start
    bracket = line[start + 1 : start + 2]
    if bracket in ("(", "{") and bracket:
        depth, closing = 0, {"(": ")", "{": "}"}[bracket]
        for position in range(start + 1, len(line)):
            depth += (line[position] == bracket) - (line[position] == closing)
            if not depth:
                return position + 1
        return start
    found = _NAME.match(line, start)
    return found.end() if found else start
