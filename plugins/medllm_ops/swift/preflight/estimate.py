"""All that a stage needs, as far as figures tell."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.swift.preflight.cards import NOT_VALIDATED, Card
from medllm_ops.swift.preflight.disk import Disk, disk
from medllm_ops.swift.preflight.memory import GIBI, Memory, memory
from medllm_ops.swift.preflight.rows import Batches, Rows, batches, steps_of
from medllm_ops.swift.preflight.setup import Device, Setup, setup_of
from medllm_ops.swift.preflight.shape import ModelShape
from medllm_ops.swift.preflight.work import Work, forward, rate, training
from medllm_ops.swift.recipe import StageRecipe

# Imports, loading a small model, tokenising: what ms-swift takes before its first step (measured on two cores).
START_SECONDS = 25.0


@dataclass(frozen=True, slots=True)
class Target:
    """What a stage is to run on.

    :param card: the GPU; None for this host's processor. :param gpus: how many; without a card, processes.
    :param memory: GiB of one device, None if unknown. :param speed: operations a second of one device that were
        measured; None: the table's.
    """

    card: Card | None = None
    gpus: int = 1
    memory: float | None = None
    speed: float | None = None

    @property
    def device(self) -> Device:
        """As torch names it."""
        return "cuda" if self.card else "cpu"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A stage's needs. ``seconds`` is None where no rate is known."""

    stage: str
    setup: Setup
    length: int
    memory: Memory
    rows: int = 0
    tokens: int = 0
    computed_tokens: int = 0
    steps: int | None = None
    work: Work | None = None
    seconds: float | None = None
    disk: Disk | None = None

    @property
    def hours(self) -> float | None:
        """The time in hours."""
        return None if self.seconds is None else self.seconds / 3600

    def to_row(self) -> dict[str, Any]:
        """As JSON: memory and disk in GiB."""
        figures = {name: round(value / GIBI, 3) for name, value in asdict(self.memory).items()}
        row: dict[str, Any] = {
            "stage": self.stage,
            "max_length": self.length,
            "trained_weights": self.setup.trained,
            "rows_a_step": self.setup.rows_a_step,
            "memory_gib": {**figures, "total": round(self.memory.gibibytes, 3)},
            "rows": self.rows,
            "tokens": self.tokens,
            "computed_tokens": self.computed_tokens,
            "steps": self.steps,
            "hours": None if self.hours is None else round(self.hours, 4),
            "validated": "small models on a CPU" if self.setup.device == "cpu" else NOT_VALIDATED,
        }
        if self.work:
            row["operations"] = self.work.total
        if self.disk:
            disk_row = {"checkpoint": self.disk.checkpoint, "rows": self.disk.rows, "merged": self.disk.merged}
            row["disk_gib"] = {name: round(value / GIBI, 3) for name, value in disk_row.items()}
            row["disk_gib"] |= {"checkpoints": self.disk.kept, "total": round(self.disk.total / GIBI, 3)}
        return row


def longest_row(stage: StageRecipe, shape: ModelShape, rows: Rows | None) -> int:
    """The tokens of the longest row that a batch may have."""
    limit = min(stage.max_length or math.inf, shape.longest or math.inf)
    if rows is None:
        return int(limit) if math.isfinite(limit) else 2048
    found = rows.limit if stage.packing or not rows.count else rows.longest
    return max(1, int(min(limit, found)))


def estimate(
    name: str, stage: StageRecipe, dtype: str | None, shape: ModelShape, target: Target, rows: Rows | None = None
) -> Estimate:
    """What one stage needs on a target; without rows only the memory, at the recipe's full length."""
    try:
        setup = setup_of(stage, dtype, shape, target.device, target.gpus)
    except MedllmError as error:
        raise MedllmError(f"stages.{name}.{error}") from error
    length = longest_row(stage, shape, rows)
    if stage.packing and rows is not None and stage.max_length:
        length = min(stage.max_length, shape.longest or stage.max_length)
    need = memory(shape, setup, length)
    if rows is None:
        return Estimate(name, setup, length, need)
    one_pass = batches(rows, stage, target.gpus)
    steps = steps_of(stage, one_pass)
    passes = steps / one_pass.steps
    work = _work(shape, setup, stage, rows, one_pass, steps)
    # The processes of a host without GPUs share its processor.
    speed = target.speed or 0.0
    if target.card:
        speed = (speed or rate(target.card, setup)) * target.gpus
    return Estimate(
        stage=name,
        setup=setup,
        length=length,
        memory=need,
        rows=rows.count,
        tokens=rows.tokens,
        computed_tokens=round(one_pass.tokens * passes),
        steps=steps,
        work=work,
        seconds=START_SECONDS + work.total / speed if speed else None,
        disk=disk(shape, setup, stage, steps, rows.tokens),
    )


def _work(shape: ModelShape, setup: Setup, stage: StageRecipe, rows: Rows, one_pass: Batches, steps: int) -> Work:
    """Training, and validation every so many steps and at the end, which is not padded here."""
    length = rows.tokens / rows.count if stage.packing else one_pass.tokens / one_pass.rows
    trained = one_pass.tokens * (steps / one_pass.steps) * training(shape, setup, length)
    times = max(1, -(-steps // stage.eval_steps)) if stage.eval_steps else 1
    mean = rows.val_tokens / max(1, rows.val_rows)
    return Work(trained, times * rows.val_tokens * forward(shape, mean))
