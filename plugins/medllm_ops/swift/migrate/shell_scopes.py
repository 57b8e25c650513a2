"""Where a command of a shell script stands: in a branch, in a function, or in a shell of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medllm_ops.swift.migrate.shell_words import Variables, Words

# Words around commands that are run only sometimes, or several times, and the words that end them.
_BRANCHES = {"case": "esac", "for": "done", "if": "fi", "select": "done", "until": "done", "while": "done"}
_BRANCH_ENDS = frozenset(_BRANCHES.values())
_BETWEEN = frozenset({"!", "do", "elif", "else", "then", "time"})
_CONDITIONAL = frozenset({"&&", "||"})
# A command on either side of a pipe, and one in the background, has a shell of its own.
_PIPES = frozenset({"|", "|&"})
_APART = _PIPES | {"&"}


@dataclass(frozen=True, slots=True)
class _Scope:
    """Something that was opened.

    :param sure: whether what is set inside holds behind it; :param before: the variables when it was opened.
    """

    end: str
    sure: bool
    before: Variables


class Scopes:
    """What is open at a command: branches, loops, functions, groups and brackets."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._open: list[_Scope] = []
        self._function_begins = False

    @property
    def in_branch(self) -> bool:
        """Whether what stands here is run only sometimes, or several times."""
        return any(scope.end in _BRANCH_ENDS for scope in self._open)

    def is_sure(self, before: Sequence[str], after: str) -> bool:
        """Whether what a command between these separators sets is what the next ones find."""
        return not self.in_branch and not (_CONDITIONAL | _PIPES) & set(before) and after not in _APART

    def enter(self, before: Sequence[str], words: Sequence[str], after: str) -> tuple[list[str], list[str]]:
        """Open and close what separators and the first words of a command do.

        :return: the command without those words, and the variables that nobody knows any more.
        """
        for separator in before:
            if separator == "(":
                self._push(")", sure=False)
            elif separator == ")" and self._open and self._open[-1].end == ")":
                self._words.restore(self._open.pop().before)
        left, lost = list(words), []
        while left:
            if left[0] in _BRANCHES:
                self._push(_BRANCHES[left[0]], sure=False)
                if left[0] in ("case", "for", "select"):
                    break
            elif left[0] == "{":
                self._push("}", sure=not self._function_begins and not (_CONDITIONAL | _PIPES) & set(before))
            elif left[0] == "}" or left[0] in _BRANCH_ENDS:
                lost += self._close(left[0], after)
            elif left[0] == "function" or (left[1:2] == ["()"] and left[2:3] in ([], ["{"])):
                self._function_begins = True
                left = left[3:] if left[2:3] == ["()"] else left[2:]
                continue
            elif left[0] not in _BETWEEN:
                break
            left = left[1:]
        return left, lost

    def _push(self, end: str, *, sure: bool) -> None:
        self._open.append(_Scope(end, sure, self._words.copy()))
        self._function_begins = False

    def _close(self, end: str, after: str) -> list[str]:
        """Close the innermost of a kind, with all that was left open in it."""
        if end not in [scope.end for scope in self._open]:
            return []
        while (scope := self._open.pop()).end != end:
            pass
        if end != "}" or (scope.sure and after not in _APART):
            return []
        return self._words.forget_changes(scope.before)
