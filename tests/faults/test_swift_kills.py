"""Real trainings by ms-swift that are killed at every moment, one after the other: the last rerun ends as the unbroken.

Each test kills the same training at start-up, in a step, in a checkpoint and in the validation, and looks after each.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from faults.test_kills import KILL, TERM, TOLD
from faults.world import MOMENTS, STEPS, Trial, losses, wait_for
from medllm_ops.compute.job import Job, JobError, job_id
from medllm_ops.compute.local import LocalPlace
from medllm_ops.files import read_json, write_json
from medllm_ops.swift.attempts import read_attempts
from medllm_ops.swift.checkpoints import last_whole_checkpoint, step_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# Of the same seed, data and steps on the same machine: what a resumed training may differ by, in nats per token.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def kept() -> dict[str, dict[int, float]]:
    """The losses of the trainings that nobody killed, made once."""
    return {}


@pytest.fixture
def unbroken(make_trial: Callable[..., Trial], kept: dict[str, dict[int, float]]) -> dict[int, float]:
    if "one" not in kept:
        trial = make_trial("unbroken")
        trial.start()
        trial.succeed()
        kept["one"] = losses(trial.request.output_dir)
    return kept["one"]


@pytest.mark.parametrize("first", [TERM, KILL], ids=lambda number: number.name)
@pytest.mark.parametrize("role", ["supervisor", "attempts", "swift"])
def test_a_training_that_is_killed_at_every_moment_ends_as_the_unbroken(
    make_trial: Callable[..., Trial], unbroken: dict[int, float], role: str, first: signal.Signals
) -> None:
    trial = make_trial()
    numbers = cycle([TERM, KILL] if first == TERM else [KILL, TERM])
    for moment, number in zip(MOMENTS, numbers, strict=False):
        trial.start_frozen(moment)
        trial.strike(role, number)
        error = trial.end()
        words, cause, retry = TOLD[role, number]
        assert isinstance(error, JobError)
        assert words in str(error)
        assert (error.cause, error.retry) == (cause, retry)
        trial.assert_clear()
    kept = last_whole_checkpoint(trial.request.output_dir)
    assert kept
    assert step_of(kept) == 4
    trial.start()
    result = trial.succeed()
    trial.assert_clear()
    assert (result.steps, result.attempts[-1]["first_step"]) == (STEPS, 4)
    assert losses(trial.request.output_dir) == pytest.approx(unbroken, abs=TOLERANCE)


def test_trainers_that_are_killed_at_every_moment_leave_it_alone(
    make_trial: Callable[..., Trial], unbroken: dict[int, float]
) -> None:
    trial = make_trial()
    trial.start_frozen("start-up")
    for moment, number in zip((*MOMENTS[1:], None), cycle([TERM, KILL]), strict=False):
        if moment:
            trial.arm(moment)
        trial.strike("trainer", number)
        if moment:
            trial.wait_frozen()
    result = trial.succeed()
    trial.assert_clear()
    assert len(result.attempts) == 1
    assert losses(trial.request.output_dir) == pytest.approx(unbroken, abs=TOLERANCE)


def test_a_training_that_is_killed_behind_its_last_step_is_not_trained_again(
    make_trial: Callable[..., Trial], unbroken: dict[int, float]
) -> None:
    trial = make_trial()
    trial.start()
    last = trial.request.output_dir / f"checkpoint-{STEPS}"
    wait_for(lambda: last_whole_checkpoint(trial.request.output_dir) == last)
    trial.frozen = trial.victim("attempts")
    trial.strike("swift", KILL)
    trial.end()
    trial.assert_clear()
    trial.start()
    result = trial.succeed()
    trial.assert_clear()
    assert result.steps == STEPS
    assert losses(trial.request.output_dir) == pytest.approx(unbroken, abs=TOLERANCE)


class TwoRanks(Trial):
    """The same training by two ranks under torchrun."""

    def submit(self) -> Job:
        directory = self.request.directory / "job"
        file = directory / "request.json"
        write_json(file, self.request.to_row())
        argv = (sys.executable, str(Path(__file__).with_name("two_ranks.py")), str(file))
        return LocalPlace().submit(Job(job_id(directory), "two", argv, directory, gpus=1))

    def ends(self) -> int:
        job = self.job
        assert job
        result = wait_for(job.result)
        return int(result.exit_code)


@pytest.fixture
def ranks(make_trial: Callable[..., Trial]) -> TwoRanks:
    trial = make_trial("ranks")
    return TwoRanks(trial.request, trial.freezer)


@pytest.mark.parametrize(("role", "first"), [("launcher", TERM), ("swift", KILL)], ids=["launcher", "rank"])
def test_two_ranks_whose_launcher_or_first_rank_is_killed_end_as_the_unbroken(
    ranks: TwoRanks, role: str, first: signal.Signals
) -> None:
    ranks.submit()
    assert ranks.ends() == 0
    assert len(read_json(ranks.request.attempts_file)) == 1
    unbroken = losses(ranks.request.output_dir)
    ranks = TwoRanks(ranks.request, ranks.freezer)
    directory = ranks.request.directory
    directory.rename(directory.with_name("unbroken"))
    for moment, number in zip(MOMENTS, cycle([TERM, KILL] if first == TERM else [KILL, TERM]), strict=False):
        ranks.arm(moment)
        ranks.submit()
        ranks.wait_frozen()
        ranks.strike(role, number)
        assert ranks.ends() == 1
        ranks.assert_clear()
        assert read_attempts(ranks.request)[-1].cause in ("killed", "unknown", "network")
    ranks.submit()
    assert ranks.ends() == 0
    ranks.assert_clear()
    assert read_attempts(ranks.request)[-1].first_step == 4
    assert losses(ranks.request.output_dir) == pytest.approx(unbroken, abs=TOLERANCE)
