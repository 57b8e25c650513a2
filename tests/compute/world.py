"""A host with trainers whose supervisors are no processes, for tests of what trainers decide."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from medllm_ops.compute.gpus import Slot
from medllm_ops.compute.job import Job, JobResult
from medllm_ops.compute.lease import Leases
from medllm_ops.compute.processes import ProcessIdentity
from medllm_ops.compute.spool import Spool
from medllm_ops.compute.trainer import Trainer
from medllm_ops.files import write_json

MYSELF = ProcessIdentity.of(os.getpid())
# A pid that cannot be, so that no process is meant by accident.
DEAD = ProcessIdentity(2**31 - 1, 0.0)


class World:
    """A host with trainers, and supervisors that are no processes: they live until they are told to end."""

    def __init__(self, folder: Path, slots: list[Slot]) -> None:
        self.folder = folder
        self.slots = slots
        self.spool = Spool(folder / "trainer")
        self.leases = Leases(self.spool.folder / "leases")
        self.started: list[str] = []
        self.unnoted: set[str] = set()
        self.trainer = self.new_trainer()

    def new_trainer(self) -> Trainer:
        return Trainer(self.spool, self.slots, self._start, lambda job: job in self.unnoted)

    def _start(self, job: Job, environment: dict[str, str]) -> None:
        self.started.append(job.id)
        self.unnoted.add(job.id)

    def submit(self, name: str, gpus: int) -> Job:
        job = Job(name, "key", ("true",), self.folder / name, gpus=gpus)
        job.result_file.unlink(missing_ok=True)
        job.write()
        self.spool.submit(job)
        return job

    def note(self, job: str, identity: ProcessIdentity = MYSELF) -> None:
        """The supervisor tells that it is there."""
        entry = self.spool.find(job)
        assert entry
        self.unnoted.discard(job)
        self.leases.hand_over(job, identity)
        self.spool.started(entry, identity)

    def end(self, job: str, exit_code: int = 0) -> None:
        """The supervisor ends in order."""
        found = Job.find(self.folder / job)
        assert found
        write_json(found.result_file, asdict(JobResult("key", exit_code, 1.0)))
        self.leases.release(job)
        self.spool.finish(job)

    def state(self, job: str) -> str:
        entry = self.spool.find(job)
        return entry.state if entry else "unknown"

    def holders(self) -> list[str]:
        return sorted(lease.job for lease in self.leases.held().values())
