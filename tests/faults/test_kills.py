"""Whoever is killed, and when: nothing is left, and the same training again ends as if nobody had been killed.

Here a script stands in for ms-swift; ``test_swift_kills.py`` does the same with ms-swift itself.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import pytest

from faults.kills import KILL, ROLES, TERM, kill_at, kill_trainers
from faults.world import MOMENTS, STEPS, Trial, losses
from medllm_ops.compute.job import JobError

# One of each moment, and each of those who can be killed at least once, for CI.
QUICK = {
    ("swift", KILL, "start-up"),
    ("supervisor", KILL, "step"),
    ("attempts", TERM, "checkpoint"),
    ("supervisor", TERM, "evaluation"),
}
CASES = [
    pytest.param(
        role,
        number,
        moment,
        marks=() if (role, number, moment) in QUICK else pytest.mark.slow,
        id=f"{role}-{number.name}-{moment}",
    )
    for role in ROLES
    for number in (TERM, KILL)
    for moment in MOMENTS
]
# The steps that the script repeats: the last whole checkpoint is the one of step 4.
GOES_ON_AT = {"start-up": 0, "step": 4, "checkpoint": 4, "evaluation": 4}

pytestmark = pytest.mark.usefixtures("scripted")


@pytest.mark.parametrize(("role", "number", "moment"), CASES)
def test_a_kill_leaves_nothing_and_the_rerun_ends_as_the_unbroken(
    make_trial: Callable[..., Trial], unbroken: dict[int, float], role: str, number: signal.Signals, moment: str
) -> None:
    trial = make_trial()
    kill_at(trial, moment, role, number)
    trial.start()
    result = trial.succeed()
    trial.assert_clear()
    assert (result.steps, result.attempts[-1]["first_step"]) == (STEPS, GOES_ON_AT[moment])
    assert losses(trial.request.output_dir) == unbroken


@pytest.mark.parametrize("number", [TERM, pytest.param(KILL, marks=pytest.mark.slow)], ids=lambda number: number.name)
def test_a_trainer_may_end_at_any_moment_and_the_training_goes_on(
    make_trial: Callable[..., Trial], unbroken: dict[int, float], number: signal.Signals
) -> None:
    trial = make_trial()
    kill_trainers(trial, repeat(number))
    result = trial.succeed()
    trial.assert_clear()
    assert [attempt["first_step"] for attempt in result.attempts] == [0]
    assert losses(trial.request.output_dir) == unbroken


def test_a_training_that_is_killed_behind_its_last_step_is_not_trained_again(
    make_trial: Callable[..., Trial], unbroken: dict[int, float]
) -> None:
    trial = make_trial()
    trial.start_frozen("end")
    trial.strike("swift", KILL)
    assert isinstance(trial.end(), JobError)
    trial.assert_clear()
    trial.start()
    result = trial.succeed()
    trial.assert_clear()
    assert (result.steps, result.rows, result.val_rows) == (STEPS, 64, 6)
    assert Path(result.checkpoint).name == "checkpoint-12"
    assert trial.job
    assert trial.job.log.read_text().count("swift.cli.sft") == 1
    assert losses(trial.request.output_dir) == unbroken
