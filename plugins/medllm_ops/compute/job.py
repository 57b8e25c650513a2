"""One job: a command with its environment and a directory that tells its whole story.

The directory holds ``job.json`` (what was asked), ``supervisor.json`` and ``process.json`` (who runs it: host, pid
and start time), ``job.log`` (all attempts, one after the other), ``result.json`` (how the last attempt ended) and,
where the job itself knows why it failed, ``failure.json``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from medllm_ops.compute.owner import TaskOwner
from medllm_ops.compute.processes import ProcessIdentity
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, text_hash, write_json


class JobError(MedllmError):
    """A job ended badly; the sentence names its log.

    :param cause: one word, if the job said why; see :class:`Failure`.
    :param retry: whether the same job may end better when it is run again with nothing changed.
    """

    def __init__(self, sentence: str, cause: str = "", retry: bool = True) -> None:
        super().__init__(sentence)
        self.cause = cause
        self.retry = retry


_PYTHON = "{python}"


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
    :param environment: added to the trainer's own environment.
    :param gpus: how many GPUs it holds while it runs.
    :param owner: the Airflow task that asked for it, if one did.
    """

    id: str
    key: str
    argv: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    owner: TaskOwner | None = None

    @property
    def log(self) -> Path:
        """Standard output and error of every attempt."""
        return self.directory / "job.log"

    @property
    def result_file(self) -> Path:
        """Written by the supervisor when the command has ended."""
        return self.directory / "result.json"

    @property
    def failure_file(self) -> Path:
        """Written by the job itself, if it knows why it fails."""
        return self.directory / "failure.json"

    def write(self) -> None:
        """Leave the request in the job's directory."""
        # The trainer may live in another image: our own Python is written as one word, and read as its own.
        argv = [_PYTHON if part == sys.executable else part for part in self.argv]
        row = {"id": self.id, "key": self.key, "argv": argv, "environment": dict(self.environment)}
        owner = self.owner.to_row() if self.owner else None
        write_json(self.directory / "job.json", {**row, "gpus": self.gpus, "owner": owner})

    @classmethod
    def read(cls, directory: Path) -> Job:
        """Read back what :meth:`write` left."""
        row = read_json(directory / "job.json")
        argv = tuple(sys.executable if part == _PYTHON else part for part in row["argv"])
        owner = TaskOwner(**row["owner"]) if row["owner"] else None
        return cls(row["id"], row["key"], argv, directory, row["environment"], row["gpus"], owner)

    @classmethod
    def find(cls, directory: Path) -> Job | None:
        """The job that was last asked for in a directory, if there was one."""
        return cls.read(directory) if (directory / "job.json").is_file() else None

    def supervisor(self) -> ProcessIdentity | None:
        """The process that runs the job, if one was ever started."""
        path = self.directory / "supervisor.json"
        return ProcessIdentity.from_row(read_json(path)) if path.is_file() else None

    def result(self) -> JobResult | None:
        """How the last attempt ended, or None while it runs or if it was killed."""
        return JobResult(**read_json(self.result_file)) if self.result_file.is_file() else None

    def failure(self) -> Failure | None:
        """Why the job failed, if it knew."""
        return Failure(**read_json(self.failure_file)) if self.failure_file.is_file() else None

    def error(self, result: JobResult) -> JobError:
        """What a bad end says to the user."""
        failure = self.failure()
        if failure and not result.stopped:
            return JobError(
                f"job {self.id} failed: {failure.sentence}; log {self.log}", failure.cause, retry=failure.retry
            )
        reason = "it was stopped" if result.stopped else explain_exit_code(result.exit_code)
        sentence = f"job {self.id} failed ({reason}); log {self.log} ends:\n{self.log_tail()}"
        # Who stopped it does not want it to be started again, and a full disk stays full.
        cause = "stopped" if result.stopped else "disk" if result.exit_code == EXIT_DISK else ""
        return JobError(sentence, cause, retry=not cause)

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


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: a word for programs, a sentence for a person, and whether a rerun may help."""

    cause: str
    sentence: str
    retry: bool


# Our own supervisor's and trainer's.
EXIT_LOST = 120
EXIT_REFUSED = 121
# Of a job that had no room even for its failure.json.
EXIT_DISK = 122

# What ms-swift's exit codes mean, beside 0: seen in runs.
_EXIT_CODES = {
    1: "an exception",
    2: "an argument that ms-swift does not accept",
    EXIT_LOST: "its supervisor was killed",
    EXIT_REFUSED: "it got no GPU",
    EXIT_DISK: "the disk is full; free some space and run it again: it goes on where it stood",
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
        """Submit a job and wait for it."""
        ...

    def wait(self, job: Job, on_poll: Callable[[], Any] | None = None) -> JobResult:
        """Wait for the end of a job that was submitted.

        :param on_poll: called about once a second while the job runs, to tell progress.
        :raises JobError: if it ended with another exit code than 0.
        """
        ...

    def submit(self, job: Job) -> Job:
        """Get or create: the job as it runs, waits or has ended well in its directory, perhaps under another id."""
        ...

    def running(self, directory: Path, key: str) -> bool:
        """Whether the job of this directory runs, and is the one with this key."""
        ...

    def stop(self, directory: Path) -> None:
        """End the job of this directory, whoever asked for it, with every process of it."""
        ...
