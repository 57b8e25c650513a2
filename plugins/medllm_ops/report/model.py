"""What ``report.json`` holds. Other programs rely on its keys: add some, but never rename one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, NonNegativeInt

from medllm_ops.files import read_json
from medllm_ops.report.part import Figure, Part
from medllm_ops.report.rows import DataSet, LedgerRow, SourceFlow

# (optimiser step, loss in nats per token)
Point: TypeAlias = tuple[NonNegativeInt, Figure]
# The models of a run, in the order they were made.
ModelLabel: TypeAlias = Literal["base", "pretrain", "sft", "self_cognition", "final"]


class Gate(Part):
    """One condition of the verdict, and the figures that decided it; one not enforced is told, but decides nothing."""

    name: str
    passed: bool
    detail: str
    enforced: bool = True


class Curve(Part):
    """The losses that a training logged on its way, at most a thousand points a line."""

    train: list[Point] = Field(default_factory=list)
    val: list[Point] = Field(default_factory=list)


class RewardCurve(Part):
    """The margins and accuracies that an alignment logged on its way, in training and in validation."""

    margin: list[Point] = Field(default_factory=list)
    accuracy: list[Point] = Field(default_factory=list)
    eval_margin: list[Point] = Field(default_factory=list)
    eval_accuracy: list[Point] = Field(default_factory=list)


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
    rewards: dict[str, Figure] = Field(default_factory=dict)
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
    """What the run was asked for, done or not.

    :param sources: the ones that it converts itself. :param corpus: the version that it takes in their place, in words.
    :param dataset: the folder of the dataset that it takes in their place.
    """

    sources: list[str]
    corpus: str | None = None
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
