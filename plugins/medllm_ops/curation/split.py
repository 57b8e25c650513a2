"""Which side of the split a record is on: decided at first sight, and kept.

ms-swift's own splitter put 99 % of a validation file into training (modelscope/ms-swift#902); it is never used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from medllm_ops.files import read_json_lines, remove_parts, text_hash, write_json_lines
from medllm_ops.records import LedgerEntry

TOO_SMALL = "set of one record"

Side = Literal["train", "val"]


def side_of(content: str, val_share: float) -> Side:
    """The side of a content hash: validation if a hash of it falls below ``val_share`` of the range of hashes."""
    return "val" if int(text_hash(f"split:{content}"), 16) < val_share * 2**128 else "train"


@dataclass(slots=True)
class Assignments:
    """The sides that were written down, by record id and by content.

    A record keeps its side when its text is corrected, and a new record with a known text takes the side of that
    text, so that equal texts never stand on both sides.
    """

    by_id: dict[str, Side] = field(default_factory=dict)
    by_content: dict[str, Side] = field(default_factory=dict)

    def assign(self, records: Mapping[str, str], val_share: float) -> dict[str, Side]:
        """Return the side of each record of one set, deciding and remembering those never seen before.

        A set of at least two contents gets at least one on each side: where the hashes alone leave a side empty,
        the new content with the lowest hash (for training: the highest) goes there.

        :param records: record id to content hash.
        :param val_share: the share of records for validation, between 0 and 1.
        """
        known = {record_id: self.by_id[record_id] for record_id in records if record_id in self.by_id}
        seen = {records[record_id]: side for record_id, side in known.items()}
        for record_id, content in records.items():
            if record_id not in known and (side := seen.get(content) or self.by_content.get(content)):
                known[record_id] = side
        new = {content: side_of(content, val_share) for id_, content in records.items() if id_ not in known}
        taken = {*known.values(), *new.values()}
        if new and len(set(records.values())) > 1 and len(taken) == 1:
            ranked = sorted(new, key=lambda content: text_hash(f"split:{content}"))
            if taken == {"train"}:
                new[ranked[0]] = "val"
            else:
                new[ranked[-1]] = "train"
        sides = {record_id: known.get(record_id) or new[content] for record_id, content in records.items()}
        for record_id, content in records.items():
            self.by_id[record_id] = sides[record_id]
            self.by_content[content] = sides[record_id]
        return sides


class AssignmentTable:
    """The assignments of all runs, in one file that only grows.

    Open it with ``with``: it is locked while it is open, and written whole when the block ends well.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path.with_name(f"{path.name}.lock"))

    def __enter__(self) -> Assignments:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        remove_parts(self._path)
        self._assignments = Assignments()
        if self._path.is_file():
            for kind, key, side in read_json_lines(self._path):
                (self._assignments.by_id if kind == "id" else self._assignments.by_content)[key] = side
        return self._assignments

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                write_json_lines(self._path, self._lines())
        finally:
            self._lock.release()

    def _lines(self) -> Iterable[tuple[str, str, Side]]:
        for record_id, side in self._assignments.by_id.items():
            yield "id", record_id, side
        for content, side in self._assignments.by_content.items():
            yield "content", content, side


def split_set(
    name: str, rows: list[dict[str, Any]], val_share: float, assignments: Assignments, out: Path
) -> tuple[LedgerEntry, list[dict[str, str]]]:
    """Write ``out/train/<name>.jsonl`` and ``out/val/<name>.jsonl``; return the ledger and what was removed.

    Every set has a validation file. A set of one record can have none, so it is left out, and counted.

    :param rows: records with ``id``, ``messages`` and their ``content`` hash.
    """
    entry = LedgerEntry(f"split {name}", rows_in=len(rows))
    removed = []
    if len(rows) == 1:
        entry.drop(TOO_SMALL)
        removed.append({"id": rows[0]["id"], "step": entry.step, "reason": TOO_SMALL})
        rows = []
    sides = assignments.assign({row["id"]: row["content"] for row in rows}, val_share)
    for side in ("train", "val"):
        chosen = [
            {"id": row["id"], "messages": row["messages"], "content": row["content"]}
            for row in rows
            if sides[row["id"]] == side
        ]
        entry.rows_out += write_json_lines(out / side / f"{name}.jsonl", chosen)
    return entry.check(), removed
