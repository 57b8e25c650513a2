"""The folder through which jobs reach a trainer: an entry a job, moved by rename, so that exactly one trainer has it.

``queue/ID.json`` → ``running/HOST/ID.json`` → ``ended/ID.json``. Beside them ``stop/ID``, a wish that whoever has the
job ends it, ``leases/HOST/SLOT.json``, and ``trainers/HOST.json``, rewritten by a live trainer every few seconds.
Everything about a job itself lies in its own directory.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from medllm_ops.compute.job import Job
from medllm_ops.compute.processes import ProcessIdentity, host_name
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.home import home

State = Literal["queued", "running", "ended"]
KEPT_ENTRIES = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a job stands. ``submitted`` and ``since`` (of this state) are seconds since the epoch, to be shown."""

    id: str
    directory: Path
    gpus: int
    submitted: float
    state: State = "queued"
    host: str = ""
    supervisor: ProcessIdentity | None = None
    since: float = 0.0

    def to_row(self) -> dict[str, Any]:
        """As JSON, without what the entry's own place says."""
        row = asdict(self)
        row["directory"] = str(self.directory)
        return {name: value for name, value in row.items() if name not in ("state", "host", "since")}

    def alive(self) -> bool:
        """Whether its supervisor runs on this host."""
        return self.supervisor is not None and self.supervisor.alive()


class Spool:
    """All entries of one run volume."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or home() / "trainer"

    def submit(self, job: Job) -> None:
        """Put a job into the queue; what it was before is forgotten."""
        self.stop_file(job.id).unlink(missing_ok=True)
        (self.folder / "ended" / f"{job.id}.json").unlink(missing_ok=True)
        entry = Entry(job.id, job.directory, job.gpus, time.time())
        write_json(self.folder / "queue" / f"{job.id}.json", entry.to_row())

    def place(self, job: Job, host: str) -> None:
        """A job that nobody takes from the queue: it is brought to its host, such as a pod, by other means."""
        self.stop_file(job.id).unlink(missing_ok=True)
        (self.folder / "ended" / f"{job.id}.json").unlink(missing_ok=True)
        entry = Entry(job.id, job.directory, job.gpus, time.time())
        write_json(self._running(job.id, host), entry.to_row())

    def find(self, job_id: str) -> Entry | None:
        """Where a job stands.

        An entry can move on while it is looked for, but only forward: seen nowhere, it is looked for once more.
        """
        for _ in range(2):
            for path in (self._queued(job_id), *self.folder.glob(f"running/*/{job_id}.json"), self._ended(job_id)):
                if entry := self._read(path):
                    return entry
        return None

    def resolve(self, text: str) -> Entry:
        """The one entry whose id begins with a text.

        :raises MedllmError: if there is none, or more than one.
        """
        found = [entry for entry in self.entries() if entry.id.startswith(text)]
        exact = [entry for entry in found if entry.id == text]
        if len(exact or found) == 1:
            return (exact or found)[0]
        what = "no job" if not found else f"{len(found)} jobs ({', '.join(entry.id for entry in found[:5])})"
        raise MedllmError(f"{what} begins with {text!r}; `medllm-ops job list` shows them")

    def queued(self) -> list[Entry]:
        """What waits, in order."""
        return sorted(self._all("queue/*.json"), key=lambda entry: (entry.submitted, entry.id))

    def running(self, host: str | None = None) -> list[Entry]:
        """What runs on one host, or on all."""
        return sorted(self._all(f"running/{host or '*'}/*.json"), key=lambda entry: (entry.submitted, entry.id))

    def entries(self) -> list[Entry]:
        """All jobs that are known, the newest last; a job that is looked at while it moves is shown once."""
        found = {entry.id: entry for entry in [*self.queued(), *self.running(), *self._all("ended/*.json")]}
        return sorted(found.values(), key=lambda entry: (entry.submitted, entry.id))

    def take(self, entry: Entry) -> Entry | None:
        """Take a job for this host, or None if another trainer or a user was faster."""
        target = self._running(entry.id)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._queued(entry.id).rename(target)
        except FileNotFoundError:
            return None
        return replace(entry, state="running", host=host_name())

    def give_back(self, entry: Entry) -> None:
        """Back into the queue, at its old place."""
        with contextlib.suppress(FileNotFoundError):
            self._running(entry.id).rename(self._queued(entry.id))

    def started(self, entry: Entry, supervisor: ProcessIdentity) -> None:
        """Note who supervises a job that was taken."""
        write_json(self._running(entry.id), replace(entry, supervisor=supervisor).to_row())

    def finish(self, job_id: str, host: str | None = None) -> None:
        """A job of a host (this one), or one that still waits, has ended."""
        self.stop_file(job_id).unlink(missing_ok=True)
        target = self._ended(job_id)
        target.parent.mkdir(parents=True, exist_ok=True)
        for path in (self._running(job_id, host), self._queued(job_id)):
            with contextlib.suppress(FileNotFoundError):
                path.rename(target)
        self._forget_old()

    def cancel(self, job_id: str) -> bool:
        """Take a job out of the queue that no trainer has taken; return whether that was so."""
        target = self._ended(job_id)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._queued(job_id).rename(target)
        except FileNotFoundError:
            return False
        return True

    def ask_to_stop(self, job_id: str) -> None:
        """Wish that whoever has the job ends it."""
        self.stop_file(job_id).parent.mkdir(parents=True, exist_ok=True)
        self.stop_file(job_id).touch()

    def stop_file(self, job_id: str) -> Path:
        """Is there while somebody wants the job to end."""
        return self.folder / "stop" / job_id

    def beat(self, identity: ProcessIdentity, note: str = "") -> None:
        """A trainer of this host lives; ``note`` is what it does, in words."""
        write_json(
            self.folder / "trainers" / f"{host_name()}.json", {**identity.to_row(), "time": time.time(), "note": note}
        )

    def trainers(self) -> list[dict[str, Any]]:
        """The last words of the trainers of all hosts."""
        return [row for path in sorted(self.folder.glob("trainers/*.json")) if (row := _read_row(path))]

    def _queued(self, job_id: str) -> Path:
        return self.folder / "queue" / f"{job_id}.json"

    def _running(self, job_id: str, host: str | None = None) -> Path:
        return self.folder / "running" / (host or host_name()) / f"{job_id}.json"

    def _ended(self, job_id: str) -> Path:
        return self.folder / "ended" / f"{job_id}.json"

    def _all(self, pattern: str) -> Iterator[Entry]:
        for path in self.folder.glob(pattern):
            if entry := self._read(path):
                yield entry

    def _read(self, path: Path) -> Entry | None:
        row = _read_row(path)
        if row is None:
            return None
        where = path.relative_to(self.folder).parts
        states: dict[str, State] = {"queue": "queued", "running": "running", "ended": "ended"}
        supervisor = ProcessIdentity.from_row(row["supervisor"]) if row["supervisor"] else None
        with contextlib.suppress(FileNotFoundError):
            since = path.stat().st_ctime
            host = where[1] if where[0] == "running" else (supervisor.host if supervisor else "")
            return Entry(
                row["id"],
                Path(row["directory"]),
                row["gpus"],
                row["submitted"],
                states[where[0]],
                host,
                supervisor,
                since,
            )
        return None

    def _forget_old(self) -> None:
        """Keep the list readable; the jobs' own directories stay."""
        ended = sorted(self._all("ended/*.json"), key=lambda entry: entry.since)
        for entry in ended[:-KEPT_ENTRIES]:
            self._ended(entry.id).unlink(missing_ok=True)


def _read_row(path: Path) -> dict[str, Any] | None:
    """What a file holds, or None if it has just moved on."""
    with contextlib.suppress(FileNotFoundError):
        return dict(read_json(path))
    return None
