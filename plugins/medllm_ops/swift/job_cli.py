"""``medllm-ops job run``: one stage of a recipe under the trainer, without Airflow and without the chain."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from medllm_ops.compute.cli import job_app
from medllm_ops.compute.local import LocalPlace
from medllm_ops.models.resolve import resolve_model
from medllm_ops.swift.check import check_recipe
from medllm_ops.swift.families import check_family
from medllm_ops.swift.frozen import sets_of
from medllm_ops.swift.recipe import load_recipe
from medllm_ops.swift.train import begin, stage_request

__all__ = ["job_app"]

console = Console(highlight=False, markup=False)


@job_app.command("run")
def run_job(
    recipe: Annotated[str, typer.Option(help="A recipe's name or file.")],
    stage: Annotated[str, typer.Option(help="One of the recipe's stages.")],
    dataset: Annotated[Path, typer.Option(help="A frozen dataset: manifest.json, train/, val/.")],
    out: Annotated[Path, typer.Option(help="The stage's folder: job, checkpoints, result.json.")],
    model: Annotated[str | None, typer.Option(help="A folder or name; the recipe's own by default.")] = None,
    detach: Annotated[bool, typer.Option(help="Do not wait: `job logs --follow` does.")] = False,
) -> None:
    """Train one stage; repeated, it finds its job, or goes on from the last whole checkpoint. Ctrl-C ends the job."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = load_recipe(recipe)
    # As for a run: what ms-swift would refuse is told now, and not once the model is loaded.
    check_recipe(settings)
    check_family(settings, model)
    # Before a model is fetched.
    sets_of(dataset, stage)
    folder = resolve_model(model or settings.model, settings.hub)
    request = stage_request(stage, recipe, str(folder), str(dataset.resolve()), str(out.resolve()))
    place = LocalPlace()
    training = begin(request, place)
    if training.job:
        console.print(f"job {training.job.id}, log {training.job.log}", soft_wrap=True)
        if detach:
            return
    result = training.finish(place)
    console.print(
        f"{result.steps} steps, loss {result.loss:.4f}, {result.tokens_per_second:.0f} tokens/s → {result.checkpoint}",
        soft_wrap=True,
    )
