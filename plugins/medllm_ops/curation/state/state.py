"""The memory of curation: every row ever seen, what became of it, its cluster and its side.

A folder: ``state.sqlite``, ``segments/<number>`` with the rows of each step as cleaned, and ``signatures/`` of the
duplicates. Rows come in segments; a segment is taken in as a whole or not at all, and one that was prepared and not
taken in (its process was killed) is taken in by whoever opens the state next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from medllm_ops.curation.settings import CurationSettings
from medllm_ops.curation.state.listing import Count, KeptRows, Removed, StateRow
from medllm_ops.curation.workers import Runner


class CurationState:
    """The state in a folder, open for one process at a time; close it, or use it with ``with``."""

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
        raise NotImplementedError

    def close(self) -> None:
        """Let others have it."""

    @property
    def next_segment(self) -> Path:
        """The folder that the next segment is to be prepared as (``whole_directory``): ``segments/<six digits>``.

        What a segment holds:

        * ``rows/<source>.jsonl`` the rows that go on;
        * ``index.parquet``: a line for every input line, see :data:`~medllm_ops.curation.state.segment.INDEX`. Lines of
          one source that go on stand in the order of ``begin``. ``detail`` and ``reason`` are null or text;
        * ``gone.txt``, if there is one: ids that are no more;
        * ``settings.json``: ``{"fingerprint": TEXT, "full": true | false}``: the fingerprint of the settings and code
          of the row-wise steps, and whether the segment has every row that is to be known from now on: rows that are
          not in it are gone then.
        """
        raise NotImplementedError

    def only_all(self, fingerprint: str) -> str:
        """Why a next segment must be full; empty if it need not be.

        One sentence for the user: rows before were cleaned by other settings or code (``fingerprint`` is that of now),
        or duplicates were found by other settings. ``absorb`` refuses a segment that is not full then.
        """
        raise NotImplementedError

    def absorb(self) -> None:
        """Take in :attr:`next_segment`, which is prepared: duplicates, sides, then all in one transaction.

        :raises MedllmError: if the segment must be full and is not, or is not as it should be.
        """
        raise NotImplementedError

    def segments(self) -> Sequence[Path]:
        """The folders of all segments that were taken in, in order."""
        raise NotImplementedError

    def kept(self) -> Iterator[KeptRows]:
        """All rows that are kept, by segment, and in it by the line of its index. Nothing is loaded as a whole."""
        raise NotImplementedError

    def counts(self) -> Sequence[Count]:
        """How many input lines are kept, or were removed, by (step, reason, source), sorted by them.

        Over all segments: every line that was ever read counts once under its id, as it is now; ids that are no more
        do not count.
        """
        raise NotImplementedError

    def removed(self, step: str) -> Iterator[Removed]:
        """What a step removed, sorted by (id, reason, detail); not the rows that are no more."""
        raise NotImplementedError

    def sample_clusters(self, count: int) -> Sequence[Sequence[StateRow]]:
        """The members of some clusters of at least two rows, which are the same ones for the same rows."""
        raise NotImplementedError

    def __enter__(self) -> CurationState:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def find(folder: Path, ids: Iterable[str]) -> dict[str, StateRow]:
    """What the state in a folder knows of some ids; for reading only, also while another process has it open."""
    raise NotImplementedError


def known_digests(folder: Path, ids: Iterable[str]) -> Mapping[str, frozenset[bytes]]:
    """The digests of the input lines that stand under some ids, gone ones left out; made for worker processes.

    An input line is unchanged, and need not come again, if its digest is among those of its id (and the fingerprint of
    the row-wise settings is as before: see :meth:`CurationState.only_all`). Empty for a folder without a state.
    """
    raise NotImplementedError
