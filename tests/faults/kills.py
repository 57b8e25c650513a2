"""Kills of those who take part in a training, and what the one who watches is told of them."""

from __future__ import annotations

import signal
from collections.abc import Iterable

from faults.world import MOMENTS, Trial
from medllm_ops.compute.job import JobError

TERM, KILL = signal.SIGTERM, signal.SIGKILL
# A word of the sentence, its cause, and whether a retry may help.
_TOLD = {
    ("supervisor", TERM): ("it was stopped", "stopped", False),
    ("supervisor", KILL): ("its supervisor was killed", "lost", True),
    ("attempts", TERM): ("exit code -15: it got SIGTERM", "", True),
    ("attempts", KILL): ("exit code -9: it was killed", "", True),
    ("swift", TERM): ("exit code -15: it got SIGTERM", "killed", True),
    ("swift", KILL): ("exit code -9: it was killed", "killed", True),
}
ROLES = tuple(dict.fromkeys(role for role, _ in _TOLD))


def kill_at(trial: Trial, moment: str, role: str, number: signal.Signals) -> None:
    """Start a training and kill one of its processes at a moment: the watcher is told so, and nothing is left."""
    trial.start_frozen(moment)
    trial.strike(role, number)
    error = trial.end()
    words, cause, retry = _TOLD[role, number]
    assert isinstance(error, JobError)
    assert words in str(error)
    assert (error.cause, error.retry) == (cause, retry)
    trial.assert_clear()


def kill_trainers(trial: Trial, numbers: Iterable[signal.Signals]) -> None:
    """Start a training, and kill its trainer at every moment."""
    trial.start_frozen("start-up")
    for moment, number in zip((*MOMENTS[1:], None), numbers, strict=False):
        if moment:
            trial.arm(moment)
        trial.strike("trainer", number)
        if moment:
            trial.wait_frozen()
