"""Queue, leases and trainer, in any order of submitting, starting, ending and being killed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from compute.world import DEAD, World
from medllm_ops.compute import trainer as module
from medllm_ops.compute.gpus import Slot
from medllm_ops.compute.processes import host_name
from medllm_ops.compute.spool import Entry

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
TestInterleaved.settings = settings(max_examples=30, stateful_step_count=30, suppress_health_check=list(HealthCheck))
