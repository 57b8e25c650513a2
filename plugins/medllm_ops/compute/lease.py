"""Which job holds which GPU of this host. Only the host's one trainer gives leases; a supervisor gives its own back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medllm_ops.compute.gpus import Slot
from medllm_ops.compute.processes import ProcessIdentity, host_name
from medllm_ops.files import read_json, write_json


@dataclass(frozen=True, slots=True)
class Lease:
    """A job's hold on a slot since a time (seconds since the epoch); ``holder`` is the process that keeps it."""

    slot: str
    job: str
    holder: ProcessIdentity
    since: float


class Leases:
    """The leases of this host, a file each.

    :param folder: of all hosts; each has a folder of its own in it.
    """

    def __init__(self, folder: Path, host: str | None = None) -> None:
        self.folder = folder / (host or host_name())

    def held(self) -> dict[str, Lease]:
        """Who holds what, by the slot's name."""
        leases = {}
        for path in sorted(self.folder.glob("*.json")):
            with contextlib.suppress(FileNotFoundError):
                row = read_json(path)
                leases[path.stem] = Lease(
                    path.stem, row["job"], ProcessIdentity.from_row(row["holder"]), float(row["since"])
                )
        return leases

    def take(
        self, job: str, count: int, slots: Sequence[Slot], busy: Mapping[str, Sequence[str]], holder: ProcessIdentity
    ) -> list[Slot] | None:
        """Lease slots for a job, all that it needs or none.

        :param busy: devices on which a process computes: nobody may lease them, whoever's process it is.
        """
        held = self.held()
        free = [slot for slot in slots if slot.name not in held and not busy.get(slot.device or "")]
        if len(free) < count:
            return None
        for slot in free[:count]:
            self._write(slot.name, job, holder, time.time())
        return free[:count]

    def hand_over(self, job: str, holder: ProcessIdentity) -> None:
        """From now on another process keeps the job's leases."""
        for lease in self.held().values():
            if lease.job == job:
                self._write(lease.slot, job, holder, lease.since)

    def release(self, job: str) -> None:
        """Give back all that a job holds."""
        for lease in self.held().values():
            if lease.job == job:
                (self.folder / f"{lease.slot}.json").unlink(missing_ok=True)

    def release_lost(self, runs: Callable[[str], bool]) -> list[str]:
        """Give back what is held for jobs that no longer run; return their ids."""
        lost = sorted({lease.job for lease in self.held().values() if not runs(lease.job)})
        for job in lost:
            self.release(job)
        return lost

    def _write(self, slot: str, job: str, holder: ProcessIdentity, since: float) -> None:
        write_json(self.folder / f"{slot}.json", {"job": job, "holder": holder.to_row(), "since": since})
