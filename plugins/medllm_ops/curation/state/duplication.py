"""The duplicates of a segment among each other and among all rows seen before, found once, also after a crash."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medllm_ops.curation.duplicates.duplicates import deduplicate
from medllm_ops.curation.duplicates.known import Change, Known
from medllm_ops.curation.duplicates.result import Duplicates
from medllm_ops.curation.duplicates.settings import DuplicateSettings
from medllm_ops.curation.duplicates.signature_folder import SignatureFolder
from medllm_ops.curation.segment import Segment
from medllm_ops.curation.state.segment import Standing
from medllm_ops.curation.state.tables import mark, to_disk
from medllm_ops.curation.workers import Runner
from medllm_ops.errors import MedllmError
from medllm_ops.files import file_hash, remove


@dataclass(frozen=True, slots=True)
class Found:
    """The duplicates of a segment, and what the state remembers of how they were found."""

    result: Duplicates
    signatures: str
    """The name of the folder of signatures; empty without one."""
    step: str
    """What the signatures call this step."""


class Duplication:
    """Finds the duplicates of segments into ``work/``, with the signatures below ``signatures/``.

    Signatures are written when the result is on the disk, and before the state's own tables. Told twice of one step,
    they would not say again what that step had changed; so a result whose step they have is taken as it is.
    """

    def __init__(
        self, folder: Path, settings: DuplicateSettings, persistent: bool, worker_count: int, runner: Runner
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._persistent = persistent
        self._worker_count = worker_count
        self._runner = runner

    def find(
        self,
        database: sqlite3.Connection,
        segment: Segment,
        lines: Standing,
        gone: Sequence[str],
        made: str,
        full: bool,
    ) -> Found:
        """Find the duplicates of a segment.

        :param gone: ids that are no more, besides those that lines of the segment drop.
        :param made: the fingerprint of the settings; where it changed, all rows are compared anew, and must be given.
        :raises MedllmError: if the signatures are not those of the state.
        """
        out = self._folder / "work" / segment.folder.name
        if not self._persistent:
            self._deduplicate(segment, out, lines, [], None)
            return Found(Duplicates(out), "", "")
        name, before = mark(database, "signatures"), mark(database, "step")
        if not name or (full and mark(database, "duplicates") != made):
            name, before = segment.folder.name, ""
        step = f"{segment.folder.name} {file_hash(segment.index)}"
        signatures = _OnDisk(self._folder / "signatures" / name, self._settings, step, out)
        last = signatures.last_step
        if last not in (step, before) or (last == step and not out.is_dir()):
            if before:
                raise MedllmError(
                    f"the signatures of the state {self._folder} are of another segment than its rows: "
                    "restore them, or remove the state and give all rows again"
                )
            shutil.rmtree(self._folder / "signatures" / name)
            signatures = _OnDisk(self._folder / "signatures" / name, self._settings, step, out)
            last = ""
        if last != step:
            self._deduplicate(segment, out, lines, [*gone, *lines.dropped.to_pylist()], signatures)
        return Found(Duplicates(out), name, step)

    def _deduplicate(
        self, segment: Segment, out: Path, lines: Standing, gone: Sequence[str], known: Known | None
    ) -> None:
        deduplicate(
            segment.rows,
            out,
            self._settings,
            known=known,
            gone=gone,
            without=lines.withdrawn,
            worker_count=self._worker_count,
            runner=self._runner,
        )

    def clear(self, database: sqlite3.Connection, waiting: str) -> None:
        """Remove the results and signatures that neither the state nor the segment that waits needs."""
        for folder, needed in (("work", {waiting}), ("signatures", {waiting, mark(database, "signatures")})):
            for path in (self._folder / folder).glob("*"):
                if path.name not in needed:
                    remove(path)


class _OnDisk(SignatureFolder):
    """Signatures that are written when the result of their step cannot be lost any more."""

    def __init__(self, folder: Path, settings: DuplicateSettings, step: str, result: Path) -> None:
        super().__init__(folder, settings, step)
        self._result = result

    def apply(self, change: Change) -> None:
        """Write the change."""
        to_disk([self._result])
        super().apply(change)
