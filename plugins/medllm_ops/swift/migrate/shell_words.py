"""The words of a line of a shell script, and what its variables put into them; nothing is ever run for it.

What a shell would put in (``$NAME``, ``${NAME:-default}``, ``$(command)``, backquotes) is held back by a sign of its
own before the line is split, so that a blank or a bracket inside of it splits no word.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

# Signs of the private area, which no script needs.
_OPEN, _CLOSE = "\ue000", "\ue001"
_HELD = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_NAME = re.compile(r"\$(\w+|[@*#?!$-])")
_BRACED = re.compile(r"\$\{(\w+)(?:(:?[-=])(.*))?\}", re.DOTALL)


def without_signs(text: str) -> str:
    """A text without the signs that are used here."""
    return text.replace(_OPEN, "").replace(_CLOSE, "")


@dataclass(frozen=True, slots=True)
class _Insertion:
    source: str
    quoted: bool


@dataclass(slots=True)
class Words:
    """The variables of a script, and what was held back of its lines."""

    variables: dict[str, str] = field(default_factory=dict)
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
        split = any(not self._held[int(found)].quoted for found in _HELD.findall(word) if self._is_known(int(found)))
        text = self.expand_one(word)
        return text.split() if split else [text]

    def expand_one(self, word: str) -> str:
        """A word with the variables put in, whole; what is not known stays held back."""
        return _HELD.sub(lambda found: self._value(found[0], int(found[1])), word)

    def is_known(self, word: str) -> bool:
        """Whether nothing of an expanded word is held back."""
        return not any(int(found) < len(self._held) for found in _HELD.findall(word))

    def show(self, word: str) -> str:
        """A word as it stood in the script, as far as it is held back."""
        while (shown := _HELD.sub(lambda found: self._source(found[0], int(found[1])), word)) != word:
            word = shown
        return word

    def _source(self, sign: str, number: int) -> str:
        return self._held[number].source if number < len(self._held) else sign

    def _is_known(self, number: int) -> bool:
        return number < len(self._held) and self._value("", number) != ""

    def _value(self, sign: str, number: int) -> str:
        if number >= len(self._held):
            return sign
        source = self._held[number].source
        if (found := _NAME.fullmatch(source)) and found[1] in self.variables:
            return self.variables[found[1]]
        if found := _BRACED.fullmatch(source):
            if found[1] in self.variables:
                return self.variables[found[1]]
            # Whoever started the script may have said otherwise, which nobody can know.
            if found[2] and "$" not in found[3] and "`" not in found[3]:
                return found[3].strip("'\"")
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
            if letter in "'\"" and quote in ("", letter):
                quote = "" if quote else letter
            end = _end_of_insertion(line, position) if letter in "$`" and quote != "'" else position
            if end > position:
                kept.append(f"{_OPEN}{len(self._held)}{_CLOSE}")
                self._held.append(_Insertion(line[position:end], quoted=quote == '"'))
                position = end
                continue
            kept.append(letter)
            position += 1
        return "".join(kept)


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
