"""One run of the chain on disk: where each thing lies."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medllm_ops.errors import MedllmError
from medllm_ops.files import link_to, read_json, text_hash, to_json_line, write_json
from medllm_ops.home import home
from medllm_ops.parameters import STAGES, Parameters

LATEST = "latest"
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}")


def default_run_name(parameters: Parameters) -> str:
    """A name made of the recipe and a hash of all parameters: the same parameters go on with the same run."""
    digest = text_hash(to_json_line(parameters.model_dump(mode="json")).decode())[:8]
    return run_name(f"{Path(parameters.recipe).stem}-{digest}")


def run_name(text: str) -> str:
    """Make a folder name of an Airflow run id (``manual__2026-11-24T10:00:00+00:00``).

    Ids that become the same name when other signs are replaced, or when they are cut, are told apart by a hash.
    """
    plain = re.sub(r"[^A-Za-z0-9._+-]", "-", text.replace(":", "-"))
    if plain == text.replace(":", "-") and _RUN_NAME.fullmatch(plain):
        return plain
    return f"{plain.lstrip('._+-')[:100] or 'run'}-{text_hash(text)[:8]}"


@dataclass(frozen=True, slots=True)
class Run:
    """A run on disk. Everything of it lies below ``directory``, and its steps ask here where.

    Report and lineage know the names, too: they read folders of which little may be left.
    """

    directory: Path
    parameters: Parameters

    @classmethod
    def create(cls, name: str, parameters: Parameters) -> Run:
        """Make the run's directory, or find it again.

        :raises MedllmError: if the name is taken by a run with other parameters, or is no folder name.
        """
        if not _RUN_NAME.fullmatch(name):
            raise MedllmError(f"run name {name!r}: letters, digits and ._+- only, at most 120")
        if name == LATEST:
            raise MedllmError(f"run name {name!r}: that is the link to the last finished run; take another")
        directory = (home() / "runs").resolve() / name
        values = parameters.model_dump(mode="json")
        if (directory / "run.json").is_file():
            run = cls.open(directory)
            if run.parameters != parameters:
                raise MedllmError(f"run {name} exists with other parameters: give this one another name")
            return run
        row = {"run": name, "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "parameters": values}
        write_json(directory / "run.json", row)
        return cls(directory, parameters)

    @classmethod
    def open(cls, directory: Path) -> Run:
        """Read a run from its directory.

        :raises MedllmError: if there is none.
        """
        path = directory / "run.json"
        if not path.is_file():
            raise MedllmError(f"{directory} is not a run: it has no run.json")
        return cls(directory.resolve(), Parameters.check(read_json(path)["parameters"]))

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.directory.name

    @property
    def log_file(self) -> Path:
        """What the command line logged; each job has a log of its own."""
        return self.directory / "chain.log"

    @contextmanager
    def timed(self, task: str) -> Iterator[None]:
        """Write down in ``timings.json`` how long a task took and how it ended, also while it runs."""
        started = time.monotonic()
        self.write_timing(task, 0.0, "running")
        state = "failed"
        try:
            yield
            state = "success"
        finally:
            self.write_timing(task, time.monotonic() - started, state)

    def write_timing(self, task: str, seconds: float, state: str) -> None:
        """Keep how long a task took, in seconds, and its state: running, success or failed."""
        path = self.directory / "timings.json"
        timings = {row["task"]: row for row in read_json(path)} if path.is_file() else {}
        earlier = timings.get(task)
        if earlier and earlier["state"] == "success" and earlier["seconds"] > seconds and state != "failed":
            # Repeated with nothing changed: what it took to do the work is worth more than what it took to look.
            return
        timings[task] = {"task": task, "seconds": seconds, "state": state}  # repeated, it keeps its place
        write_json(path, list(timings.values()))

    def state_of(self, task: str) -> str | None:
        """How a task ended the last time, or that it runs; None if it never began."""
        path = self.directory / "timings.json"
        states = {row["task"]: row["state"] for row in read_json(path)} if path.is_file() else {}
        return states.get(task)

    @property
    def plan_file(self) -> Path:
        """What was decided before the start: model folder, files of each source."""
        return self.directory / "plan.json"

    @property
    def recipe_file(self) -> Path:
        """The recipe with this run's overrides, frozen."""
        return self.directory / "recipe.yaml"

    @property
    def gate_file(self) -> Path:
        """The identity gate, frozen before tuning."""
        return self.directory / "identity_gate.yaml"

    @property
    def identity_file(self) -> Path:
        """The identity rows, frozen before tuning."""
        return self.directory / "identity_rows.jsonl"

    @property
    def curation_file(self) -> Path:
        """The settings of curation, with what the recipe decides, frozen."""
        return self.directory / "curation.yaml"

    @property
    def curated(self) -> Path:
        """The curated rows: a folder of the run's own, or a link to the dataset that it takes."""
        return self.directory / "curated"

    def take_dataset(self, folder: Path) -> None:
        """Let the curated rows be a dataset's; within the home folder by a relative link, so that all may be moved.

        :raises MedllmError: if the run has curated rows of its own: they would be lost.
        """
        target = folder.resolve()
        if target.is_relative_to(home().resolve()):
            target = Path(os.path.relpath(target, self.directory))
        link_to(self.curated, target)

    @property
    def sets(self) -> Path:
        """The sets of each stage, of any length."""
        return self.directory / "sets"

    @property
    def dataset(self) -> Path:
        """The frozen dataset."""
        return self.directory / "dataset"

    @property
    def base_model(self) -> Path:
        """The folder of the model that the run starts from."""
        return Path(read_json(self.plan_file)["model"])

    @property
    def evaluation(self) -> Path:
        """The scores and the verdicts on them."""
        return self.directory / "evaluation"

    def converted(self, source: str) -> Path:
        """A source's records and rejects."""
        return self.directory / "convert" / source

    def stage(self, stage: str) -> Path:
        """A stage's job, checkpoints and result."""
        return self.directory / "stages" / stage

    def merged(self, stage: str) -> Path:
        """A stage's merged model."""
        return self.directory / "merged" / stage

    def model_before(self, stage: str) -> Path:
        """The model that a stage starts from: the last merged one of the stages before it that are on."""
        earlier = [on for on in self.parameters.stages if STAGES.index(on) < STAGES.index(stage)]
        return self.merged(earlier[-1]) if earlier else self.base_model

    @property
    def final_model(self) -> Path:
        """The model that the run ends with."""
        return self.merged(self.parameters.stages[-1])
