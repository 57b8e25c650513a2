"""Progress that a person can follow: one line a step on the terminal, everything else in a log file."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.status import Status


class Progress(logging.Handler):
    """Shows what the package logs: as a moving line on a terminal, as a line each in a file or a pipe."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._status: Status | None = None
        self._head = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one message of the package."""
        message = record.getMessage()
        if self._status:
            self._status.update(f"{self._head}  [dim]{escape(message)}[/]")
        else:
            self._console.print(f"    {message}", markup=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str, after: str | None) -> Iterator[None]:
        """Show that a step runs, what comes after it, and in the end how long it took."""
        head = escape(title)
        self._head = f"{head} [dim](next: {escape(after)})[/]" if after else head
        started = time.monotonic()
        if self._console.is_terminal:
            try:
                with self._console.status(self._head) as self._status:
                    yield
            finally:
                self._status = None
        else:
            self._console.print(f"{title}{f' (next: {after})' if after else ''}", markup=False, soft_wrap=True)
            yield
        done = f"{head} [green]done[/] in {time.monotonic() - started:.1f} s"
        self._console.print(done, markup=True, soft_wrap=True)


@contextmanager
def follow_log(log_file: Path, console: Console) -> Iterator[Progress]:
    """Send what the package logs to ``log_file``, and its course to the console."""
    logger = logging.getLogger("medllm_ops")
    progress = Progress(console)
    file = logging.FileHandler(log_file, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = logger.level
    logger.setLevel(logging.INFO)
    for handler in (progress, file):
        logger.addHandler(handler)
    try:
        yield progress
    finally:
        for handler in (progress, file):
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)
