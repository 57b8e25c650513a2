"""The process that gives jobs a GPU and a supervisor: ``medllm-ops trainer``, or started on demand.

One a host. On demand it ends when it has nothing left to start or to watch; as a service it stays. It may be killed at
any time: its jobs go on under their supervisors, and the next trainer finds them.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout

from medllm_ops.compute import gpus
from medllm_ops.compute.gpus import Slot
from medllm_ops.compute.job import EXIT_LOST, EXIT_REFUSED, Failure, Job, JobResult
from medllm_ops.compute.lease import Leases
from medllm_ops.compute.processes import MARK, ProcessIdentity, end_job, host_name, marked_processes
from medllm_ops.compute.spool import Entry, Spool
from medllm_ops.compute.supervisor import start_supervisor
from medllm_ops.errors import MedllmError
from medllm_ops.files import write_json

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
BEAT_SECONDS = 5.0
HOLDERS_SECONDS = 5.0
# How long a GPU may be busy with a process that is no job of ours before the job is refused.
BUSY_SECONDS = 120.0
# How often a supervisor may die before it has noted that it is there.
MOST_STARTS = 3
LOCK_SECONDS = 1.0
MARK_OF_TRAINERS = "medllm-trainer"

Start = Callable[[Job, dict[str, str]], object]
Lives = Callable[[str], bool]


class Trainer:
    """Takes jobs from a spool for this host.

    :param slots: what can be leased here.
    :param start: how a supervisor is started; :param lives: whether a process of a job still runs.
    """

    def __init__(
        self,
        spool: Spool,
        slots: list[Slot],
        start: Start = start_supervisor,
        lives: Callable[[str], bool] | None = None,
    ) -> None:
        self.spool = spool
        self.slots = slots
        self.leases = Leases(spool.folder / "leases")
        self._start = start
        self._lives = lives or _any_process
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._busy_since: dict[str, float] = {}
        self._starts: dict[str, int] = {}
        self._holders: tuple[float, dict[str, list[str]]] = (-HOLDERS_SECONDS, {})
        self.identity = ProcessIdentity.of(os.getpid())

    def step(self, restarted: bool = False) -> bool:
        """Look once at everything; return whether anything is left to do.

        :param restarted: nobody has looked for a while, as after the restart of a container: jobs that died meanwhile
            wait again, and go on from where they stood.
        """
        for entry in self.spool.running(host_name()):
            if not self._runs(entry):
                self._bury(entry, again=restarted)
        running = {entry.id for entry in self.spool.running(host_name())}
        self.leases.release_lost(running.__contains__)
        # Nobody overtakes: a job for four GPUs would wait for ever behind jobs for one.
        first_waits = False
        for entry in self.spool.queued():
            if entry.gpus and first_waits:
                _tell(entry.directory, "waits for its turn")
            elif not self._consider(entry):
                first_waits = True
        return bool(self.spool.running(host_name()) or self.spool.queued())

    def _runs(self, entry: Entry) -> bool:
        child = self._children.get(entry.id)
        if child and child.poll() is None:
            return True
        self._children.pop(entry.id, None)
        if entry.supervisor:
            return entry.alive()
        # Killed between taking it and noting who supervises it: the supervisor may be there all the same.
        return self._lives(entry.id)

    def _bury(self, entry: Entry, again: bool) -> None:
        """A job without its supervisor: end what is left of it, and say so, unless it had written its result."""
        end_job(entry.id)
        self.leases.release(entry.id)
        job = Job.find(entry.directory)
        if job is None or job.id != entry.id or job.result():
            self.spool.finish(entry.id)
        elif again or (entry.supervisor is None and self._starts.get(entry.id, 0) < MOST_STARTS):
            log.warning("job %s lost its supervisor; it waits again", entry.id)
            self.spool.give_back(entry)
        else:
            log.warning("job %s lost its supervisor", entry.id)
            write_json(job.result_file, asdict(JobResult(job.key, EXIT_LOST, 0.0)))
            self.spool.finish(entry.id)

    def _consider(self, entry: Entry) -> bool:
        """Start a job that waits, if what it needs is free; return False if it has to go on waiting."""
        try:
            job = Job.find(entry.directory)
            if job is None or job.id != entry.id:
                # Its folder was removed, or another job has it now.
                self.spool.cancel(entry.id)
                return True
            if entry.gpus > len(self.slots):
                self._refuse(job, f"it wants {entry.gpus} GPUs and {host_name()} has {len(self.slots)}")
                return True
            busy = self._busy() if entry.gpus and any(slot.device for slot in self.slots) else {}
        except MedllmError as error:
            _tell(entry.directory, str(error))
            return False
        held = self.leases.held()
        foreign = {device: names for device, names in busy.items() if not self._leased(device, held)}
        leased = self.leases.take(entry.id, entry.gpus, self.slots, foreign, self.identity)
        if leased is None:
            self._wait(job, held, foreign)
            return False
        if self.spool.take(entry) is None:
            self.leases.release(entry.id)
            return True
        self._busy_since.pop(entry.id, None)
        self._starts[entry.id] = self._starts.get(entry.id, 0) + 1
        _tell(entry.directory, None)
        devices = [slot.device for slot in leased if slot.device]
        child = self._start(job, {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {})
        if isinstance(child, subprocess.Popen):
            self._children[entry.id] = child
        log.info("job %s started%s", entry.id, f" on {', '.join(slot.name for slot in leased)}" if leased else "")
        return True

    def _busy(self) -> dict[str, list[str]]:
        """Who computes on which GPU; asked every few seconds only, since the driver takes its time."""
        asked, holders = self._holders
        if time.monotonic() - asked >= HOLDERS_SECONDS:
            holders = gpus.holders()
            self._holders = (time.monotonic(), holders)
        return holders

    def _leased(self, device: str, held: dict[str, Any]) -> bool:
        return any(slot.device == device and slot.name in held for slot in self.slots)

    def _wait(self, job: Job, held: dict[str, Any], foreign: dict[str, list[str]]) -> None:
        """Say why a job waits; refuse it where only a process that is no job of ours stands in its way."""
        ours = [f"{lease.slot} is held by {lease.job}" for lease in held.values()]
        strangers = [
            f"{slot.name} is busy with {', '.join(foreign[slot.device])}"
            for slot in self.slots
            if slot.device and foreign.get(slot.device) and slot.name not in held
        ]
        reason = "; ".join(ours + strangers)
        _tell(job.directory, f"waits for {job.gpus} of {len(self.slots)} GPU slots: {reason}")
        if ours or not strangers:
            self._busy_since.pop(job.id, None)
            return
        since = self._busy_since.setdefault(job.id, time.monotonic())
        if time.monotonic() - since >= BUSY_SECONDS:
            self._refuse(job, f"{reason}, which is no job of ours: end it, or give other GPUs by MEDLLM_GPUS")

    def _refuse(self, job: Job, sentence: str) -> None:
        if self.spool.cancel(job.id):
            self._busy_since.pop(job.id, None)
            write_json(job.failure_file, asdict(Failure("refused", sentence, retry=False)))
            write_json(job.result_file, asdict(JobResult(job.key, EXIT_REFUSED, 0.0)))


def _any_process(job_id: str) -> bool:
    return next(marked_processes(job_id), None) is not None


def waiting_file(directory: Path) -> Path:
    """Says in words why a job has not started."""
    return directory / "waiting.txt"


def _tell(directory: Path, reason: str | None) -> None:
    path = waiting_file(directory)
    if reason is None:
        path.unlink(missing_ok=True)
    elif directory.is_dir() and (not path.is_file() or path.read_text(encoding="utf-8") != reason):
        path.write_text(reason, encoding="utf-8")


def trainer_lock(spool: Spool) -> FileLock:
    """Held by the one trainer of this host for as long as it lives."""
    folder = spool.folder / "trainers"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f".{host_name()}.lock")


def run_trainer(spool: Spool, stay: bool) -> bool:
    """Be this host's trainer until nothing is left to do, or until SIGTERM.

    :param stay: go on when nothing is left, as a service does.
    :return: False if another trainer is there already.
    :raises MedllmError: if the GPUs cannot be found out.
    """
    ending = False

    def end(signum: int, frame: FrameType | None) -> None:
        nonlocal ending
        ending = True

    earlier = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        # Those who ask whether there is a trainer hold it for a moment.
        with trainer_lock(spool).acquire(timeout=LOCK_SECONDS):
            trainer = Trainer(spool, gpus.find_slots())
            told, restarted = 0.0, stay
            while not ending:
                try:
                    if not told or time.monotonic() - told > BEAT_SECONDS:
                        told = time.monotonic()
                        spool.beat(trainer.identity, f"{len(trainer.slots)} slots")
                    if not trainer.step(restarted) and not stay:
                        break
                    restarted = False
                except OSError as error:
                    # A full disk, or one that is away: jobs go on, and what waits is started when it is back.
                    log.warning("%s; looking again in %.0f s", error, BEAT_SECONDS)
                    time.sleep(BEAT_SECONDS)
                time.sleep(POLL_SECONDS)
    except Timeout:
        return False
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    return True


def start_trainer(spool: Spool) -> subprocess.Popen[bytes] | None:
    """Start a trainer on this host that ends when it has nothing to do, unless there is one; return its process."""
    lock = trainer_lock(spool)
    try:
        with lock.acquire(blocking=False):
            pass
    except Timeout:
        return None
    log_file = spool.folder / "trainers" / f"{host_name()}.log"
    with log_file.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "medllm_ops.compute.trainer"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A mark of its own: it does not end with what started it.
            env={**os.environ, "MEDLLM_HOME": str(spool.folder.parent), MARK: MARK_OF_TRAINERS},
        )


def main() -> None:
    """Be the trainer that a task started on demand."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        run_trainer(Spool(), stay=False)
    except MedllmError as error:
        log.error("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
