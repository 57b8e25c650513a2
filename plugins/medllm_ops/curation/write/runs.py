"""Rows from the order of the segments into the order of their hashes, on disk, by reading and writing in sequence.

First, each part of the rows is written as a run, sorted by side and hash; then, for each range of hashes, what all
runs of a source have of it is sorted in memory and written to its place in the source's file. Both are jobs for
worker processes; the result is the same for any parts, ranges and workers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from medllm_ops.curation.state.state import asking
from medllm_ops.curation.workers import Job
from medllm_ops.curation.write.fit import Fitted, Room, Row, fit
from medllm_ops.curation.write.listing import id_hashes
from medllm_ops.curation.write.tokens import Tokenizer, load_tokenizer
from medllm_ops.files import to_json_line

SIDES: Final = ("train", "val")

_GAP: Final = 16 << 10
"""Rows that stand no farther apart than so many bytes are read in one go, with what lies between."""
_SPAN: Final = 4 << 20
_END: Final = np.frombuffer(b"}\n", np.uint8)
_MESSAGES: Final = b'","messages":'
_FIT_ROWS: Final = 512
_JOINED: Final = 512

Line: TypeAlias = bytes | memoryview
IsRecord: TypeAlias = Callable[[str], bool]
"""Whether an id is that of a record."""


@dataclass(slots=True)
class _Run:
    """The lines of a part, as they come."""

    lines: list[Line] = field(default_factory=list)
    hashes: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    val: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    dropped: list[tuple[int, str, str]] = field(default_factory=list)
    shortened: int = 0

    def add(self, lines: Sequence[Line], hashes: npt.NDArray[np.uint64], val: npt.NDArray[np.bool_]) -> None:
        self.lines += lines
        self.hashes.append(hashes)
        self.val.append(val)

    def write(self, out: Path) -> list[int]:
        """Write the run and where its lines begin; return the number of lines of each side."""
        hashes = np.concatenate(self.hashes) if self.hashes else np.empty(0, np.uint64)
        val = np.concatenate(self.val) if self.val else np.empty(0, bool)
        sizes = np.fromiter(map(len, self.lines), np.int64, len(self.lines))
        order = np.lexsort((hashes, val))
        begins = np.concatenate([[0], np.cumsum(sizes[order])])
        train = int(len(val) - val.sum())
        for side, part in zip(SIDES, (slice(0, train), slice(train, len(val))), strict=True):
            np.save(_meta(out, side, "hashes"), hashes[order][part])
            np.save(_meta(out, side, "begins"), begins[part.start : part.stop + 1])
        with out.open("wb") as file:
            _write(file, self.lines, order)
        return [train, len(val) - train]


def _write(file: BinaryIO, lines: Sequence[Line], order: npt.NDArray[np.int64]) -> None:
    """Write lines in an order; joined a few at a time, which takes a third of the time of all at once."""
    numbers = order.tolist()
    for first in range(0, len(numbers), _JOINED):
        file.write(b"".join([lines[number] for number in numbers[first : first + _JOINED]]))


def _meta(run: Path, side: str, what: str) -> Path:
    return run.with_name(f"{run.name}.{side}.{what}.npy")


def write_run(job: Job) -> dict[str, Any]:
    """Write the lines of some rows of a source, as they are exported, to the run ``out``.

    ``rows``: a file of arrays, a number of each row in each: ``segment``, ``begin``, ``cut``, ``hash``, ``val``, and
    ``times``: how often the row is written. ``state``: the folder that knows all records. ``room`` and ``tokenizer``:
    how rows are made fit, if they are.

    :return: ``lines`` of each side, the rows that were ``dropped`` (their place among the rows, reason, detail), how
        many dialogues were ``shortened``.
    """
    with np.load(job["rows"]) as arrays:
        rows = {name: arrays[name] for name in arrays.files}
    room = Room(**job["room"]) if job["room"] else None
    tokenizer = load_tokenizer(Path(job["tokenizer"])) if room else None
    run = _Run()
    with asking(Path(job["state"])) as is_record:
        for first, end in _spans(rows):
            segment = Path(job["segments"][int(rows["segment"][first])])
            part = slice(first, end)
            lines = _read(segment / "rows" / f"{job['source']}.jsonl", rows["begin"][part], rows["cut"][part])
            if room and tokenizer:
                _add_fitted(run, lines, first, rows, room, tokenizer, job["seed"], is_record)
            else:
                run.add(lines, rows["hash"][part], rows["val"][part])
                for place in np.flatnonzero(rows["times"][part] > 1).tolist():
                    _repeat(run, bytes(lines[place]), int(rows["times"][first + place]), job["seed"], is_record)
    counts = run.write(Path(job["out"]))
    return {"lines": counts, "dropped": run.dropped, "shortened": run.shortened}


def _spans(rows: dict[str, npt.NDArray[Any]]) -> Iterator[tuple[int, int]]:
    """Rows that are read in one go."""
    begin, end = rows["begin"].astype(np.int64), rows["begin"].astype(np.int64) + rows["cut"]
    far = (begin[1:] - end[:-1] > _GAP) | (np.diff(rows["segment"].astype(np.int64)) != 0)
    borders = [0, *(np.flatnonzero(far) + 1).tolist(), len(begin)]
    for first, last in itertools.pairwise(borders):
        while first < last:
            stop = first + max(1, int(np.searchsorted(end[first:last], begin[first] + _SPAN, side="right")))
            yield first, stop
            first = stop


def _read(path: Path, begins: npt.NDArray[np.uint64], cuts: npt.NDArray[np.uint32]) -> list[Line]:
    """The exported lines of rows of a file: the first ``cut`` bytes of each, closed."""
    start = int(begins[0])
    places = begins.astype(np.int64) - start
    ends = places + cuts
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        # What is cut off has the source and more, so the two bytes that close the line stand where it stood.
        block = _read_whole(file, int(ends[-1]) + len(_END))
    view = memoryview(block)
    bytes_ = np.frombuffer(block, np.uint8)
    for offset, value in enumerate(_END):
        bytes_[ends + offset] = value
    return [view[place:end] for place, end in zip(places.tolist(), (ends + len(_END)).tolist(), strict=True)]


def _read_whole(file: FileIO, size: int) -> bytearray:
    """So many bytes; ``read`` may return fewer."""
    block = bytearray(size)
    view = memoryview(block)
    while view and (count := file.readinto(view)):
        view = view[count:]
    return block


def _repeat(run: _Run, line: bytes, times: int, seed: int, is_record: IsRecord) -> None:
    """A row for training that is drawn several times comes again, each time under an id of its own."""
    # A quotation mark within an id has a backslash before it, so the first of these is the id's end.
    end = line.index(_MESSAGES)
    id_ = orjson.loads(line[len(b'{"id":') : end + 1])
    marks = [name[len(id_) :].encode() for name in _numbered(f"{id_}@", 2, times - 1, is_record)]
    hashes = id_hashes([id_.encode() + mark for mark in marks], seed)
    run.add([line[:end] + mark + line[end:] for mark in marks], hashes, np.zeros(len(marks), bool))


def _numbered(before: str, first: int, count: int, is_record: IsRecord) -> list[str]:
    """So many ids that end in numbers, from the first one on; what is the id of a record is passed over."""
    names = (name for number in itertools.count(first) if not is_record(name := f"{before}{number}"))
    return list(itertools.islice(names, count))


def _add_fitted(
    run: _Run,
    views: list[Line],
    first: int,
    rows: dict[str, Any],
    room: Room,
    tokenizer: Tokenizer,
    seed: int,
    is_record: IsRecord,
) -> None:
    """Rows made fit. Most are short: they are looked at as bytes and written as they are."""
    times, lines = rows["times"], list(map(bytes, views))
    short = np.fromiter((_is_short(line, room, tokenizer) for line in lines), bool, len(lines))
    whole = np.flatnonzero(short)
    run.add([lines[place] for place in whole.tolist()], rows["hash"][first + whole], rows["val"][first + whole])
    for place in whole[times[first + whole] > 1].tolist():
        _repeat(run, lines[place], int(times[first + place]), seed, is_record)
    long = np.flatnonzero(~short).tolist()
    for begin in range(0, len(long), _FIT_ROWS):
        batch = long[begin : begin + _FIT_ROWS]
        fitted = fit([orjson.loads(lines[place]) for place in batch], room, tokenizer)
        for place, one in zip(batch, fitted, strict=True):
            number = first + place
            if one.reason:
                run.dropped.append((number, one.reason, one.detail))
                continue
            run.shortened += one.shortened
            written = list(_named(one, int(times[number]), is_record))
            hashes = id_hashes([row["id"].encode() for row in written], seed)
            run.add([to_json_line(row) for row in written], hashes, np.full(len(written), rows["val"][number]))


def _is_short(line: bytes, room: Room, tokenizer: Tokenizer) -> bool:
    """Whether a line is so short that its texts, which are shorter, fit in any case."""
    return tokenizer.at_most(line.decode()) <= room.for_text(line.count(b'"role":'))


def _named(fitted: Fitted, times: int, is_record: IsRecord) -> Iterator[Row]:
    """The rows as they are written the first, second, … time: ``<id>#<k>``, ``<id>@2#<k>``."""
    cut = len(fitted.rows) > 1
    id_ = fitted.rows[0]["id"].rpartition("#")[0] if cut else fitted.rows[0]["id"]
    for again in (id_, *_numbered(f"{id_}@", 2, times - 1, is_record)):
        names = _numbered(f"{again}#", 1, len(fitted.rows), is_record) if cut else [again]
        yield from ({**row, "id": name} for row, name in zip(fitted.rows, names, strict=True))


@dataclass(frozen=True, slots=True)
class RunSide:
    """The lines of one run on one side, in the order of their hashes."""

    run: Path
    hashes: npt.NDArray[np.uint64]
    begins: npt.NDArray[np.int64]

    @classmethod
    def open(cls, run: Path, side: str) -> RunSide:
        """Look at a run on disk; only what is touched is read."""
        hashes, begins = (np.load(_meta(run, side, what), mmap_mode="r") for what in ("hashes", "begins"))
        return cls(run, hashes, begins)

    def within(self, low: int, high: int) -> tuple[int, int]:
        """From which line to which one the hashes are at least ``low`` and below ``high``."""
        first, end = (
            len(self.hashes) if bound >= 1 << 64 else int(np.searchsorted(self.hashes, np.uint64(bound), side="left"))
            for bound in (low, high)
        )
        return first, end

    def size(self, low: int, high: int) -> int:
        """The bytes of the lines there."""
        first, end = self.within(low, high)
        return int(self.begins[end] - self.begins[first])


def write_range(job: Job) -> None:
    """Write the lines of a range of hashes, of all ``runs`` of a source and a ``side``, to their place in a file.

    ``low`` and ``high`` bound the hashes; ``offset`` is where in the file ``out`` the first one comes.
    """
    hashes: list[npt.NDArray[np.uint64]] = []
    lines: list[Line] = []
    for path in job["runs"]:
        side = RunSide.open(Path(path), job["side"])
        first, end = side.within(int(job["low"]), int(job["high"]))
        if first == end:
            continue
        begins = np.asarray(side.begins[first : end + 1])
        with side.run.open("rb", buffering=0) as file:
            file.seek(int(begins[0]))
            block = memoryview(_read_whole(file, int(begins[-1] - begins[0])))
        places = (begins - begins[0]).tolist()
        lines += [block[place:stop] for place, stop in itertools.pairwise(places)]
        hashes.append(np.asarray(side.hashes[first:end]))
    joined = np.concatenate(hashes) if hashes else np.empty(0, np.uint64)
    order = np.argsort(joined, kind="stable")
    if (np.diff(joined[order]) == 0).any():
        # Two ids with one hash: by their lines, wherever they were read.
        keys = joined.tolist()
        order = np.array(sorted(range(len(lines)), key=lambda number: (keys[number], bytes(lines[number]))))
    with Path(job["out"]).open("r+b") as file:
        file.seek(job["offset"])
        _write(file, lines, order)
