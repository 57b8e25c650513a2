"""What items change, given what the corpus has: the rules by which the latest version wins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import xxhash

from medllm_ops.corpus.items import DELETION, REJECT
from medllm_ops.records import LedgerEntry

COLUMNS = ("item", "id", "version", "retracted", "hash", "reason", "withdraws")
"""What of the items the rules look at, besides their ``number``."""
STATE = ("id", "version", "retracted", "deleted", "hash")
"""What of the corpus's records the rules look at."""

GONE = frozenset({"deleted", "removed", "withdrawn"})
"""The events after which a record no longer lives."""

Event: TypeAlias = tuple[str, str, int, bytes | None]
"""Id, what happened, version, hash."""

DELETION_NOTICE = "deletion notice"
DELETED_LATER = "deleted later in the same file"
OLDER = "older than the corpus"
REPLACED_LATER = "replaced later in the same file"
UNCHANGED = "already in the corpus, unchanged"

DELETED_BY_PUBLISHER = "deleted by its publisher"


def member_of(record_id: str) -> int:
    """xxh3-64 of an id, as a signed number."""
    return int.from_bytes(xxhash.xxh3_64_digest(record_id.encode()), "big", signed=True)


@dataclass(slots=True)
class _State:
    version: int
    retracted: bool
    deleted: bool
    digest: bytes | None
    row: int | None = None  # among these items; None: as the corpus has it

    @property
    def is_new(self) -> bool:
        """Whether it lives, as one of these items says."""
        return self.row is not None and not self.deleted


class Changes:
    """The outcome of some items, one by one in order.

    ``upserts`` are the positions of the rows to write, ``buried`` those of rows that were deleted by a later item, and
    ``rejected`` those of the rejects; ``deleted`` says why, by id; ``present`` are the ids of records that change and
    that the corpus had before; ``events`` are ``(id, event, version, hash)``; ``members`` are the ids that came as
    records. Ledger and event counts are added to those given.

    A record wins over one of the same or a lower version, whatever came later; over a deleted one it wins always.

    :param before: of each of these ids that the corpus has: id, version, retracted, why it was deleted, hash.
    """

    def __init__(self, items: pa.Table, before: pa.Table, ledger: LedgerEntry, counts: Counter[str]) -> None:
        self._ledger = ledger
        self._counts = counts
        known = (before[name].to_pylist() for name in STATE)
        self._states = {
            record_id: _State(version, retracted, deleted is not None, digest)
            for record_id, version, retracted, deleted, digest in zip(*known, strict=True)
        }
        self.deleted: dict[str, str] = {}
        self.events: list[Event] = []
        self.members: list[str] = []
        rows = list(zip(*(items[name].to_pylist() for name in COLUMNS), strict=True))
        rejected: list[int] = []
        for row in np.argsort(items["number"].to_numpy(), kind="stable").tolist():
            kind, record_id, version, retracted, digest, reason, withdraws = rows[row]
            ledger.rows_in += 1
            if kind == REJECT:
                rejected.append(row)
                ledger.drop(reason)
                state = self._states.get(record_id) if withdraws is not None else None
                if state and not state.deleted and withdraws >= state.version:
                    self._delete(record_id, state, "withdrawn", reason)
            elif kind == DELETION:
                ledger.drop(DELETION_NOTICE)
                state = self._states.get(record_id)
                if state and not state.deleted:
                    self._delete(record_id, state, "deleted", DELETED_BY_PUBLISHER)
            else:
                self.members.append(record_id)
                self._record(row, record_id, version, retracted, digest)
        states = self._states.values()
        self.upserts = _positions(state.row for state in states if state.row is not None and state.is_new)
        self.buried = _positions(state.row for state in states if state.row is not None and state.deleted)
        ids = before["id"].to_pylist()
        self.present = [name for name in ids if self._states[name].row is not None or name in self.deleted]
        self.rejected = _positions(rejected)
        ledger.rows_out += len(self.upserts)

    def _record(self, row: int, record_id: str, version: int, retracted: bool, digest: bytes) -> None:
        state = self._states.get(record_id)
        if state is None:
            state = self._states[record_id] = _State(version, False, True, None)
            event = "added"
        elif state.deleted:
            event = "restored"
        elif version < state.version:
            self._ledger.drop(OLDER)
            return
        elif digest == state.digest:
            self._ledger.drop(UNCHANGED)
            return
        else:
            event = "changed"
        self._note(record_id, event, version, digest)
        if retracted != state.retracted:
            self._note(record_id, "retracted" if retracted else "reinstated", version, digest)
        if state.is_new:
            self._ledger.drop(REPLACED_LATER)
        self.deleted.pop(record_id, None)
        state.version, state.retracted, state.deleted, state.digest, state.row = version, retracted, False, digest, row

    def _delete(self, record_id: str, state: _State, event: str, reason: str) -> None:
        self._note(record_id, event, state.version, None)
        if state.is_new:
            self._ledger.drop(DELETED_LATER)
        state.deleted = True
        self.deleted[record_id] = reason

    def _note(self, record_id: str, event: str, version: int, digest: bytes | None) -> None:
        self.events.append((record_id, event, version, digest))
        self._counts[event] += 1


def _positions(rows: Iterable[int]) -> pa.Array:
    return pa.array(sorted(rows), pa.int64())
