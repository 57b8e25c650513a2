"""The memory of curation: every row ever seen, what became of it, its cluster and its side.

A folder: ``state.sqlite``, ``segments/<number>`` with the rows of each step as cleaned, and ``signatures/`` of the
duplicates. Rows come in segments; a segment is taken in as a whole or not at all, and one that was prepared and not
taken in (its process was killed) is taken in by whoever opens the state next.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

from filelock import FileLock, Timeout

from medllm_ops.curation.duplicates.signatures import fingerprint
from medllm_ops.curation.segment import READ, RETRACTED, Segment
from medllm_ops.curation.settings import CurationSettings
from medllm_ops.curation.state.absorb import Arrival, missing, take_in
from medllm_ops.curation.state.compaction import compact
from medllm_ops.curation.state.duplication import Duplication
from medllm_ops.curation.state.listing import (
    Count,
    KeptRows,
    Removed,
    StateRow,
    by_id,
    clusters,
    counted,
    kept_rows,
    removed_rows,
    with_lines,
)
from medllm_ops.curation.state.segment import Index, give_back, standing
from medllm_ops.curation.state.tables import GONE, broken, connect, mark, reading, set_mark, to_disk, transaction
from medllm_ops.curation.workers import Runner
from medllm_ops.errors import MedllmError
from medllm_ops.files import remove

_PATIENCE: Final = 60.0
_IDS_A_QUERY: Final = 10_000


class CurationState:
    """The state in a folder, open for one process at a time; close it, or use it with ``with``."""

    def __init__(
        self,
        folder: Path,
        settings: CurationSettings,
        *,
        persistent: bool,
        worker_count: int,
        runner: Runner,
    ) -> None:
        """See :meth:`open`."""
        self.folder = folder
        self._settings = settings
        self._persistent = persistent
        self._duplication = Duplication(folder, settings.duplicates, persistent, worker_count, runner)
        folder.mkdir(parents=True, exist_ok=True)
        self._segments_folder = folder / "segments"
        self._segments_folder.mkdir(exist_ok=True)
        self._lock = FileLock(folder / "lock", timeout=_PATIENCE)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise MedllmError(f"another process has the state {folder} open: wait for it, or end it") from error
        try:
            self._database: sqlite3.Connection = connect(folder)
        except BaseException:
            self._lock.release()
            raise
        self._fingerprint = ""

    @classmethod
    def open(
        cls,
        folder: Path,
        settings: CurationSettings,
        *,
        persistent: bool = True,
        worker_count: int = 1,
        runner: Runner = "local",
    ) -> CurationState:
        """Open the state, made at need; take in a segment that was prepared and not taken in.

        :param persistent: whether more segments may come later. If not, nothing is kept that only they would need,
            and one segment can be taken in.
        :param settings: of them, the state looks at ``duplicates``, ``split`` and the ``val_share`` of ``sets``.
        :raises MedllmError: if another process has it open (after a minute), if it is broken, or if a waiting segment
            cannot be taken in.
        """
        state = cls(folder, settings, persistent=persistent, worker_count=worker_count, runner=runner)
        try:
            state._clear()
            compact(state._database, state._segments_folder)
            while state.next_segment.is_dir():
                state.absorb()
        except BaseException:
            state.close()
            raise
        return state

    def close(self) -> None:
        """Let others have it."""
        self._database.close()
        self._lock.release()

    @property
    def next_segment(self) -> Path:
        """The folder that the next segment is to be prepared as (``whole_directory``): ``segments/<six digits>``.

        What a segment holds:

        * ``rows/<source>.jsonl`` the rows that go on;
        * ``index.parquet``: a line for every input line, see :data:`~medllm_ops.curation.state.segment.INDEX`. Lines of
          one source that go on stand in the order of ``begin``;
        * ``gone.txt``: ids that are no more;
        * ``settings.json``: ``{"fingerprint": TEXT, "full": true | false}``: the fingerprint of the settings and code
          of the row-wise steps, and whether the segment has every row that is to be known from now on: rows that are
          not in it are gone then.
        """
        return self._segments_folder / f"{max(self._numbers(), default=0) + 1:06}"

    def only_all(self, fingerprint: str) -> str:
        """Why a next segment must be full; empty if it need not be.

        One sentence for the user: rows before were cleaned by other settings or code (``fingerprint`` is that of now),
        or duplicates were found by other settings. ``absorb`` refuses a segment that is not full then.
        """
        if not self._numbers():
            return ""
        remedy = "restore them, or give all rows again, as a whole"
        if mark(self._database, "rows") != fingerprint:
            return f"the rows of the state {self.folder} were cleaned by other settings or another version: {remedy}"
        if mark(self._database, "duplicates") != self._of_duplicates():
            return f"the duplicates of the state {self.folder} were found by other settings: {remedy}"
        return ""

    def absorb(self) -> None:
        """Take in :attr:`next_segment`, which is prepared: duplicates, sides, then all in one transaction.

        :raises MedllmError: if the segment must be full and is not, or is not as it should be.
        """
        folder = self.next_segment
        number = int(folder.name)
        segment = Segment(folder)
        if number > 1 and not self._persistent:
            raise MedllmError(f"the state {self.folder} is for once, and takes one segment")
        full, made = bool(segment.settings["full"]), str(segment.settings["fingerprint"])
        with broken(self.folder):
            if not full and (reason := self.only_all(made)):
                raise MedllmError(f"segment {folder.name} has only some of the rows, and {reason}")
            index = Index(segment.index)
            lines = standing(index, (READ, RETRACTED))
            give_back()
            gone = missing(self._database, index) if full else sorted(set(segment.gone))
            found = self._duplication.find(self._database, segment, lines, gone, self._of_duplicates(), full)
            if self._persistent:
                to_disk([folder])
            arrival = Arrival(number, segment, index, lines, gone, full, found.result)
            with transaction(self._database):
                take_in(self._database, arrival, self._settings.val_share)
                set_mark(self._database, "rows", made)
                set_mark(self._database, "duplicates", self._of_duplicates())
                set_mark(self._database, "signatures", found.signatures)
                set_mark(self._database, "step", found.step)
            compact(self._database, self._segments_folder)
        self._clear()

    def segments(self) -> Sequence[Path]:
        """The folders of all segments that were taken in, in order."""
        return list(self._numbers().values())

    def kept(self) -> Iterator[KeptRows]:
        """All rows that are kept, by segment, and in it by the line of its index. Nothing is loaded as a whole."""
        return kept_rows(self._database, self._numbers().items())

    def counts(self) -> Sequence[Count]:
        """How many input lines are kept, or were removed, by (step, reason, source), sorted by them.

        Over all segments: every line that was ever read counts once under its id, as it is now; ids that are no more
        do not count.
        """
        return counted(self._database)

    def removed(self, step: str) -> Iterator[Removed]:
        """What a step removed, sorted by (id, reason, detail); not the rows that are no more."""
        return removed_rows(self._database, step)

    def sample_clusters(self, count: int) -> Sequence[Sequence[StateRow]]:
        """The members of some clusters of at least two rows, which are the same ones for the same rows."""
        found = clusters(self._database, count)
        rows = with_lines([row for one in found for row in one], self._numbers())
        return [[rows[row[1]] for row in one] for one in found]

    def __enter__(self) -> CurationState:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _numbers(self) -> dict[int, Path]:
        return _segments(self._database, self.folder)

    def _of_duplicates(self) -> str:
        if not self._fingerprint and self._persistent:
            self._fingerprint = fingerprint(self._settings.duplicates)
        return self._fingerprint

    def _clear(self) -> None:
        """Remove what killed processes left, and what no segment needs any more."""
        taken = self._numbers()
        folders = {path.name for path in taken.values()}
        for path in self._segments_folder.iterdir():
            replaced = path.name.isdecimal() and int(path.name) in taken
            if path.name not in folders and (replaced or "." in path.name):
                remove(path)
        self._duplication.clear(self._database, self.next_segment.name)


def find(folder: Path, ids: Iterable[str]) -> dict[str, StateRow]:
    """What the state in a folder knows of some ids; for reading only, also while another process has it open."""
    with reading(folder) as database:
        if database is None:
            return {}
        return with_lines(by_id(database, ids), _segments(database, folder))


def known_digests(folder: Path, ids: Iterable[str]) -> Mapping[str, frozenset[bytes]]:
    """The digests of the input lines that stand under some ids, gone ones left out; made for worker processes.

    An input line is unchanged, and need not come again, if its digest is among those of its id (and the fingerprint of
    the row-wise settings is as before: see :meth:`CurationState.only_all`). Empty for a folder without a state.
    """
    found: defaultdict[str, set[bytes]] = defaultdict(set)
    wanted = list(ids)
    with reading(folder) as database:
        if database is None:
            return {}
        for first in range(0, len(wanted), _IDS_A_QUERY):
            some = wanted[first : first + _IDS_A_QUERY]
            among = ", ".join("?" * len(some))
            for id_, digest in database.execute(
                f"""SELECT id, digest FROM rows WHERE id IN ({among}) AND step IS NOT ? UNION ALL
                SELECT id, digest FROM extra WHERE id IN ({among})""",
                [*some, GONE, *some],
            ):
                found[id_].add(digest)
    return {id_: frozenset(digests) for id_, digests in found.items()}


@contextmanager
def asking(folder: Path) -> Iterator[Callable[[str], bool]]:
    """Tells of single ids whether they are those of records, gone ones left out; made for worker processes."""
    with reading(folder) as database:

        def is_record(id_: str) -> bool:
            known = database and database.execute("SELECT 1 FROM rows WHERE id = ? AND step IS NOT ?", (id_, GONE))
            return bool(known and known.fetchone())

        yield is_record


def _segments(database: sqlite3.Connection, folder: Path) -> dict[int, Path]:
    """The segments that were taken in, by number."""
    rows = database.execute("SELECT number, folder FROM segments ORDER BY number")
    return {number: folder / "segments" / name for number, name in rows}
