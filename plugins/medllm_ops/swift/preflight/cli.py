"""``medllm-ops preflight``: whether a recipe can be trained on a card, for how long, and what would make it fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from medllm_ops.errors import MedllmError
from medllm_ops.home import home
from medllm_ops.swift.preflight.cards import NOT_VALIDATED, Card, find_card
from medllm_ops.swift.preflight.estimate import Target
from medllm_ops.swift.preflight.preflight import (
    Preflight,
    add_host,
    add_licences,
    add_static,
    host_target,
)
from medllm_ops.swift.preflight.preflight import preflight as look
from medllm_ops.swift.recipe import read_recipe

console = Console(highlight=False, markup=False)
EXIT_PROBLEM = 1


def preflight(
    recipe: Annotated[str, typer.Option(help="A recipe's name or file.")],
    dataset: Annotated[Path | None, typer.Option(help="A frozen dataset: a run's folder dataset/.")] = None,
    model: Annotated[str | None, typer.Option(help="A model's folder; the recipe's own by default.")] = None,
    gpu: Annotated[str | None, typer.Option(help="A GPU of the table, such as A100-80GB; else this host's.")] = None,
    memory: Annotated[float | None, typer.Option(min=1, help="Memory of one GPU in GiB, in place of its own.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="How many of them, in place of the recipe's own.")] = None,
    port: Annotated[list[int] | None, typer.Option(help="A port that must be free; may be repeated.")] = None,
    probe: Annotated[bool, typer.Option(help="Measure a training step of each stage here, for the hours.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Estimate steps, memory, disk and hours of each stage; tell what does not fit, and what would.

    Nothing is fetched or started. Exit code 1 if something speaks against a start.
    """
    settings = read_recipe(recipe)
    if probe and dataset is None:
        raise MedllmError("--probe measures batches of a dataset: give --dataset, too")
    target, notes = _target(gpu, memory)
    ports, folder = port or (), home()
    found = look(settings, target, model=model, dataset=dataset, ports=ports, folder=folder, measure=probe, gpus=gpus)
    found.add((), notes)
    add_static(found, settings, model)
    if dataset:
        add_licences(found, dataset)
    if not (gpu or memory):
        add_host(found, settings, target, gpus=gpus)
    if json:
        typer.echo(orjson.dumps(found.to_row(), option=orjson.OPT_INDENT_2).decode())
    else:
        _show(found)
    if not found.passed:
        raise typer.Exit(EXIT_PROBLEM)


def _target(gpu: str | None, memory: float | None) -> tuple[Target, list[str]]:
    if gpu:
        card = find_card(gpu)
        return Target(card, memory=memory or card.memory), []
    if memory:
        return Target(Card("GPU", memory), memory=memory), ["without --gpu no hours are estimated"]
    return host_target()


def _show(found: Preflight) -> None:
    table = Table()
    for heading in ("stage", "rows", "tokens", "steps", "GiB of memory", "GiB on disk", "hours"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for each in found.estimates:
        counted = each.steps is not None
        table.add_row(
            each.stage,
            f"{each.rows:,}" if counted else "",
            f"{each.tokens:,}" if counted else "",
            f"{each.steps:,}" if counted else "",
            f"{each.memory.gibibytes:.1f}",
            f"{each.disk.total / 2**30:.1f}" if each.disk else "",
            "" if each.hours is None else f"{each.hours:.2f}",
        )
    have = f", {found.memory:.0f} GiB" if found.memory else ""
    console.print(f"{found.recipe} with {found.model} on {found.device}{have}", soft_wrap=True, markup=False)
    console.print(table)
    if any(each.setup.device == "cuda" for each in found.estimates):
        console.print(f"figures of GPUs: {NOT_VALIDATED}")
    for text in found.warnings:
        console.print(f"note: {text}", soft_wrap=True, markup=False)
    for text in found.problems:
        typer.echo(f"error: {text}", err=True)
