"""What ``report.json`` holds. Other programs rely on its keys: add some, but never rename one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt

from medllm_ops.files import read_json


def _finite_or_none(value: Any) -> Any:
    """JSON has no NaN: a figure that is not finite is a figure that is missing."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


# A measured figure; None where there is none, or where it was NaN or infinite.
Figure: TypeAlias = Annotated[float | None, BeforeValidator(_finite_or_none)]
# (optimiser step, loss in nats per token)
Point: TypeAlias = tuple[NonNegativeInt, Figure]
# The models of a run, in the order they were made.
ModelLabel: TypeAlias = Literal["base", "pretrain", "sft", "self_cognition", "final"]
DropStep: TypeAlias = Literal["convert", "clean", "deduplicate", "decontaminate", "split", "chunk", "export"]


class Part(BaseModel):
    """A part of the report: no unknown key, nothing changed after it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)


class Gate(Part):
    """One condition of the verdict, and the figures that decided it; one not enforced is told, but decides nothing."""

    name: str
    passed: bool
    detail: str
    enforced: bool = True


class Curve(Part):
    """The losses that a training logged on its way, at most a thousand points a line."""

    train: list[Point] = []
    val: list[Point] = []


class RewardCurve(Part):
    """The margins and accuracies that an alignment logged on its way, in training and in validation."""

    margin: list[Point] = []
    accuracy: list[Point] = []
    eval_margin: list[Point] = []
    eval_accuracy: list[Point] = []


class StageFigures(Part):
    """A finished training stage.

    ``steps`` of ``max_steps`` optimiser steps; ``loss`` and ``eval_loss`` are the last logged ones, in nats per
    token; ``rows`` and ``val_rows`` are the rows it was given; ``seconds`` is the wall time of the last attempt.
    ``rewards`` has the last logged ``margin``, ``accuracy``, ``eval_margin`` and ``eval_accuracy`` of an alignment.
    """

    name: str
    steps: NonNegativeInt
    max_steps: NonNegativeInt
    loss: Figure
    eval_loss: Figure = None
    seconds: Figure
    rows: NonNegativeInt
    val_rows: NonNegativeInt | None = None
    tokens_per_second: Figure
    curve: Curve = Curve()
    rewards: dict[str, Figure] = {}
    reward_curve: RewardCurve = RewardCurve()


class Extremes(Part):
    """The smallest and the largest of a figure over all adapted tensors."""

    min: Figure = None
    max: Figure = None


class LogitsProof(Part):
    """The largest difference between the logits of base + adapter and of the merged model, and what is allowed."""

    max_abs_diff: Figure = None
    tolerance: Figure = None


class MergeFigures(Part):
    """The proof of one merge.

    ``max_abs_diff`` is the largest difference between a merged weight and base + scale·B·A, ``tolerance`` what is
    allowed at that place; ``relative_change`` is how far the adapter moves a weight, relative to its norm.
    """

    stage: str
    passed: bool
    max_abs_diff: Figure
    tolerance: Figure
    logits: LogitsProof = LogitsProof()
    relative_change: Extremes = Extremes()
    adapted_tensors: NonNegativeInt | None = None
    unchanged_tensors: NonNegativeInt | None = None
    seconds: Figure = None


class Answer(Part):
    """A question, and what the model answered before self-cognition and what the last model of the run answers.

    ``between`` is the answer after self-cognition, where an alignment followed. ``language`` is an ISO 639-1 code;
    ``reference`` is the answer on which a control question's loss is taken.
    """

    id: str = ""
    language: str = ""
    prompt: str
    before: str
    after: str
    ok: bool
    reference: str | None = None
    between: str | None = None


class ControlLoss(Part):
    """The mean loss on the reference answers, in nats per token; ``ratio`` (after / before) is at most ``limit``."""

    before: Figure
    after: Figure
    ratio: Figure
    limit: Figure


class IdentityFigures(Part):
    """The identity gate; ``name`` is what the model is to call itself."""

    passed: bool
    enforced: bool = True
    name: str = ""
    prompts: list[Answer]
    controls: list[Answer]
    control_loss: ControlLoss | None = None


class Ranking(Part):
    """The share of pairs whose better answer is likelier per token: the base's, and before and after alignment."""

    base: Figure = None
    before: Figure = None
    after: Figure = None


class PreferenceFigures(Part):
    """What the alignment did on held-out pairs.

    ``margin`` is by how much more than its reference, the model before, it prefers the better answers: ``beta`` times
    nats, the mean of all ``pairs``. ``accuracy`` is the share of pairs in which it does; the reference has 0 and 0.5.
    """

    gates: list[Gate]
    pairs: NonNegativeInt
    beta: Figure
    margin: Figure
    accuracy: Figure
    ranking: Ranking = Ranking()


class LedgerRow(Part):
    """The counts of one step, in rows: ``in`` = ``out`` + the sum of ``dropped``, which is by reason.

    ``source`` is the one that the row counts, where a step has a row for each. A step that cuts rows into pieces gives
    ``pieces`` instead of ``out`` rows, and may have ``shortened`` some.
    """

    step: str
    source: str | None = None
    rows_in: NonNegativeInt = Field(alias="in")
    rows_out: NonNegativeInt = Field(alias="out")
    dropped: dict[str, NonNegativeInt]
    pieces: NonNegativeInt | None = None
    shortened: NonNegativeInt | None = None

    @property
    def given(self) -> int:
        """The rows that the next step takes."""
        return self.rows_out if self.pieces is None else self.pieces

    @property
    def balances(self) -> bool:
        """Whether every row is accounted for."""
        return self.rows_in == self.rows_out + sum(self.dropped.values())


class DataSet(Part):
    """A set of the frozen dataset: rows on each side, ``tokens`` of the training side, the longest row allowed.

    ``heldout_rows`` is how many rows of the validation side were scored for ``heldout``.
    """

    name: str
    stage: str
    train: NonNegativeInt
    val: NonNegativeInt
    tokens: NonNegativeInt
    max_length: NonNegativeInt | None = None
    heldout_rows: NonNegativeInt | None = None


class SourceFlow(Part):
    """The way of one source's rows.

    ``raw`` + ``cut`` = ``train`` + ``val`` + everything in ``dropped`` (step, reason: rows); ``cut`` is how many rows
    more there are because long ones were cut into pieces. A count is None where its step was not run.
    """

    source: str
    raw: NonNegativeInt
    converted: NonNegativeInt
    unique: NonNegativeInt | None
    train: NonNegativeInt | None
    val: NonNegativeInt | None
    dropped: dict[DropStep, dict[str, NonNegativeInt]]
    cut: NonNegativeInt = 0


class ServingFigures(Part):
    """The endpoint's smoke test: the prompt it was given, its answer, the seconds from start to answer."""

    url: str
    served_model_name: str
    prompt: str
    answer: str
    seconds: Figure
    left_running: bool
    enforced: bool = True


class Timing(Part):
    """The wall time of a task in seconds; ``state`` is ``success``, ``failed`` or ``running``."""

    task: str
    seconds: Figure
    state: str = ""


class ModelFigures(Part):
    """The model folders: the one the run started from, and the last merged and proven one, with its stage."""

    base: str | None
    final: str | None
    final_stage: str | None


class Wanted(Part):
    """What the run was asked for, done or not. ``dataset`` is the folder of the one that it takes, if it does."""

    sources: list[str]
    dataset: str | None = None
    stages: list[str]
    serving: bool


class Results(Part):
    """What a run left on disk. Times are ISO 8601; ``seconds`` is the sum of all tasks."""

    run: str
    started: str | None
    finished: str | None
    seconds: Figure
    parameters: dict[str, Any]
    wanted: Wanted
    model: ModelFigures
    sources: list[SourceFlow]
    sets: list[DataSet]
    ledger: list[LedgerRow]
    stages: list[StageFigures]
    merges: list[MergeFigures]
    heldout: dict[str, dict[ModelLabel, Figure]]
    preference: PreferenceFigures | None = None
    identity: IdentityFigures | None
    serving: ServingFigures | None
    timings: list[Timing]


class Report(Results):
    """The results with their verdict: every part that was wanted is there, and every enforced gate passed."""

    passed: bool
    gates: list[Gate]
    versions: dict[str, str]

    def to_row(self) -> dict[str, Any]:
        """The report as JSON, as in ``report.json``."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a ``report.json``.

        :raises pydantic.ValidationError: if it is of another version of this package.
        """
        return cls.model_validate(read_json(path))
