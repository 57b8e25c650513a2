"""What a trainer does with jobs that wait, run, end and die."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import pytest

from compute.world import DEAD, World
from medllm_ops.compute import trainer as module
from medllm_ops.compute.gpus import Slot
from medllm_ops.compute.job import EXIT_LOST, EXIT_REFUSED, JobResult
from medllm_ops.compute.owner import TaskOwner
from medllm_ops.compute.processes import host_name
from medllm_ops.compute.trainer import waiting_file
from medllm_ops.files import write_json


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
