"""Processes of a merge: one that is run to its end, and one that is started early and waits for its word.

A process that imports torch needs seconds before it can do anything. Started while another one works, it has done that
when its turn comes, and is still a process of its own that has seen nothing of the other's memory.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Waiting(Protocol):
    """A process that has been started, and begins its work when it is told."""

    def finish(self) -> int:
        """Let it begin, wait for its end, and return its exit code."""
        ...

    def end(self) -> None:
        """End it, whether it has begun or not; nothing happens if it has ended."""
        ...


class Processes:
    """Starts the processes of a merge as children of this one."""

    def run(self, argv: list[str], environment: Mapping[str, str], log: Path) -> int:
        """Run a command, its output appended to a log; return the exit code.

        :param environment: added to that of this process.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            done = subprocess.run(
                argv, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False
            )
        return done.returncode

    def prepare(self, argv: list[str], environment: Mapping[str, str], log: Path) -> Waiting:
        """Start a command that calls :func:`wait_for_word` before it does its work; otherwise as :meth:`run`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        return _Child(argv, environment, log)


class _Child:
    def __init__(self, argv: list[str], environment: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as file:
            self._child = subprocess.Popen(
                argv, env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=file, stderr=file
            )

    def finish(self) -> int:
        self._speak(b"\n")
        return self._child.wait()

    def end(self) -> None:
        self._child.kill()
        self._speak(b"")
        self._child.wait()

    def _speak(self, word: bytes) -> None:
        """Say the word, if there is one, and that no other will come."""
        assert self._child.stdin
        if self._child.stdin.closed:
            return
        # It may have ended before its turn; its exit code tells.
        with contextlib.suppress(BrokenPipeError), self._child.stdin as pipe:
            pipe.write(word)


def wait_for_word() -> bool:
    """Wait until the process that started this one says that it may begin; False if that one has gone instead."""
    return bool(sys.stdin.buffer.read(1))
