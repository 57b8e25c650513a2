"""Preflight: whether a recipe can be trained on what there is, before a GPU is asked for; early, and with a remedy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from medllm_ops.compute.settings import trainer_mode
from medllm_ops.curation.settings import LicenceSettings, read_settings
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.run import Run
from medllm_ops.swift.check import check_recipe
from medllm_ops.swift.families import check_family
from medllm_ops.swift.frozen import sets_of
from medllm_ops.swift.merge_request import base_dtype, other_dtypes
from medllm_ops.swift.preflight.cards import Card
from medllm_ops.swift.preflight.checks import (
    device_problems,
    disk_problem,
    gpus_free,
    host_card,
    host_memory,
    licence_findings,
    package_problems,
    port_problem,
)
from medllm_ops.swift.preflight.estimate import START_SECONDS, Estimate, Target, estimate
from medllm_ops.swift.preflight.probe import probe
from medllm_ops.swift.preflight.remedies import remedies, smallest
from medllm_ops.swift.preflight.rows import changed_files, read_rows
from medllm_ops.swift.preflight.shape import ModelShape, read_shape
from medllm_ops.swift.recipe import Recipe, StageRecipe, load_recipe

RESULT = "preflight.json"
# Above this share of the memory, a card is called nearly full: the estimate may be wrong by so much.
NEARLY_FULL = 0.9
LONG_ON_CPU_HOURS = 12.0
GIBI = 2**30
# A trainer that is a service of its own, or a cluster: nothing is known of its GPU.
ELSEWHERE = Target(Card("GPU of the trainer's host", 0.0), 1, None)
log = logging.getLogger(__name__)


@dataclass
class Preflight:
    """What was found. ``problems`` are reasons not to start, ``warnings`` what a user should know."""

    recipe: str
    model: str
    device: str
    memory: float | None
    estimates: list[Estimate] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against a start."""
        return not self.problems

    def add(self, problems: Collection[str], warnings: Collection[str] = ()) -> None:
        """Take further findings."""
        self.problems += [text for text in dict.fromkeys(problems) if text not in self.problems]
        self.warnings += [text for text in dict.fromkeys(warnings) if text not in self.warnings]

    def to_row(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "recipe": self.recipe,
            "model": self.model,
            "device": self.device,
            "memory_gib": self.memory,
            "passed": self.passed,
            "stages": [each.to_row() for each in self.estimates],
            "problems": self.problems,
            "warnings": self.warnings,
        }


def preflight(
    recipe: Recipe,
    target: Target,
    *,
    model: str | None = None,
    stages: Collection[str] | None = None,
    dataset: Path | None = None,
    ports: Collection[int] = (),
    folder: Path | None = None,
    measure: bool = False,
    gpus: int | None = None,
) -> Preflight:
    """Estimate each stage of a recipe and hold it against a target; nothing is fetched or started.

    :param model: in place of the recipe's own. :param stages: those that are on; None: all.
    :param dataset: a frozen dataset; without it only memory is estimated.
    :param ports: what must be free. :param folder: where the run will write; its disk is looked at.
    :param measure: measure a step of each stage in place of the table's rates; needs ``dataset`` and torch.
    :param gpus: in place of each stage's own number.
    :raises MedllmError: if the model's shape is not known, or the dataset has nothing for a stage.
    """
    name = model or recipe.model
    shape = read_shape(name)
    wanted = gpus or gpus_of(recipe, stages)
    device = f"{wanted} × {target.card.name}" if target.card else "this host's processor"
    found = Preflight(recipe.name, name, device, target.memory)
    if dataset:
        found.add(changed_files(dataset))
    for stage_name, stage in recipe.stages.items():
        if stages is not None and stage_name not in stages:
            continue
        rows = None
        if dataset and stages is None and not sets_of(dataset, stage_name):
            found.add((), [f"stages.{stage_name}: {dataset} has no set for it: no steps, disk and hours are estimated"])
        elif dataset:
            rows = read_rows(dataset, stage_name, stage)
        here = replace(target, gpus=gpus or stage.ranks)
        one = partial(estimate, stage_name, dtype=recipe.torch_dtype, shape=shape, target=here, rows=rows)
        need = one(stage)
        if measure and rows is not None:
            need = _measured(need, Path(name), stage, recipe.torch_dtype)
        found.estimates.append(need)
        found.add(device_problems(stage_name, stage, recipe.torch_dtype, target.card))
        found.add(*_memory_findings(stage_name, stage, need, here, one))
        found.add((), _notes(stage_name, stage, need, shape))
    found.add([problem for port in ports if (problem := port_problem(port))])
    if folder and dataset and (problem := disk_problem(sum(_disk(each) for each in found.estimates), folder)):
        found.add([problem])
    return found


def gpus_of(recipe: Recipe, stages: Collection[str] | None = None) -> int:
    """The most GPUs that a stage of a recipe takes, of those that are on."""
    return max((stage.gpus for name, stage in recipe.stages.items() if stages is None or name in stages), default=1)


def add_static(found: Preflight, recipe: Recipe, model: str | None = None) -> None:
    """Hold the recipe against the installed ms-swift, and its model against the families that work here."""
    try:
        found.add((), check_recipe(recipe).notes)
        check_family(recipe, model)
    except MedllmError as error:
        found.add([str(error)])


def add_host(
    found: Preflight, recipe: Recipe, target: Target, stages: Collection[str] | None = None, gpus: int | None = None
) -> None:
    """Look at what a recipe needs of this host, where it is to be trained: enough GPUs, and packages.

    :param gpus: in place of the recipe's own number.
    """
    found.add(*gpus_free(gpus or gpus_of(recipe, stages)))
    for name, stage in recipe.stages.items():
        if stages is None or name in stages:
            found.add(package_problems(name, stage, target.card))


def preflight_run(run: Run) -> dict[str, Any]:
    """Preflight of a run whose dataset is exported, before its first stage; leaves ``preflight.json`` in its folder.

    :return: what that file says.
    :raises MedllmError: with every problem and its remedy.
    """
    recipe, parameters = load_recipe(str(run.recipe_file)), run.parameters
    here = trainer_mode() == "on-demand" and parameters.where == "local"
    target, notes = host_target() if here else (ELSEWHERE, ["training is done on another host: its GPU was not seen"])
    found = preflight(
        recipe,
        target,
        model=str(run.base_model),
        stages=parameters.stages,
        dataset=run.dataset,
        folder=run.directory,
    )
    found.add((), [*notes, *_mixed_weights(run.base_model, recipe.stages[parameters.stages[0]])])
    add_static(found, recipe, str(run.base_model))
    if here:
        add_host(found, recipe, target, parameters.stages)
    sources: Mapping[str, Any] = read_json(run.curated / "manifest.json").get("sources", {})
    licences = read_settings(run.curation_file).licences
    allowed = licences.model_copy(update={"allow": (*licences.allow, *parameters.allow_licences)})
    found.add(*licence_findings(sources, allowed, parameters.sources or None))
    row = found.to_row()
    write_json(run.directory / RESULT, row)
    for text in found.warnings:
        log.warning("preflight: %s", text)
    if not found.passed:
        raise MedllmError(f"preflight of {run.name}: {'; '.join(found.problems)}")
    return row


def _mixed_weights(base: Path, first: StageRecipe) -> list[str]:
    """What to say of a base whose merge with an adapter may be refused for the dtypes of its weights."""
    if first.tuner_type == "full" or not any(base.glob("*.safetensors")) or not (others := other_dtypes(base)):
        return []
    return [
        f"the weights of {base} are {base_dtype(base)}, some {' and '.join(others)}: where transformers makes them one "
        "dtype, the merge is refused after the training; save the model in one dtype first"
    ]


def add_licences(found: Preflight, dataset: Path) -> None:
    """Look at the licences of the rows that a run's dataset was made of, as far as its folder tells."""
    manifest = dataset.absolute().parent / "curated" / "manifest.json"
    if manifest.is_file():
        found.add(*licence_findings(read_json(manifest).get("sources", {}), LicenceSettings()))
    else:
        found.add((), [f"{manifest} is not there: the licences of the rows were not looked at"])


def host_target() -> tuple[Target, list[str]]:
    """What this host has, as a target, and what is to be said of it."""
    card = host_card()
    if card is not None:
        known = [] if card.half else [f"{card.name} is not in the table of GPUs: no hours are estimated"]
        return Target(card, 1, card.memory or None), known
    return Target(None, 1, host_memory()[0], cpu_speed()), []


def cpu_speed() -> float:
    """Operations a second that a training reaches on this host's processor: half of what a large product does.

    The half is an assumption that ``benchmarks/preflight.py`` judges; the rest goes into what is no product.
    """
    import time

    import numpy as np

    size = 768
    left = np.ones((size, size), np.float32)
    best = 0.0
    for _ in range(4):
        started = time.perf_counter()
        left @ left
        best = max(best, 2.0 * size**3 / (time.perf_counter() - started))
    return best * 0.5


def _memory_findings(
    name: str, stage: StageRecipe, need: Estimate, target: Target, one: Callable[[StageRecipe], Estimate]
) -> tuple[list[str], list[str]]:
    if target.memory is None:
        return [], []
    # The processes of a host without GPUs share its memory.
    at_once = 1 if target.card else target.gpus
    total, have = need.memory.gibibytes * at_once, target.memory
    whose = "the card has" if target.card else "this host has"
    batch = stage.per_device_train_batch_size
    said = f"stages.{name}: max_length {need.length} with per_device_train_batch_size {batch} needs {total:.1f} GiB"
    if total > have:
        parts = sorted(need.to_row()["memory_gib"].items(), key=lambda item: -item[1])
        largest = ", ".join(
            f"{part} {size:.1f}" for part, size in parts if part not in ("total", "host") and size >= 0.05
        )
        told = remedies(stage, one, have / at_once)
        least = f"{smallest(stage, one):.1f} GiB is the least: take a smaller model, or a larger card"
        remedy = f"try {'; or '.join(map(str, told))}" if told else f"nothing makes it fit, {least}"
        sentence = f"{said} ({largest}), {whose} {have:.1f}: {remedy}"
        return ([sentence], []) if target.card else ([], [sentence])
    if total > have * NEARLY_FULL:
        return [], [f"{said} of {have:.1f}: nearly full"]
    if not target.card and total > (free := host_memory()[1]):
        return [], [f"{said}, and {free:.1f} of {have:.1f} are free now"]
    return [], []


def _notes(name: str, stage: StageRecipe, need: Estimate, shape: ModelShape) -> list[str]:
    notes = []
    if need.setup.adapters and (unknown := shape.targets(need.setup.adapters)[1]):
        notes.append(f"stages.{name}.target_modules: {', '.join(unknown)} not known here: counted as all-linear")
    if need.setup.device == "cpu" and need.hours is not None and need.hours > LONG_ON_CPU_HOURS:
        notes.append(f"stages.{name}: about {need.hours:.0f} hours on this processor: take a GPU, fewer rows or steps")
    if need.steps is not None and stage.save_steps and need.steps < stage.save_steps:
        notes.append(
            f"stages.{name}.save_steps {stage.save_steps}: the stage has {need.steps} steps, and saves at the end"
        )
    return notes


def _measured(need: Estimate, model: Path, stage: StageRecipe, dtype: str | None) -> Estimate:
    """The estimate with the time of a measured step in place of a computed one."""
    assert need.steps is not None
    assert need.work is not None
    batches = need.steps * stage.gradient_accumulation_steps
    length = max(8, round(need.computed_tokens / batches / stage.per_device_train_batch_size / need.setup.gpus))
    found = probe(model, stage, dtype, length)
    validation = need.work.validation / max(need.work.training, 1.0)
    return replace(need, seconds=START_SECONDS + found.seconds * batches * (1 + validation))


def _disk(need: Estimate) -> float:
    return float(need.disk.total) if need.disk else 0.0
