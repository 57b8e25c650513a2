"""All of curation: from files of records to a dataset, whole or not at all."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import xxhash

from medllm_ops.curation.prepare import by_name, prepare, row_wise_fingerprint
from medllm_ops.curation.settings import CurationSettings
from medllm_ops.curation.state.state import CurationState
from medllm_ops.curation.workers import Runner
from medllm_ops.curation.write.tokens import tokenizer_hash
from medllm_ops.curation.write.write import write_dataset
from medllm_ops.errors import MedllmError, UnreadableFileError
from medllm_ops.files import file_hash, make_once, work_beside

log = logging.getLogger(__name__)


def curate(
    files: Sequence[Path],
    out: Path,
    settings: CurationSettings,
    *,
    evalsets: Sequence[Path] = (),
    worker_count: int = 1,
    runner: Runner = "local",
    state: Path | None = None,
    gone: Iterable[str] = (),
    full: bool = False,
    context: Any = None,
) -> bool:
    """Make the dataset ``out`` of the records of files, and of what ``state`` knows already.

    The same records, settings and history give the same bytes, whatever the order of records, the number of workers
    and the runner. Killed at any time and called again, it goes on.

    :param evalsets: the files that the model will be evaluated on.
    :param state: the folder of a memory of all rows ever seen: then ``files`` need only have what is new or changed,
        and every row keeps its side. Left out: everything is new, and nothing is remembered.
    :param gone: ids of rows that are no more; ``full``: as are all rows that are not in the files.
    :param context: what the manifest says about where the records are from, as JSON.
    :return: whether it was made now; if it was made of the same before, nothing is done.
    :raises MedllmError: naming what is wrong: a file, a setting, a licence, a step that drops too much.
    """
    check_files(files)
    check_files(evalsets)
    decisive = [
        settings.model_dump(mode="json"),
        [[path.name, file_hash(path)] for path in sorted(evalsets, key=lambda path: path.name)],
        tokenizer_hash(Path(settings.chunk.tokenizer)) if settings.chunk.tokenizer else None,
        context,
    ]

    def write(known: CurationState, folder: Path) -> None:
        log.info("writing the dataset")
        write_dataset(
            known, folder, settings, evalsets=evalsets, context=context, worker_count=worker_count, runner=runner
        )

    if state is not None:
        with CurationState.open(state, settings, worker_count=worker_count, runner=runner) as known:
            _take_in(known, files, settings, gone, full, worker_count, runner)
            segments = [[file_hash(path / name) for name in _SEGMENT] for path in known.segments()]
            return make_once(out, [segments, *decisive], lambda folder: write(known, folder))

    def make(folder: Path) -> None:
        with (
            work_beside(out) as work,
            CurationState.open(
                work / "state", settings, persistent=False, worker_count=worker_count, runner=runner
            ) as known,
        ):
            _take_in(known, files, settings, gone, True, worker_count, runner)
            write(known, folder)

    return make_once(out, [[[name, lines_hash(path)] for name, path in by_name(files).items()], *decisive], make)


_SEGMENT = ("settings.json", "gone.txt")
"""What tells one segment from another."""


def _take_in(
    known: CurationState,
    files: Sequence[Path],
    settings: CurationSettings,
    gone: Iterable[str],
    full: bool,
    worker_count: int,
    runner: Runner,
) -> None:
    """Take the records of files into the state."""
    if not full and (why := known.only_all(row_wise_fingerprint(settings))):
        raise MedllmError(why)
    log.info("reading, cleaning and scrubbing %d files", len(files))
    segment = prepare(
        files,
        known.next_segment,
        settings,
        gone=gone,
        full=full,
        known=None if full else known.folder,
        worker_count=worker_count,
        runner=runner,
    )
    if not full and segment.is_empty:
        shutil.rmtree(segment.folder)
        return
    log.info("looking for duplicates")
    known.absorb()


def check_files(files: Iterable[Path]) -> None:
    """Tell of a file that is missing before anything is begun.

    :raises UnreadableFileError: naming it.
    """
    for path in files:
        if not path.is_file():
            raise UnreadableFileError(path, "it is a folder" if path.is_dir() else "there is no such file")


def lines_hash(path: Path) -> str:
    """A hash of a file's lines in any order."""
    total = 0
    with path.open("rb") as lines:
        for line in lines:
            total += xxhash.xxh3_128_intdigest(line.strip())
    return f"{total % 2**128:032x}"
