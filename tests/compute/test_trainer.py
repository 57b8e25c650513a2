"""Queue, leases and trainer, in any order of submitting, starting, ending and being killed."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from medllm_ops.compute import trainer as module
from medllm_ops.compute.gpus import Slot
from medllm_ops.compute.job import EXIT_LOST, EXIT_REFUSED, Job, JobResult
from medllm_ops.compute.lease import Leases
from medllm_ops.compute.owner import TaskOwner
from medllm_ops.compute.processes import ProcessIdentity, host_name
from medllm_ops.compute.spool import Entry, Spool
from medllm_ops.compute.trainer import Trainer, waiting_file
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


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "end_job", lambda *_: 0)
    return World(tmp_path, [Slot("slot-0"), Slot("slot-1")])


def test_jobs_start_in_order_and_one_that_needs_more_is_not_overtaken(world: World) -> None:
    for name, gpus in (("a", 1), ("b", 2), ("c", 1), ("d", 0)):
        world.submit(name, gpus)
        time.sleep(0.002)
    assert world.trainer.step()
    assert world.started == ["a", "d"]
    assert "waits for 2 of 2 GPU slots: slot-0 is held by a" in waiting_file(world.folder / "b").read_text()
    assert waiting_file(world.folder / "c").read_text() == "waits for its turn"
    world.note("a")
    world.end("a")
    world.trainer.step()
    assert world.started == ["a", "d", "b"]
    assert not waiting_file(world.folder / "b").exists()
    assert world.holders() == ["b", "b"]


def test_two_trainers_start_a_job_once(world: World) -> None:
    world.submit("a", 1)
    (entry,) = world.spool.queued()
    assert world.spool.take(entry)
    assert world.spool.take(entry) is None
    assert world.spool.cancel("a") is False


def test_a_job_that_wants_more_than_there_is_is_refused_at_once(world: World) -> None:
    job = world.submit("a", 3)
    assert not world.trainer.step()
    result, failure = job.result(), job.failure()
    assert result
    assert failure
    assert result.exit_code == EXIT_REFUSED
    assert failure.sentence == f"it wants 3 GPUs and {host_name()} has 2"
    assert "it wants 3 GPUs" in str(job.error(result))
    assert not job.error(result).retry


def test_a_gpu_that_is_busy_with_something_else_is_not_leased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, [Slot("gpu-0", "GPU-a"), Slot("gpu-1", "GPU-b")])
    busy = {"GPU-a": ["pid 7 (notebook, 900 MiB)"]}
    monkeypatch.setattr(module.gpus, "holders", lambda: busy)
    given: list[dict[str, str]] = []
    world.trainer._start = lambda job, environment: given.append(environment)
    world.submit("a", 1)
    world.trainer.step()
    assert given == [{"CUDA_VISIBLE_DEVICES": "GPU-b"}]
    world.note("a")
    # Now both are busy, one of them with our own job: the next one waits for that.
    busy["GPU-b"] = ["pid 8 (python)"]
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.0)
    job = world.submit("b", 1)
    world.trainer.step()
    assert world.state("b") == "queued"
    assert "gpu-1 is held by a; gpu-0 is busy with pid 7 (notebook" in waiting_file(world.folder / "b").read_text()
    # Nothing of ours stands in its way any more, so waiting is no use.
    world.end("a")
    world.trainer.step()
    failure = job.failure()
    assert failure
    assert "gpu-1 is busy with pid 8 (python), which is no job of ours: end it" in failure.sentence


def test_a_supervisor_that_dies_is_written_down_and_its_lease_is_given_back(world: World) -> None:
    job = world.submit("a", 2)
    world.trainer.step()
    world.note("a", DEAD)
    assert not world.trainer.step()
    result = job.result()
    assert result
    assert result.exit_code == EXIT_LOST
    assert world.state("a") == "ended"
    assert world.holders() == []


def test_after_a_restart_of_its_container_a_job_waits_again(world: World) -> None:
    job = world.submit("a", 1)
    world.trainer.step()
    world.note("a", DEAD)
    world.new_trainer().step(restarted=True)
    assert world.started == ["a", "a"]
    assert job.result() is None


def test_a_supervisor_that_never_says_that_it_is_there_is_not_started_for_ever(world: World) -> None:
    job = world.submit("a", 1)
    for _ in range(10):
        world.unnoted.clear()
        world.trainer.step()
    assert len(world.started) == module.MOST_STARTS
    assert job.result()
    assert world.holders() == []


def test_a_result_that_was_written_before_the_supervisor_died_counts(world: World) -> None:
    job = world.submit("a", 1)
    world.trainer.step()
    world.note("a", DEAD)
    write_json(job.result_file, asdict(JobResult("key", 0, 1.0)))
    world.trainer.step()
    result = job.result()
    assert result
    assert result.exit_code == 0
    assert world.holders() == []


def test_a_job_whose_folder_is_gone_is_forgotten(world: World) -> None:
    job = world.submit("a", 1)
    (job.directory / "job.json").unlink()
    assert not world.trainer.step()
    assert world.started == []


def test_an_id_is_made_of_everything_but_the_try() -> None:
    owner = TaskOwner("d", "r", "t", -1, 2)
    assert owner.job_id("key") == TaskOwner("d", "r", "t", -1, 2).job_id("key")
    others = [
        TaskOwner("e", "r", "t", -1, 2),
        TaskOwner("d", "s", "t", -1, 2),
        TaskOwner("d", "r", "u", -1, 2),
        TaskOwner("d", "r", "t", 0, 2),
        TaskOwner("d", "r", "t", -1, 3),
    ]
    ids = {owner.job_id("key"), owner.job_id("other"), *(other.job_id("key") for other in others)}
    assert len(ids) == 7
    assert others[-1].cleared_since(owner)
    assert not owner.cleared_since(owner)
    assert not any(other.cleared_since(owner) for other in others[:-1])


NAMES = ("a", "b", "c", "d")


class Interleaved(RuleBasedStateMachine):
    """Submitting, starting, ending, cancelling, deaths of supervisors and of the trainer, in any order."""

    @initialize(slots=st.integers(1, 3))
    def start(self, slots: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(module, "end_job", lambda job, *_: self.world.unnoted.discard(job))
        self.temporary = tempfile.TemporaryDirectory()
        self.world = World(Path(self.temporary.name), [Slot(f"slot-{number}") for number in range(slots)])
        self.dead: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "temporary"):
            # Whatever has happened: when all is killed and nothing is wanted, a few looks clear it away.
            for _ in range(module.MOST_STARTS + 1):
                for entry in self.running():
                    self.kill_supervisor(entry.id)
                for entry in self.world.spool.queued():
                    self.world.spool.cancel(entry.id)
                self.world.trainer.step()
            assert self.running() == []
            assert self.world.holders() == []
            self.temporary.cleanup()
            self.patch.undo()

    def running(self) -> list[Entry]:
        return self.world.spool.running(host_name())

    def noted(self) -> list[str]:
        return [entry.id for entry in self.running() if entry.alive()]

    @rule(name=st.sampled_from(NAMES), gpus=st.integers(0, 4))
    def submit(self, name: str, gpus: int) -> None:
        if self.world.state(name) in ("unknown", "ended"):
            self.world.submit(name, gpus)

    @rule(restarted=st.booleans())
    def look(self, restarted: bool) -> None:
        self.world.trainer.step(restarted)

    @rule()
    def kill_trainer(self) -> None:
        self.world.trainer = self.world.new_trainer()

    @rule(name=st.sampled_from(NAMES))
    def trainer_dies_after_taking(self, name: str) -> None:
        """Between the rename and the start of the supervisor."""
        for entry in self.world.spool.queued():
            if entry.id == name and entry.gpus == 0:
                self.world.spool.take(entry)
        self.kill_trainer()

    @rule(name=st.sampled_from(NAMES))
    def trainer_dies_after_leasing(self, name: str) -> None:
        """Between the lease and the rename."""
        for entry in self.world.spool.queued():
            if entry.id == name:
                self.world.leases.take(name, entry.gpus, self.world.slots, {}, DEAD)
        self.kill_trainer()

    @rule(name=st.sampled_from(NAMES))
    def note(self, name: str) -> None:
        if name in self.world.unnoted and self.world.state(name) == "running":
            self.world.note(name)

    @rule(name=st.sampled_from(NAMES), exit_code=st.integers(0, 1))
    def end(self, name: str, exit_code: int) -> None:
        if name in self.noted():
            self.world.end(name, exit_code)

    @rule(name=st.sampled_from(NAMES))
    def kill_supervisor(self, name: str) -> None:
        self.world.unnoted.discard(name)
        if name in self.noted():
            self.world.note(name, DEAD)

    @rule(name=st.sampled_from(NAMES))
    def cancel(self, name: str) -> None:
        self.world.spool.cancel(name)

    @invariant()
    def no_slot_is_promised_twice(self) -> None:
        if not hasattr(self, "world"):
            return
        held = self.world.holders()
        assert len(held) <= len(self.world.slots)
        for entry in self.running():
            # A live job holds what it needs, or was taken by a trainer that died before it started it.
            if entry.alive():
                assert held.count(entry.id) == entry.gpus

    @invariant()
    def a_job_is_in_one_place(self) -> None:
        if not hasattr(self, "world"):
            return
        ids = [path.stem for path in self.world.spool.folder.glob("*/*.json")]
        ids += [path.stem for path in self.world.spool.folder.glob("running/*/*.json")]
        assert len(ids) == len(set(ids))


TestInterleaved = Interleaved.TestCase
TestInterleaved.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
