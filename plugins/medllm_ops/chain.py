"""The chain: which step follows which. The command line and the DAG follow it; :mod:`medllm_ops.steps` does them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from medllm_ops import steps
from medllm_ops.compute.job import Place
from medllm_ops.compute.places import place_for
from medllm_ops.errors import MedllmError
from medllm_ops.parameters import STAGES, Parameters, Stage
from medllm_ops.run import Run


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the chain. ``execute`` gets the run and the place of its jobs and returns small JSON."""

    name: str
    title: str
    execute: Callable[[Run, Place], Any]
    stage: Stage | None = None

    def wanted(self, parameters: Parameters) -> bool:
        """Whether a run with these parameters has this step."""
        if self.name == "serve":
            return parameters.serve
        return self.stage is None or self.stage in parameters.stages


_TITLES = dict(zip(STAGES, ("continued pretraining", "instruction tuning", "self-cognition", "alignment"), strict=True))


def _stage_steps(stage: Stage) -> tuple[Step, Step]:
    title = _TITLES[stage]
    return (
        Step(stage, title, partial(steps.train, stage), stage),
        Step(f"merge_{stage}", f"adapter of {title} into the model, with proof", partial(steps.merge, stage), stage),
    )


STEPS: tuple[Step, ...] = (
    Step("plan", "check the parameters, fetch the model", steps.plan),
    Step("convert", "raw files to records", steps.convert),
    Step("curate", "clean, without duplicates, each row on its side", steps.curate),
    Step("sets", "the sets of each stage, the identity set among them", steps.sets),
    Step("export", "the frozen dataset, tokens counted", steps.export),
    Step("preflight", "steps, memory, disk and hours, before a GPU is asked for", steps.preflight),
    *(each for stage in STAGES for each in _stage_steps(stage)),
    Step("evaluate", "held-out loss, preferences and identity gate", steps.evaluate),
    Step("serve", "endpoint up, one prompt answered", steps.serve),
    Step("report", "report.html and report.json", steps.report),
)


def step(name: str) -> Step:
    """A step by its name.

    :raises MedllmError: with the names there are.
    """
    for candidate in STEPS:
        if candidate.name == name:
            return candidate
    raise MedllmError(f"no step {name!r}: the chain is {', '.join(candidate.name for candidate in STEPS)}")


def check_step(name: str, parameters: Parameters) -> None:
    """Refuse a step that a run with these parameters does not have.

    :raises MedllmError: with the steps it has, or with the name of the step that is off.
    """
    if not step(name).wanted(parameters):
        raise MedllmError(f"step {name} is off in this run: its parameters do without it")


def execute(name: str, run_dir: str, place: Place | None = None) -> Any:
    """Run one step of the run in ``run_dir`` and return its small JSON.

    :param place: where its jobs run; by default, as the run says.
    """
    run = Run.open(Path(run_dir))
    return step(name).execute(run, place or place_for(run.parameters.where))


def task_arguments(run: Run) -> dict[str, Any]:
    """Plan the run, and return what each task of the DAG takes: step name to arguments."""
    decided = steps.plan(run, place_for(run.parameters.where))
    where = run.parameters.where
    tasks: dict[str, Any] = {
        "run_dir": str(run.directory),
        "convert": [steps.convert_arguments(run, name) for name in decided["sources"]],
        "serve": {**steps.serve_arguments(run), "enabled": run.parameters.serve, "where": where},
    }
    for stage in STAGES:
        job = {"enabled": stage in run.parameters.stages, "where": where}
        tasks[stage] = {**steps.train_arguments(run, stage), **job}
        tasks[f"merge_{stage}"] = {**steps.merge_arguments(run, stage), **job}
    return tasks
