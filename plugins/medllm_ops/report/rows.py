"""What a report tells of rows: the counts of each step, the sets, and the way of each source."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, NonNegativeInt

from medllm_ops.report.part import Part

DropStep: TypeAlias = Literal["convert", "clean", "deduplicate", "decontaminate", "split", "chunk", "export"]


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
