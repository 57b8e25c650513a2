"""Settings with which a stage fits, found by trying: each one that is told was computed, and fits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from medllm_ops.swift.preflight.estimate import Estimate
from medllm_ops.swift.recipe import StageRecipe

# So much of the memory is left free by a remedy: the figures are estimates.
HEADROOM = 0.05
SHORTEST = 128
MOST_TOLD = 3
Estimator = Callable[[StageRecipe], Estimate]


@dataclass(frozen=True, slots=True)
class Remedy:
    """Changes of a stage's fields with which it needs ``gibibytes``.

    :param cost: how much is given up, for the order: time first, then precision, then rows.
    """

    changes: Mapping[str, Any]
    gibibytes: float
    cost: float

    def __str__(self) -> str:
        return (
            f"{', '.join(f'{name} {_text(value)}' for name, value in self.changes.items())} ({self.gibibytes:.1f} GiB)"
        )


@dataclass(frozen=True, slots=True)
class _Change:
    name: str
    values: Mapping[str, Any]
    cost: float
    needs: str = ""
    """Another change without which this one is none."""


def remedies(stage: StageRecipe, estimate: Estimator, available: float) -> list[Remedy]:
    """The cheapest ways to make a stage fit into ``available`` GiB, at most three, none with a change that is idle.

    The number of rows of an optimizer step is kept: the batch goes down as the accumulation goes up. Only where nothing
    else helps, a shorter ``max_length`` is offered: it changes which rows are trained on.
    """
    room = available * (1 - HEADROOM)
    changes = _changes(stage, estimate(stage))
    found: list[tuple[Remedy, frozenset[str], int]] = []
    for chosen in _combinations(changes):
        names = frozenset(change.name for change in chosen)
        changed = _apply(stage, chosen)
        fitting = _largest_batch(changed, estimate, room) if changed else None
        if fitting is None:
            continue
        settled, halvings = fitting
        if any(earlier < names and before <= halvings for _, earlier, before in found):
            # Fewer changes do the same.
            continue
        cost = sum(change.cost for change in chosen) + 0.5 * halvings
        found.append((Remedy(_difference(stage, settled), estimate(settled).memory.gibibytes, cost), names, halvings))
    told = sorted((remedy for remedy, *_ in found if remedy.changes), key=lambda remedy: remedy.cost)
    return told[:MOST_TOLD] or _shorter(stage, changes, estimate, room)


def smallest(stage: StageRecipe, estimate: Estimator) -> float:
    """GiB with everything that saves memory: less than that, the stage cannot be made to need."""
    every = list(_combinations(_changes(stage, estimate(stage))))
    stages = [changed for chosen in every if (changed := _apply(stage, chosen))]
    return min(estimate(_batches(changed)[-1]).memory.gibibytes for changed in stages)


def _changes(stage: StageRecipe, now: Estimate) -> list[_Change]:
    """What could be changed in a stage on this device."""
    changes = []
    if not stage.gradient_checkpointing:
        changes.append(_Change("recompute", {"gradient_checkpointing": True}, 2))
    if now.setup.device == "cpu":
        return changes
    if now.setup.attention != "flash":
        changes.append(_Change("flash", {"attn_impl": "flash_attn"}, 1))
    if not now.setup.liger:
        changes.append(_Change("liger", {"extra": {"use_liger_kernel": True}}, 1))
    full = stage.tuner_type == "full"
    if full:
        changes.append(_Change("lora", {"tuner_type": "lora", "learning_rate": 1e-4}, 8))
    if not stage.quant_method:
        packed = {"quant_method": "bnb", "quant_bits": 4}
        changes.append(_Change("qlora", packed, 4, needs="lora" if full else ""))
    if now.setup.gpus > 1 and now.setup.zero != 3:
        changes.append(_Change("zero3", {"deepspeed": "zero3"}, 3))
    if full and not now.setup.offload_optimizer:
        changes.append(_Change("offload", {"deepspeed": "zero3_offload" if now.setup.gpus > 1 else "zero2_offload"}, 6))
    return changes


def _combinations(changes: list[_Change]) -> Iterator[tuple[_Change, ...]]:
    """All that go together, the smaller ones first."""
    for size in range(len(changes) + 1):
        for chosen in itertools.combinations(changes, size):
            names = {change.name for change in chosen}
            if any(change.needs and change.needs not in names for change in chosen):
                continue
            # Packed weights are not shared out over devices; adapters need no offloading.
            if {"zero3", "qlora"} <= names or {"zero3", "offload"} <= names or {"lora", "offload"} <= names:
                continue
            yield chosen


def _apply(stage: StageRecipe, chosen: tuple[_Change, ...]) -> StageRecipe | None:
    """The stage with changes, or None if a recipe cannot say that."""
    values = stage.model_dump(mode="json", exclude_none=True)
    for change in chosen:
        extra = {**values.get("extra", {}), **change.values.get("extra", {})}
        values |= {**change.values, "extra": extra}
    try:
        return type(stage).model_validate(values)
    except ValidationError:
        return None


def _batches(stage: StageRecipe) -> list[StageRecipe]:
    """The stage with its batch, and with every smaller one that leaves the rows of a step as they are."""
    batch, accumulation = stage.per_device_train_batch_size, stage.gradient_accumulation_steps
    stages = []
    for size in sorted((size for size in range(1, batch + 1) if batch % size == 0), reverse=True):
        update = {
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": accumulation * (batch // size),
            "per_device_eval_batch_size": min(stage.per_device_eval_batch_size, size)
            if size < batch
            else stage.per_device_eval_batch_size,
        }
        stages.append(stage.model_copy(update=update))
    if stage.per_device_eval_batch_size > 1:
        stages.append(stages[-1].model_copy(update={"per_device_eval_batch_size": 1}))
    return stages


def _largest_batch(stage: StageRecipe, estimate: Estimator, room: float) -> tuple[StageRecipe, int] | None:
    for number, candidate in enumerate(_batches(stage)):
        if candidate.gradient_accumulation_steps <= 4096 and estimate(candidate).memory.gibibytes <= room:
            return candidate, number
    return None


def _shorter(stage: StageRecipe, changes: list[_Change], estimate: Estimator, room: float) -> list[Remedy]:
    """The longest ``max_length`` that fits, with as few other changes as make one possible."""
    length = estimate(stage).length
    for chosen in _combinations(changes):
        changed = _apply(stage, chosen)
        if changed is None:
            continue
        least = _batches(changed)[-1]
        low, high = SHORTEST, length
        if low >= high or estimate(least.model_copy(update={"max_length": low})).memory.gibibytes > room:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            fits = estimate(least.model_copy(update={"max_length": middle})).memory.gibibytes <= room
            low, high = (middle, high) if fits else (low, middle)
        settled = least.model_copy(update={"max_length": low})
        return [Remedy(_difference(stage, settled), estimate(settled).memory.gibibytes, 20)]
    return []


def _difference(before: StageRecipe, after: StageRecipe) -> dict[str, Any]:
    """The fields that differ, by name; of ``extra``, its own."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    changed = {name: new[name] for name in new if name != "extra" and new[name] != old[name]}
    added = {f"extra.{name}": value for name, value in after.extra.items() if before.extra.get(name) != value}
    return changed | added


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
