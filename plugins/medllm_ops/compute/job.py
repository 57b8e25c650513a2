"""One job: a command with its environment and a directory that tells its whole story.

The directory holds ``job.json`` (what was asked), ``supervisor.json`` and ``process.json`` (who runs it: pid and
start time), ``job.log`` (all attempts, one after the other) and ``result.json`` (how the last attempt ended).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from medllm_ops.compute.processes import ProcessIdentity
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, text_hash, write_json


class JobError(MedllmError):
    """A job ended badly; the sentence names its log."""


def job_id(directory: Path) -> str:
    """The id of the job in a directory: the same on every try, so that a retry finds the job again."""
    directory = directory.resolve()
    return f"{directory.parent.name}-{text_hash(str(directory))[:16]}"


@dataclass(frozen=True, slots=True)
class Job:
    """What to run.

    :param id: unique among all jobs of this machine; carried by every process of the job.
    :param key: a hash of what the job is to achieve. The same key is the same job, whatever its command line says:
        a resumed training has other arguments than an unbroken one.
    :param argv: the command, absolute.
    :param directory: the job's own; made when it is submitted.
    :param environment: added to the worker's own environment.
    """

    id: str
    key: str
    argv: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Standard output and error of every attempt."""
        return self.directory / "job.log"

    @property
    def result_file(self) -> Path:
        """Written by the supervisor when the command has ended."""
        return self.directory / "result.json"

    def write(self) -> None:
        """Leave the request in the job's directory."""
        write_json(
            self.directory / "job.json",
            {"id": self.id, "key": self.key, "argv": self.argv, "environment": dict(self.environment)},
        )

    @classmethod
    def read(cls, directory: Path) -> Job:
        """Read back what :meth:`write` left."""
        row = read_json(directory / "job.json")
        return cls(row["id"], row["key"], tuple(row["argv"]), directory, row["environment"])

    def supervisor(self) -> ProcessIdentity | None:
        """The process that runs the job, if one was ever started."""
        path = self.directory / "supervisor.json"
        return ProcessIdentity.from_row(read_json(path)) if path.is_file() else None

    def result(self) -> JobResult | None:
        """How the last attempt ended, or None while it runs or if it was killed."""
        return JobResult(**read_json(self.result_file)) if self.result_file.is_file() else None

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the log, for an error message."""
        if not self.log.is_file():
            return "(no log)"
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 16_384))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])


@dataclass(frozen=True, slots=True)
class JobResult:
    """How an attempt ended. ``exit_code`` is negative for a signal; ``seconds`` is its wall time."""

    key: str
    exit_code: int
    seconds: float
    stopped: bool = False


# What ms-swift's exit codes mean, beside 0: seen in runs.
_EXIT_CODES = {
    1: "an exception",
    2: "an argument that ms-swift does not accept",
    127: "the command could not be started",
    241: "a child process got SIGTERM",
    247: "a child process was killed (SIGKILL: often the kernel, out of memory)",
    -9: "it was killed (SIGKILL: often the kernel, out of memory)",
    -15: "it got SIGTERM",
}


def explain_exit_code(code: int) -> str:
    """Say in words what an exit code of a swift job means."""
    return f"exit code {code}: {_EXIT_CODES.get(code, 'unknown')}"


class Place(Protocol):
    """Where jobs run."""

    def run(self, job: Job, on_poll: Callable[[], Any] | None = None) -> JobResult:
        """Run a job to its end, or find it again and wait for it.

        :param on_poll: called about once a second while the job runs, to tell progress.
        :raises JobError: if it ended with another exit code than 0.
        """
        ...

    def running(self, directory: Path, key: str) -> bool:
        """Whether the job of this directory runs, and is the one with this key."""
        ...

    def stop(self, job_id: str) -> None:
        """End every process of the job."""
        ...
