"""Phase 3 of curation: from the state to the dataset's folder, written whole or not at all.

Evaluation items out, sets without rows on both sides out, the sample drawn, rows made to fit, all written in an order
that depends on the seed and the ids only.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from medllm_ops.curation.decontaminate import Decontamination, Judgement
from medllm_ops.curation.segment import Segment
from medllm_ops.curation.settings import CurationSettings
from medllm_ops.curation.state.state import CurationState, known_digests
from medllm_ops.curation.workers import Job, Run, Runner, workers
from medllm_ops.curation.write.figures import write_figures
from medllm_ops.curation.write.fit import Room
from medllm_ops.curation.write.index import write_index
from medllm_ops.curation.write.ledger import LowestSamples, account, check_limits, check_sum, write_removed
from medllm_ops.curation.write.licences import check_licences
from medllm_ops.curation.write.listing import Listing, read_listing
from medllm_ops.curation.write.runs import SIDES, RunSide, write_range, write_run
from medllm_ops.curation.write.sample import SetRows, Times, draw
from medllm_ops.curation.write.tokens import tokenizer_hash
from medllm_ops.files import code_hash, file_hash, write_json

RUN_BYTES: Final = 32 << 20
"""Rows are sorted so many bytes at a time, once as they are read and once as they are written."""
LEAST_RUN_BYTES: Final = 1 << 20
"""Where there is little, workers get parts of no less than this."""

_OF_RUNS: Final = ("segment", "begin", "cut", "hash", "val")


def write_dataset(
    state: CurationState,
    folder: Path,
    settings: CurationSettings,
    *,
    evalsets: Sequence[Path] = (),
    worker_count: int = 1,
    runner: Runner = "local",
    context: Any = None,
) -> None:
    """Write what the state keeps into an empty folder; docs/curation/write.md says what is in it then.

    :param folder: of ``whole_directory`` or ``make_once``: an error or a kill leaves half of the dataset in it.
    :param evalsets: what the model will be evaluated on: rows that give it away are left out.
    :param context: what the manifest says about where the records are from, as JSON.
    :raises MedllmError: if a licence stops the build, a step dropped more than it may, the sample cannot be drawn, or
        a tokenizer or an evaluation set cannot be read.
    """
    work = folder.absolute() / "work"
    work.mkdir(parents=True)
    with workers(worker_count, runner) as run:
        listing = read_listing(state, settings.seed)
        decontamination = Decontamination(evalsets, settings.decontaminate)
        judgement = _decontaminate(state, listing, decontamination, work, run)
        _leave_one_sided_out(listing)
        times = _sample(listing, settings)
        counts = state.counts()
        check_limits(account(counts, listing), settings.max_dropped_share)
        chosen = {source: listing.of(source) for source in listing.sources}
        check_licences({name: listing.counts("licence", rows) for name, rows in chosen.items()}, settings.licences)
        written = _Writer(settings, listing, times, folder, work, run).write(chosen, worker_count)
    shutil.rmtree(work)
    write_index(folder, lambda ids: map(known_digests(state.folder, ids).__contains__, ids))
    ledger = account(counts, listing)
    check_limits(ledger, settings.max_dropped_share)
    samples = LowestSamples(settings.seed)
    removed = write_removed(folder / "removed.jsonl", ledger, state, listing, samples)
    check_sum(ledger, removed, int(np.count_nonzero(listing.dropped == 0)))
    told = [_with_pieces(line.to_row(), written) for line in ledger]
    write_json(folder / "ledger.json", told)
    write_figures(folder / "data", state, listing, judgement, samples.rows(), settings.seed)
    manifest = _manifest(state, settings, listing, written, decontamination, context)
    write_json(folder / "manifest.json", {**manifest, "ledger": told})


def _decontaminate(
    state: CurationState, listing: Listing, decontamination: Decontamination, work: Path, run: Run
) -> Judgement:
    decontamination.find(listing.segments, work / "decontaminate", run)
    places = _Places(listing)
    judgement = decontamination.judge(listing.segments, lambda *place: places.number(*place) is not None)
    for row in judgement.removed:
        number = places.number(Path(row["segment"]), row["source"], row["position"])
        if number is not None:
            listing.drop(number, "decontaminate")
            detail = f"{row['file']}: {row['item']}, {row['share']:.0%} of its n-grams"
            listing.reasons[number] = (row["reason"], detail)
    return judgement


class _Places:
    """Finds a row of the listing by where it stands."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._segments = {path: number for number, path in enumerate(listing.segments)}
        self._known: dict[tuple[Path, str], npt.NDArray[np.int64]] = {}

    def number(self, segment: Path, source: str, begin: int) -> int | None:
        """The number of the row whose line begins there; None if the state does not keep it."""
        key = (segment, source)
        if key not in self._known:
            self._known[key] = self._rows(segment, source)
        rows = self._known[key]
        place = int(np.searchsorted(self._listing["begin"][rows], begin))
        if place < len(rows) and self._listing["begin"][rows[place]] == begin:
            return int(rows[place])
        return None

    def _rows(self, segment: Path, source: str) -> npt.NDArray[np.int64]:
        names = self._listing.names["source"]
        if source not in names:
            return np.empty(0, np.int64)
        number = self._segments[segment]
        first, end = np.searchsorted(self._listing["segment"], [number, number + 1])
        rows: npt.NDArray[np.int64] = first + np.flatnonzero(self._listing["source"][first:end] == names.index(source))
        return rows


def _leave_one_sided_out(listing: Listing) -> None:
    """Without validation nobody sees what a set does; ms-swift refuses an empty file."""
    for source in listing.sources:
        rows = listing.of(source)
        val = int(np.count_nonzero(listing["val"][rows]))
        if not 0 < val < len(rows):
            listing.drop(rows, "split")


def _sample(listing: Listing, settings: CurationSettings) -> Times:
    """How often each row is written; rows that are not drawn are left out."""
    rows = {source: listing.of(source) for source in listing.sources}
    sets = {
        source: SetRows(listing["hash"][numbers], listing["val"][numbers])
        for source, numbers in rows.items()
        if len(numbers)
    }
    times = np.zeros(len(listing), np.uint8)
    for source, drawn in draw(sets, settings).items():
        times[rows[source]] = drawn
        listing.drop(rows[source][drawn == 0], "sample")
    return times


@dataclass(slots=True)
class Written:
    """What is written of a source."""

    lines: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SIDES, 0))
    shortened: int = 0
    runs: list[Path] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the files of all sources."""

    settings: CurationSettings
    listing: Listing
    times: Times
    folder: Path
    work: Path
    run: Run

    def write(self, chosen: Mapping[str, npt.NDArray[np.int64]], worker_count: int) -> dict[str, Written]:
        """Write the lines of the rows of each source; rows that cannot be made fit are left out of the listing."""
        written = self._runs({source: rows for source, rows in chosen.items() if len(rows)}, worker_count)
        for source in list(written):
            if not all(written[source].lines.values()):
                self.listing.drop(self.listing.of(source), "split")
                del written[source]
        self._files(written)
        return written

    def _runs(self, chosen: Mapping[str, npt.NDArray[np.int64]], worker_count: int) -> dict[str, Written]:
        jobs: list[Job] = []
        parts = []
        written = {source: Written() for source in chosen}
        for source, rows in chosen.items():
            ends = np.cumsum(self.listing["cut"][rows], dtype=np.int64)
            size = min(RUN_BYTES, max(LEAST_RUN_BYTES, int(ends[-1]) // (4 * worker_count)))
            for part in np.split(rows, np.flatnonzero(np.diff(ends // size)) + 1):
                parts.append(part)
                jobs.append(self._job(source, part, self.work / f"{len(jobs):06}"))
                written[source].runs.append(Path(jobs[-1]["out"]))
        for job, part, result in zip(jobs, parts, self.run(write_run, jobs), strict=True):
            of_source = written[job["source"]]
            of_source.shortened += result["shortened"]
            for side, lines in zip(SIDES, result["lines"], strict=True):
                of_source.lines[side] += lines
            for place, reason, detail in result["dropped"]:
                self.listing.drop(part[place], "chunk")
                self.listing.reasons[int(part[place])] = (reason, detail)
        return written

    def _job(self, source: str, rows: npt.NDArray[np.int64], out: Path) -> Job:
        arrays = out.with_name(f"{out.name}.npz")
        columns: dict[str, Any] = {name: self.listing[name][rows] for name in _OF_RUNS}
        np.savez(arrays, times=self.times[rows], **columns)
        tokenizer = self.settings.chunk.tokenizer
        return {
            "source": source,
            "state": str(self.listing.state.absolute()),
            "segments": [str(path.absolute()) for path in self.listing.segments],
            "rows": str(arrays),
            "out": str(out),
            "seed": self.settings.seed,
            "tokenizer": tokenizer,
            "room": asdict(Room.of(self.settings, source)) if tokenizer else None,
        }

    def _files(self, written: Mapping[str, Written]) -> None:
        jobs: list[Job] = []
        for side in SIDES:
            (self.folder / side).mkdir()
            for source, of_source in written.items():
                jobs += self._ranges(self.folder / side / f"{source}.jsonl", side, of_source)
        self.run(write_range, jobs)
        for side in SIDES:
            for source, of_source in written.items():
                path = self.folder / side / f"{source}.jsonl"
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                of_source.hashes[side] = file_hash(path)

    def _ranges(self, out: Path, side: str, of_source: Written) -> list[Job]:
        runs = [RunSide.open(path, side) for path in of_source.runs]
        whole = sum(run.size(0, 1 << 64) for run in runs)
        count = -(-whole // RUN_BYTES)
        bounds = [number * (1 << 64) // count for number in range(count + 1)]
        jobs = []
        offset = 0
        for low, high in itertools.pairwise(bounds):
            job = {"runs": [str(run.run) for run in runs], "side": side, "out": str(out), "offset": offset}
            jobs.append({**job, "low": str(low), "high": str(high)})
            offset += sum(run.size(low, high) for run in runs)
        with out.open("wb") as file:
            file.truncate(whole)
        return jobs


def _with_pieces(row: dict[str, Any], written: Mapping[str, Written]) -> dict[str, Any]:
    """The last step says how many lines are written of its rows, and how many dialogues were shortened."""
    if row["step"] != "chunk":
        return row
    of_source = written.get(row["source"], Written())
    return {**row, "pieces": sum(of_source.lines.values()), "shortened": of_source.shortened}


def _manifest(
    state: CurationState,
    settings: CurationSettings,
    listing: Listing,
    written: Mapping[str, Written],
    decontamination: Decontamination,
    context: Any,
) -> dict[str, Any]:
    tokenizer = settings.chunk.tokenizer
    values = settings.model_dump(mode="json")
    if tokenizer:
        # Where the model lies on this machine does not change the dataset; its hash tells which one it is.
        values["chunk"]["tokenizer"] = Path(tokenizer).name
    sources = {}
    for source, of_source in sorted(written.items()):
        rows = listing.of(source)
        val = int(np.count_nonzero(listing["val"][rows]))
        sources[source] = {
            **of_source.lines,
            "records": {"train": len(rows) - val, "val": val},
            "languages": listing.counts("language", rows),
            "licences": listing.counts("licence", rows),
            "hashes": of_source.hashes,
        }
    segments = [Segment(path).settings for path in listing.segments]
    return {
        "sources": sources,
        "seed": settings.seed,
        "evalsets": [
            {"name": one["file"], "hash": one["hash"], "items": one["items"]} for one in decontamination.evalsets
        ],
        "tokenizer": tokenizer_hash(Path(tokenizer)) if tokenizer else None,
        "inputs": [entry for one in segments for entry in one.get("inputs", [])],
        "history": {"segments": len(segments)},
        "context": context,
        "code": code_hash("curation"),
        "settings": values,
    }
