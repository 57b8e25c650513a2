"""What a user decides about a run, checked before anything starts."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from medllm_ops.datasets.identity import Identity
from medllm_ops.errors import MedllmError

Stage = Literal["pretrain", "sft", "self_cognition", "dpo"]
STAGES: tuple[Stage, ...] = ("pretrain", "sft", "self_cognition", "dpo")
_OF_CURATION = ("rows_per_source", "curation", "evalsets", "allow_licences")
# Neither in a name: braces, angle brackets, and what cannot be seen (control, format and line separator characters).
_BARRED = r"{}<>\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
_NAME = rf"^[^{_BARRED}]*[^{_BARRED}\s][^{_BARRED}]*$"


class Parameters(BaseModel):
    """What a user decides about a run: the fields of the trigger form and of ``medllm-ops run``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    raw: str | None = Field(
        default=None,
        title="Folder of raw files",
        description="Holds pubmed/ clinicaltrials/ tcm_books/ docx/ sft/. Empty: the demo inputs that are shipped.",
        examples=["/data/raw"],
    )
    corpus: str | None = Field(
        default=None,
        title="Corpus version",
        description="Train on the corpus instead of raw files: a version's number, a tag, or latest.",
        examples=["latest", "2026-10"],
    )
    dataset: str | None = Field(
        default=None,
        title="Dataset",
        description="Train on a dataset that is there already: NAME, NAME@VERSION, or a folder that curate made.",
        examples=["medical", "medical@3"],
    )
    sources: list[str] = Field(
        default_factory=list,
        title="Sources",
        # No examples: the form shows what is in the catalogue.
        description="Which sources to train on; none named means all that there are.",
    )
    rows_per_source: int = Field(
        default=0,
        ge=0,
        title="Rows per source",
        description="The most records of each source, drawn by a stable hash. 0 takes all.",
        examples=[0, 20_000],
    )
    curation: str | None = Field(
        default=None,
        title="Curation settings",
        description="A YAML file with what differs from include/datasets/curation.yaml. Empty: nothing does.",
        examples=["/data/curation.yaml"],
    )
    allow_licences: list[str] = Field(
        default_factory=list,
        title="Allowed licences",
        description="Sources of the corpus that are used whatever the licences of their records are, unknown ones too.",
    )
    evalsets: list[str] = Field(
        default_factory=list,
        title="Evaluation sets",
        # No examples: the form would let nothing else be chosen.
        description="Files of what models will be evaluated on, one a line: rows that overlap are not trained on.",
    )
    max_retracted_share: float = Field(
        default=0,
        ge=0,
        le=1,
        title="Retracted records",
        description="The share of a dataset's training records that may be retracted or deleted since it was built.",
        examples=[0, 0.001],
    )
    on_retracted: Literal["warn", "stop"] = Field(
        default="warn", title="Beyond that", description="warn: say so in the log; stop: do not train."
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
    dpo: bool | None = Field(
        default=None,
        title="Alignment",
        description="Train on preference pairs, last of all. Left empty: if the recipe has the stage dpo.",
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
    seed: int = Field(
        default=42, ge=0, lt=2**32, title="Seed", description="Of training and of drawing rows.", examples=[42, 7]
    )
    name_zh: str = Field(
        default="青禾医助",
        pattern=_NAME,
        max_length=40,
        title="Name (Chinese)",
        description="What the model is called.",
        examples=["青禾医助"],
    )
    name_en: str = Field(
        default="MedBuddy",
        pattern=_NAME,
        max_length=40,
        title="Name (English)",
        description="What the model is called.",
        examples=["MedBuddy"],
    )
    author_zh: str = Field(
        default="北辰实验室",
        pattern=_NAME,
        max_length=60,
        title="Author (Chinese)",
        description="Who made the model.",
        examples=["北辰实验室"],
    )
    author_en: str = Field(
        default="Northstar Lab",
        pattern=_NAME,
        max_length=60,
        title="Author (English)",
        description="Who made the model.",
        examples=["Northstar Lab"],
    )
    serve: bool = Field(
        default=True, title="Serve", description="Start the OpenAI endpoint and prove it with a prompt."
    )
    keep_serving: bool = Field(
        default=False,
        title="Keep serving",
        description="Leave the endpoint running after the proof. Without Serve there is none, and nothing to keep.",
    )
    where: Literal["local", "kubernetes"] = Field(
        default="local",
        title="Where jobs run",
        description="local: under the trainer of this machine or run volume; kubernetes: each as a pod of the cluster.",
    )

    @field_validator("sources", "evalsets", "allow_licences", mode="before")
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
        given = [name for name in ("raw", "corpus", "dataset") if getattr(parameters, name)]
        if len(given) > 1:
            raise MedllmError(
                f"bad parameters: {' and '.join(given)} are given at the same time; a run trains on one of them"
            )
        if parameters.dataset and (unused := [name for name in _OF_CURATION if getattr(parameters, name)]):
            raise MedllmError(
                f"bad parameters: {' and '.join(unused)} decide how a dataset is made, and {parameters.dataset} is "
                "made already: leave them empty"
            )
        return parameters if parameters.dpo is None else parameters.settled(parameters.dpo)

    def settled(self, dpo: bool) -> Parameters:
        """The parameters with what was left to the recipe decided: whether the run ends with an alignment.

        :raises MedllmError: if no stage is on.
        """
        parameters = self.model_copy(update={"dpo": True}) if dpo and self.dpo is None else self
        if not parameters.stages:
            raise MedllmError("bad parameters: every stage is switched off; leave at least one on")
        return parameters

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that are on, in order; alignment only where it was said, see :func:`medllm_ops.plan.start`."""
        return tuple(stage for stage in STAGES if getattr(self, stage))

    @property
    def identity(self) -> Identity:
        """The names and authors."""
        return Identity(self.name_zh, self.name_en, self.author_zh, self.author_en)


def _explain(problem: ErrorDetails) -> str:
    """One problem of pydantic's in words: which field, what is allowed, what it got."""
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{name}: there is no such parameter (parameters: {', '.join(Parameters.model_fields)})"
    allowed = problem["msg"]
    if problem["type"] == "string_pattern_mismatch":
        allowed = "Some text on one line, without braces, angle brackets and characters that cannot be seen"
    return f"{name}: {allowed} (got {problem['input']!r})"
