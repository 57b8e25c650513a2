"""The step: exact and near duplicates among rows of several files, and of rows seen before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from medllm_ops.curation.duplicates.batch import read_batch
from medllm_ops.curation.duplicates.known import Known, Nothing
from medllm_ops.curation.duplicates.result import Duplicates, write_result
from medllm_ops.curation.duplicates.settings import DuplicateSettings
from medllm_ops.curation.duplicates.signatures import sketch
from medllm_ops.curation.duplicates.state import next_state
from medllm_ops.curation.parts import parts
from medllm_ops.curation.workers import Runner, workers
from medllm_ops.files import whole_directory, work_beside


def deduplicate(
    files: Mapping[str, Path],
    out: Path,
    settings: DuplicateSettings,
    *,
    known: Known | None = None,
    gone: Iterable[str] = (),
    without: Iterable[str] = (),
    worker_count: int = 1,
    runner: Runner = "local",
) -> Duplicates:
    """Find the duplicates of all rows, in whatever order, into the folder ``out``, whole or not at all.

    :param files: set name to its rows, as ``convert`` writes them.
    :param known: what is remembered of rows seen before. It is told of the new ones when ``out`` is there; a step
        that is repeated after a crash in between finds the same.
    :param gone: ids of rows that are no more.
    :param without: ids of rows in the files that are not looked at, and are in no result.
    :param worker_count: processes on this machine, or cores of the Ray cluster; the result is the same for any.
    :raises UnreadableFileError: naming the file and the position of a line that is no record.
    """
    known = Nothing() if known is None else known
    with work_beside(out) as work, workers(worker_count, runner) as run:
        jobs = parts(files, work, settings)
        batch = read_batch(jobs, run(sketch, jobs), pa.array(sorted(set(without)), pa.string()))
        state = next_state(batch, known, pa.array(sorted(set(gone)), pa.string()), settings, run, work)
        with whole_directory(out) as folder:
            write_result(folder, state, list(files))
        known.apply(state.change())
    return Duplicates(out)
