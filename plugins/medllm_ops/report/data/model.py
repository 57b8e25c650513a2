"""What ``data_report.json`` holds. Other programs rely on its keys: add some, but never rename one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, NonNegativeInt

from medllm_ops.files import read_json
from medllm_ops.report.part import Figure, Part
from medllm_ops.report.rows import LedgerRow

Side: TypeAlias = Literal["train", "val"]
SIDES: tuple[Side, Side] = ("train", "val")
# wrong: do not train on it; look: a person decides; note: worth knowing; good: as it should be.
Level: TypeAlias = Literal["wrong", "look", "note", "good"]
Stability: TypeAlias = Literal["stable", "moderate", "significant"]
Counts: TypeAlias = dict[str, NonNegativeInt]


class Finding(Part):
    """One thing that was checked, said in one sentence with its figures; ``section`` is where the page shows more."""

    level: Level
    check: str
    sentence: str
    section: str


class Funnel(Part):
    """The way of one source: ``read`` lines became ``train`` + ``val`` rows."""

    source: str
    read: NonNegativeInt
    train: NonNegativeInt
    val: NonNegativeInt
    steps: list[LedgerRow]

    @property
    def dropped(self) -> dict[tuple[str, str], int]:
        """Rows by step and reason."""
        return {(step.step, reason): rows for step in self.steps for reason, rows in step.dropped.items()}


class Account(Part):
    """Equations of one kind: how many were checked, and a sentence for each one that does not hold."""

    name: str
    checked: NonNegativeInt
    wrong: list[str]

    @property
    def holds(self) -> bool:
        """Whether all of them hold."""
        return not self.wrong


class Lengths(Part):
    """Rows by their length in characters: from ``begins[n]`` up to, not including, ``begins[n + 1]``."""

    source: str
    side: Side
    begins: list[NonNegativeInt]
    rows: list[NonNegativeInt]


class Languages(Part):
    """Rows by language; ``side`` is None where both are counted together."""

    source: str
    side: Side | None
    rows: Counts


class Script(Part):
    """Of which scripts the text of the first ``rows`` rows of a file is: ``characters`` by kind."""

    source: str
    side: Side
    rows: NonNegativeInt
    characters: Counts


class Member(Part):
    """A row of a cluster; ``similarity`` is with the kept one."""

    id: str
    source: str = ""
    excerpt: str = ""
    kept: bool = False
    similarity: Figure = None


class Cluster(Part):
    """Rows that are the same, or nearly; some of the ``size`` ones are in ``members``."""

    size: NonNegativeInt
    members: list[Member]


class Mark(Part):
    """How often a rule of a step changed rows of a source; the rules of scrubbing are kinds of personal data."""

    step: str
    source: str
    rule: str
    count: NonNegativeInt


class Review(Part):
    """A replacement to be looked at: never the value itself, only its ``shape``."""

    id: str
    field: str = ""
    kind: str
    rule: str = ""
    shape: str = ""
    context: str = ""


class EvaluationSet(Part):
    """What the rows were compared with; ``items_found`` of ``items`` had an overlap, ``too_short`` could have none."""

    file: str
    hash: str = ""
    items: NonNegativeInt | None = None
    ngrams: NonNegativeInt | None = None
    too_short: NonNegativeInt | None = None
    items_found: NonNegativeInt | None = None
    rows_removed: NonNegativeInt | None = None


class Overlap(Part):
    """A row that shares ``overlap`` with an item of an evaluation set, ``share`` of whose n-grams it has."""

    id: str
    source: str = ""
    file: str = ""
    item: str = ""
    share: Figure = None
    overlap: str = ""


class Common(Part):
    """An n-gram of an evaluation set that stands in so many rows that it was taken for a phrase."""

    text: str
    rows: NonNegativeInt


class Decontamination(Part):
    """The step of this name."""

    evalsets: list[EvaluationSet]
    overlaps: list[Overlap]
    common_ngrams: NonNegativeInt
    common: list[Common]


class Sample(Part):
    """A row, or the beginning of one. ``kept`` is the row that stands for a dropped one."""

    id: str
    source: str = ""
    side: Side | None = None
    excerpt: str = ""
    detail: str = ""
    kept: str = ""


class Reason(Part):
    """A reason for which a step dropped rows, with some of them."""

    step: str
    reason: str
    rows: NonNegativeInt
    samples: list[Sample]


class Licences(Part):
    """Rows of a source by licence; an empty name is an unknown one."""

    source: str
    rows: Counts


class Bin(Part):
    """A part of a distribution: its share of the previous dataset and of this one, from 0 to 1."""

    name: str
    before: float
    now: float


class Drift(Part):
    """How far a distribution moved, as population stability index; ``source`` is None for all sources together.

    ``chance`` is what two samples of one population, as large as these, stay below in 99 of 100 cases.
    """

    what: Literal["sources", "languages", "lengths", "characters"]
    source: str | None
    psi: float
    chance: float
    stability: Stability
    bins: list[Bin]


class RowChanges(Part):
    """The rows of a source in both datasets, by their ids as they are written: a chunk is a row of its own.

    ``before`` = ``same`` + ``changed`` + ``to_train`` + ``to_val`` + ``gone``, and ``now`` is the same with ``new`` in
    place of ``gone``; ``to_train`` and ``to_val`` are the ones that changed sides.
    """

    source: str
    before: NonNegativeInt
    now: NonNegativeInt
    same: NonNegativeInt
    changed: NonNegativeInt
    new: NonNegativeInt
    gone: NonNegativeInt
    to_train: NonNegativeInt
    to_val: NonNegativeInt


class ChangedRow(Part):
    """A row whose text is another one now: both, around the first difference."""

    id: str
    source: str
    before: str
    now: str


class Comparison(Part):
    """A dataset beside the previous one; ``retracted`` rows of that one are retracted by now."""

    previous: str
    drifts: list[Drift]
    rows: list[RowChanges]
    changed: list[ChangedRow]
    new: list[Sample]
    gone: list[Sample]
    retracted: NonNegativeInt
    retracted_ids: list[str]
    settings: list[str]


class FileFigures(Part):
    """A file of the dataset: the rows and the hash that are in it, and those the manifest tells."""

    side: Side
    source: str
    rows: NonNegativeInt
    rows_told: NonNegativeInt
    hash: str
    hash_told: str | None


class DataReport(Part):
    """The whole of it; ``level`` is that of the worst finding, ``incomplete`` names figures that were not there."""

    dataset: str
    level: Level
    findings: list[Finding]
    read: NonNegativeInt
    train: NonNegativeInt
    val: NonNegativeInt
    removed: NonNegativeInt
    sources: list[Funnel]
    accounts: list[Account]
    reasons: list[Reason]
    kept: list[Sample]
    lengths: list[Lengths]
    languages: list[Languages]
    scripts: list[Script]
    clusters: list[Cluster]
    marks: list[Mark]
    review: list[Review]
    decontamination: Decontamination
    licences: list[Licences]
    comparison: Comparison | None
    files: list[FileFigures]
    settings: dict[str, Any]
    manifest: dict[str, Any] = Field(description="What else the manifest tells: seed, inputs, hashes, history.")
    incomplete: list[str]

    def to_row(self) -> dict[str, Any]:
        """The report as JSON."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def read_file(cls, path: Path) -> DataReport:
        """Read a ``data_report.json``.

        :raises pydantic.ValidationError: if it is of another version of this package.
        """
        return cls.model_validate(read_json(path))
