"""One run of the chain: its parameters, checked before anything starts, and where each thing lies."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from medllm_ops.datasets.identity import Identity
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, text_hash, to_json_line, write_json
from medllm_ops.home import home

Stage = Literal["pretrain", "sft", "self_cognition"]
STAGES: tuple[Stage, ...] = ("pretrain", "sft", "self_cognition")
LATEST = "latest"
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}")
_NAME = r"^[^{}<>\n]*[^{}<>\s][^{}<>\n]*$"


class Parameters(BaseModel):
    """What a user decides about a run: the fields of the trigger form and of ``medllm-ops run``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    raw: str | None = Field(
        default=None,
        title="Folder of raw files",
        description="Holds pubmed/ clinicaltrials/ tcm_books/ docx/ sft/. Empty: the demo inputs that are shipped.",
        examples=["/data/raw"],
    )
    sources: list[str] = Field(
        default_factory=list,
        title="Sources",
        description="Which sources to train on; none named means all that have files.",
        examples=["pubmed", "clinicaltrials", "tcm_books", "docx", "alpaca", "deepctrl", "disc_medllm"],
    )
    rows_per_source: int = Field(
        default=0,
        ge=0,
        title="Rows per source",
        description="The most records of each source, drawn by a stable hash. 0 takes all.",
        examples=[0, 20_000],
    )
    model: str | None = Field(
        default=None,
        title="Base model",
        description="A folder, a hub id such as Qwen/Qwen3-14B, or smollm2-135m-instruct. Empty: the recipe's own.",
        examples=["smollm2-135m-instruct", "/models/Qwen3-14B"],
    )
    recipe: str = Field(
        default="demo",
        min_length=1,
        title="Recipe",
        description="The name of a recipe in include/swift_configs, or a path to one.",
        examples=["demo", "qwen3", "qwen_14b_chat_2024"],
    )
    pretrain: bool = Field(default=True, title="Continued pretraining", description="Train on the documents.")
    sft: bool = Field(default=True, title="Instruction tuning", description="Train on the dialogues.")
    self_cognition: bool = Field(
        default=True, title="Self-cognition", description="Teach the model its name and its author."
    )
    max_steps: int = Field(
        default=0,
        ge=0,
        title="Steps per stage",
        description="Replaces the recipe's steps or epochs in every stage. 0 leaves the recipe's.",
        examples=[0, 100],
    )
    num_train_epochs: float = Field(
        default=0,
        ge=0,
        le=100,
        title="Epochs per stage",
        description="Replaces the recipe's steps or epochs in every stage, unless steps are given. 0: the recipe's.",
        examples=[0, 1, 5],
    )
    learning_rate: float = Field(
        default=0,
        ge=0,
        le=0.01,
        title="Learning rate",
        description="Replaces the recipe's in every stage; at most 0.01. 0 leaves the recipe's.",
        examples=[0, 1e-4],
    )
    max_length: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        title="Tokens per row",
        description="Longer rows are left out and counted. 0 leaves the recipe's. There is no -1 for 'unlimited'.",
        examples=[0, 2048],
    )
    seed: int = Field(default=42, ge=0, lt=2**32, title="Seed", description="Of training and of drawing rows.")
    name_zh: str = Field(
        default="青禾医助",
        pattern=_NAME,
        max_length=40,
        title="Name (Chinese)",
        description="What the model is called.",
    )
    name_en: str = Field(
        default="MedBuddy",
        pattern=_NAME,
        max_length=40,
        title="Name (English)",
        description="What the model is called.",
    )
    author_zh: str = Field(
        default="北辰实验室", pattern=_NAME, max_length=60, title="Author (Chinese)", description="Who made the model."
    )
    author_en: str = Field(
        default="Northstar Lab",
        pattern=_NAME,
        max_length=60,
        title="Author (English)",
        description="Who made the model.",
    )
    serve: bool = Field(
        default=True, title="Serve", description="Start the OpenAI endpoint and prove it with a prompt."
    )
    keep_serving: bool = Field(
        default=False, title="Keep serving", description="Leave the endpoint running after the proof."
    )
    where: Literal["local"] = Field(
        default="local", title="Where jobs run", description="local: as processes of the worker's own machine."
    )

    @field_validator("sources", mode="before")
    @classmethod
    def _none_named(cls, names: Any) -> Any:
        return [] if names is None else names

    @field_validator("sources")
    @classmethod
    def _known_sources(cls, names: list[str]) -> list[str]:
        from medllm_ops.sources import get_source

        return list(dict.fromkeys(get_source(name).name for name in names))

    @classmethod
    def check(cls, values: dict[str, Any]) -> Parameters:
        """Validate what a user gave.

        :raises MedllmError: one sentence that names each bad field and says what is allowed.
        """
        try:
            parameters = cls.model_validate(values)
        except ValidationError as error:
            problems = [_explain(problem) for problem in error.errors()]
            raise MedllmError("bad parameters: " + "; ".join(problems)) from error
        if not (parameters.pretrain or parameters.sft or parameters.self_cognition):
            raise MedllmError("bad parameters: every stage is switched off; leave at least one on")
        return parameters

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that are on, in order."""
        on = {"pretrain": self.pretrain, "sft": self.sft, "self_cognition": self.self_cognition}
        return tuple(stage for stage in STAGES if on[stage])

    @property
    def identity(self) -> Identity:
        """The names and authors."""
        return Identity(self.name_zh, self.name_en, self.author_zh, self.author_en)

    def default_run_name(self) -> str:
        """A name made of the recipe and a hash of all parameters: the same parameters go on with the same run."""
        digest = text_hash(to_json_line(self.model_dump(mode="json")).decode())[:8]
        return run_name(f"{Path(self.recipe).stem}-{digest}")


def _explain(problem: ErrorDetails) -> str:
    """One problem of pydantic's in words: which field, what is allowed, what it got."""
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{name}: there is no such parameter (parameters: {', '.join(Parameters.model_fields)})"
    allowed = problem["msg"]
    if problem["type"] == "string_pattern_mismatch":
        allowed = "Some text on one line, without braces and angle brackets"
    return f"{name}: {allowed} (got {problem['input']!r})"


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
    """A run on disk. Everything of it lies below ``directory``; each path is decided here and nowhere else."""

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
        rows = read_json(path) if path.is_file() else []
        earlier = next((row for row in rows if row["task"] == task), None)
        if earlier and earlier["state"] == "success" and earlier["seconds"] > seconds and state != "failed":
            # Repeated with nothing changed: what it took to do the work is worth more than what it took to look.
            return
        others = [row for row in rows if row["task"] != task]
        write_json(path, [*others, {"task": task, "seconds": seconds, "state": state}])

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
