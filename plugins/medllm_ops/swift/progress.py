"""What ms-swift writes down while it trains: ``logging.jsonl``, read while it grows."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEP_KEY = "global_step/max_steps"
# What an alignment logs, for training and, behind eval_, for validation; kto logs no accuracies.
REWARD_KEYS = {"margin": "rewards/margins", "accuracy": "rewards/accuracies"}


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands. ``loss`` is in nats per token, ``eta_seconds`` None until a step was timed.

    ``seconds`` is the wall time since ``first_step``, where a resumed training went on. ``rewards`` has the margin and
    the accuracy of an alignment, as :func:`rewards_of` names them.
    """

    step: int
    max_steps: int
    loss: float | None
    eval_loss: float | None
    seconds: float
    rows_per_second: float | None
    first_step: int = 0
    rewards: Mapping[str, float] = field(default_factory=dict)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until the last step, at the pace so far."""
        done = self.step - self.first_step
        return self.seconds / done * (self.max_steps - self.step) if done > 0 else None

    def __str__(self) -> str:
        parts = [f"step {self.step} of {self.max_steps}"]
        if self.loss is not None:
            parts.append(f"loss {self.loss:.4f}")
        if self.eval_loss is not None:
            parts.append(f"eval loss {self.eval_loss:.4f}")
        parts += [f"{name.replace('_', ' ')} {value:.3f}" for name, value in self.rewards.items()]
        if self.rows_per_second is not None:
            parts.append(f"{self.rows_per_second:.2f} rows/s")
        if self.eta_seconds is not None:
            parts.append(f"{self.eta_seconds:.0f} s left")
        return ", ".join(parts)


def read_log(output_dir: Path) -> Iterator[dict[str, Any]]:
    """The rows of ``logging.jsonl``; a last line that is still being written is left for the next time.

    A line in the middle can be broken too: a killed attempt left half a line, and its successor wrote on behind it.
    """
    path = output_dir / "logging.jsonl"
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                # Not orjson: a diverged training writes NaN, which only Python's own parser reads.
                with contextlib.suppress(ValueError):
                    yield json.loads(line)


def rewards_of(row: Mapping[str, Any]) -> dict[str, float]:
    """What a line of the log tells of an alignment: ``margin`` and ``accuracy``, ``eval_margin`` and ``eval_accuracy``.

    The margin is by how much more than its reference the model prefers the better answers, times beta; the accuracy is
    the share of pairs in which it does.
    """
    keys = {f"{side}{name}": f"{side}{key}" for side in ("", "eval_") for name, key in REWARD_KEYS.items()}
    return {name: float(row[key]) for name, key in keys.items() if key in row}


def read_progress(output_dir: Path, rows_per_step: int, seconds: float, first_step: int = 0) -> Progress | None:
    """The latest progress, or None before the first logged step.

    :param rows_per_step: batch size times accumulation times ranks.
    :param seconds: wall time since the training started or was resumed, at ``first_step``.
    """
    step, max_steps, loss, eval_loss = 0, 0, None, None
    rewards: dict[str, float] = {}
    for row in read_log(output_dir):
        if STEP_KEY in row:
            step, max_steps = (int(number) for number in row[STEP_KEY].split("/"))
            loss = row.get("loss", loss)
            eval_loss = row.get("eval_loss", eval_loss)
            rewards |= rewards_of(row)
    if not max_steps:
        return None
    done = step - first_step
    speed = done * rows_per_step / seconds if seconds and done > 0 else None
    return Progress(step, max_steps, loss, eval_loss, seconds, speed, first_step, rewards)


@dataclass(frozen=True, slots=True)
class TrainingEnd:
    """What the log says of a finished training; the last line is written even when it failed."""

    step: int
    max_steps: int
    loss: float
    eval_loss: float | None
    best_checkpoint: Path | None
    last_checkpoint: Path | None
    summary: dict[str, Any]
    rewards: dict[str, float] = field(default_factory=dict)


def read_end(output_dir: Path) -> TrainingEnd | None:
    """How the training ended, or None if its log has no last line yet."""
    max_steps = 0
    loss, eval_loss, summary = math.nan, None, None
    rewards: dict[str, float] = {}
    for row in read_log(output_dir):
        if STEP_KEY in row:
            max_steps = int(row[STEP_KEY].partition("/")[2])
            if "loss" in row:
                loss = float(row["loss"])
            eval_loss = row.get("eval_loss", eval_loss)
            rewards |= rewards_of(row)
        elif "last_model_checkpoint" in row:
            summary = row
    if summary is None:
        return None

    def folder(key: str) -> Path | None:
        return Path(summary[key]) if summary.get(key) else None

    return TrainingEnd(
        step=int(summary.get("global_step") or 0),
        max_steps=max_steps,
        loss=loss,
        eval_loss=eval_loss,
        best_checkpoint=folder("best_model_checkpoint"),
        last_checkpoint=folder("last_model_checkpoint"),
        summary=summary,
        rewards=rewards,
    )
