"""A segment: what reading, cleaning and scrubbing made of a number of lines; a folder that never changes again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow.parquet as pq

from medllm_ops.files import read_json

READ: Final = "read"
CLEAN: Final = "clean"
SCRUB: Final = "scrub"
RETRACTED: Final = "retracted"
"""The reason of rows that their publisher withdrew; all others of the step ``read`` are lines without a record."""

Marks: TypeAlias = dict[str, dict[str, dict[str, int]]]


@dataclass(frozen=True, slots=True)
class Segment:
    """The files of a segment."""

    folder: Path

    @property
    def rows(self) -> dict[str, Path]:
        """The rows that go on, as cleaned and scrubbed: a file for each source.

        A line holds ``id, messages[, rejected_response], source, language, title, url, licence, version, retracted``.
        """
        return {path.name.removesuffix(".jsonl"): path for path in sorted((self.folder / "rows").glob("*.jsonl"))}

    @property
    def index(self) -> Path:
        """A table (:data:`~.state.segment.INDEX`) with a line for every line that was read.

        ``id``: of a line without a sound one, ``<file>:<byte>``. ``source``: empty where it is not sound.
        ``digest``: of the line as it was read. ``begin``, ``length``: where the row stands in the file of its source;
        its first ``cut`` bytes and a ``}`` are the line that is exported. ``step``, ``reason``, ``detail``: why a row
        does not go on; of a row that does, null, as the places are of one that does not.
        """
        return self.folder / "index.parquet"

    @property
    def marks(self) -> Marks:
        """What was done to texts: step, source and rule to a count."""
        marks: Marks = read_json(self.folder / "marks.json")
        return marks

    @property
    def review(self) -> Path:
        """Replacements for a person to look at: the lines of :class:`~.scrub.review.ReviewSample`."""
        return self.folder / "review.jsonl"

    @property
    def samples(self) -> Path:
        """Of each step and reason a few rows that were dropped: ``step, reason, id, source, detail, excerpt``."""
        return self.folder / "samples.jsonl"

    @property
    def gone(self) -> Iterator[str]:
        """The ids that are no more."""
        with (self.folder / "gone.txt").open(encoding="utf-8", newline="\n") as lines:
            yield from (line.removesuffix("\n") for line in lines)

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing: no line, and no id that is no more."""
        return pq.read_metadata(self.index).num_rows == 0 and not any(self.gone)

    @property
    def settings(self) -> dict[str, Any]:
        """Where it is from.

        ``fingerprint``: of settings and code. ``full``: whether rows of earlier segments are no more. ``inputs``: for
        each file its name, lines and hash.
        """
        settings: dict[str, Any] = read_json(self.folder / "settings.json")
        return settings


def marks_as_json(marks: dict[tuple[str, str], Counter[str]]) -> Marks:
    """Counts by step and source, in order."""
    nested: Marks = {}
    for (step, source), counts in sorted(marks.items()):
        if counts:
            nested.setdefault(step, {})[source] = dict(sorted(counts.items()))
    return nested
