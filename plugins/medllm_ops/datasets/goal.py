"""What of the corpus's history belongs to a dataset, and what of it was taken in already."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from medllm_ops.corpus.history import End, read_history
from medllm_ops.corpus.reader import Snapshot


class Taken(BaseModel):
    """How far a source was taken in: up to a version of the corpus, and so many facts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int
    facts: int


class Memory(BaseModel):
    """What was taken in: how far each of the ``sources``; and ``history``: in order, the versions and their sources."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    sources: dict[str, Taken] = Field(default_factory=dict)
    history: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be taken in for a version of the corpus: the ends of refreshes, in order.

    ``facts`` are those that the corpus has about each source by then: they tell one goal from another. ``unfinished``
    are sources whose refresh goes on in this version, and the version that they were left at (0: not there at all).
    ``is_within``: the goal lies within a refresh, so that it is no place to go on from.
    """

    snapshot: Snapshot
    ends: tuple[End, ...]
    facts: dict[str, int]
    unfinished: dict[str, int]
    is_within: bool


def goal_of(snapshot: Snapshot, *, exact: bool) -> Goal:
    """What is to be taken in for a version of the corpus.

    :param exact: take in what an unfinished refresh has brought so far; else it is left for later.
    """
    history = read_history(snapshot.storage, snapshot.version)
    ends = sorted(history.ends + (history.unfinished if exact else []))
    last = {end.source: end.version for end in ends}
    facts = {source: Snapshot(snapshot.storage, version).facts(source) for source, version in last.items()}
    unfinished = {} if exact else {end.source: last.get(end.source, 0) for end in history.unfinished}
    known = {source: count for source, count in sorted(facts.items()) if count}
    return Goal(snapshot, tuple(ends), known, unfinished, exact and bool(history.unfinished))
