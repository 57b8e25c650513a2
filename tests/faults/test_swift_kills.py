"""Real trainings by ms-swift that are killed at every moment, one after the other: the last rerun ends as the unbroken.

Each test kills the same training at start-up, in a step, in a checkpoint and in the validation, and looks after each.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from itertools import cycle

import pytest

from faults.kills import KILL, ROLES, TERM, kill_at, kill_trainers
from faults.world import MOMENTS, STEPS, Trial, losses, wait_for
from medllm_ops.compute.job import JobError
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
@pytest.mark.parametrize("role", ROLES)
def test_a_training_that_is_killed_at_every_moment_ends_as_the_unbroken(
    make_trial: Callable[..., Trial], unbroken: dict[int, float], role: str, first: signal.Signals
) -> None:
    trial = make_trial()
    numbers = cycle([TERM, KILL] if first == TERM else [KILL, TERM])
    for moment, number in zip(MOMENTS, numbers, strict=False):
        kill_at(trial, moment, role, number)
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
    kill_trainers(trial, cycle([TERM, KILL]))
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


@pytest.mark.parametrize(("role", "first"), [("launcher", TERM), ("swift", KILL)], ids=["launcher", "rank"])
def test_two_ranks_whose_launcher_or_first_rank_is_killed_end_as_the_unbroken(
    make_trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch, role: str, first: signal.Signals
) -> None:
    monkeypatch.setenv("MEDLLM_SLOTS", "2")
    whole = make_trial("unbroken", gpus=2)
    whole.start()
    whole.succeed()
    unbroken = pytest.approx(losses(whole.request.output_dir), abs=TOLERANCE)
    trial = make_trial(gpus=2)
    for moment, number in zip(MOMENTS, cycle([TERM, KILL] if first == TERM else [KILL, TERM]), strict=False):
        trial.start_frozen(moment)
        trial.strike(role, number)
        outcome = trial.end()
        trial.assert_clear()
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, JobError)
            assert outcome.cause in ("killed", "unknown")
        else:
            # The rank that was left said that it had lost the other: that is cured at once, with a new port.
            assert outcome.attempts[-2]["cause"] == "network"
            assert losses(trial.request.output_dir) == unbroken
            shutil.rmtree(trial.request.directory)
    trial.start()
    assert trial.succeed().steps == STEPS
    trial.assert_clear()
    assert losses(trial.request.output_dir) == unbroken
