"""Phase 1 of curation, row by row, in worker processes: read, clean and scrub the lines of files into a segment."""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from medllm_ops.curation.clean import clean
from medllm_ops.curation.dropped_samples import DroppedSamples
from medllm_ops.curation.lines import characters_of, read_line, write_line
from medllm_ops.curation.outcome import Outcome
from medllm_ops.curation.parts import lines_of, parts
from medllm_ops.curation.scrub import ReviewSample, scrub_for_review
from medllm_ops.curation.segment import CLEAN, READ, RETRACTED, SCRUB, Segment, marks_as_json
from medllm_ops.curation.settings import CurationSettings
from medllm_ops.curation.state.segment import INDEX
from medllm_ops.curation.state.state import known_digests
from medllm_ops.curation.workers import Job, Run, Runner, workers
from medllm_ops.errors import MedllmError
from medllm_ops.files import (
    code_hash,
    text_hash,
    to_json_line,
    whole_directory,
    work_beside,
    write_json,
    write_json_lines,
)

_BATCH: Final = 1024
_MOST_CHARACTERS: Final = 2**32 - 1
_CODE: Final = ("curation/clean", "curation/scrub", "curation/lines.py", "curation/prepare.py")


def prepare(
    files: Sequence[Path],
    out: Path,
    settings: CurationSettings,
    *,
    gone: Iterable[str] = (),
    full: bool = False,
    known: Path | None = None,
    worker_count: int = 1,
    runner: Runner = "local",
) -> Segment:
    """Read the lines of files, clean and scrub their rows, into the folder ``out``, whole or not at all.

    No line stops it: one that is no record is a line of the index with a reason. Memory does not grow with the rows.

    :param files: rows as ``convert`` writes them; rows of a source may stand in several files, and of several sources
        in one.
    :param gone: ids of rows that are no more, for the steps that know earlier segments.
    :param full: whether rows of earlier segments that are not in the files are no more, either.
    :param known: the folder of a state; lines that it knows, unchanged, are left out of the segment.
    :raises UnreadableFileError: if a file is missing.
    :raises MedllmError: if a file is named twice.
    """
    with work_beside(out) as work, workers(worker_count, runner) as run:
        named = by_name(files)
        done = _work(named, work, settings, known, run)
        with whole_directory(out) as folder:
            _join(done, folder, settings.seed)
            settings_row = {"fingerprint": row_wise_fingerprint(settings), "full": full, "inputs": _inputs(named, done)}
            write_json(folder / "settings.json", settings_row)
            with (folder / "gone.txt").open("w", encoding="utf-8", newline="\n") as lines:
                lines.writelines(f"{id_}\n" for id_ in sorted(set(gone)))
    return Segment(out)


def row_wise_fingerprint(settings: CurationSettings) -> str:
    """What decides what becomes of a row by itself: settings and code."""
    chosen = settings.model_dump(mode="json", include={"seed", "clean", "scrub"})
    return text_hash(to_json_line([chosen, code_hash(*_CODE)]).decode())


def by_name(files: Sequence[Path]) -> dict[str, Path]:
    """The files by the shortest names that tell them apart: the file's own, or with folders before it; sorted.

    :raises MedllmError: if a file is named twice.
    """
    absolute = [path.absolute() for path in files]
    if twice := [path for path, times in Counter(path.resolve() for path in absolute).items() if times > 1]:
        raise MedllmError(f"{twice[0]} is named twice: its rows would count twice")
    named = {}
    for path in absolute:
        depth = 1
        while sum(other.parts[-depth:] == path.parts[-depth:] for other in absolute) > 1:
            depth += 1
        named["/".join(path.parts[-depth:])] = path
    return dict(sorted(named.items()))


def _work(
    named: Mapping[str, Path], work: Path, settings: CurationSettings, known: Path | None, run: Run
) -> list[tuple[Job, Any]]:
    names = list(named)
    more = {"known": known and str(known.absolute())}
    jobs = [{**job, **more, "name": names[job["set"]]} for job in parts(named, work, settings)]
    return list(zip(jobs, run(prepare_part, jobs), strict=True))


def prepare_part(job: Job) -> dict[str, Any]:
    """Read, clean and scrub the lines of one part.

    ``<out>.arrow`` gets their index, where ``begin`` counts from the first row of the part and its source;
    ``<out>.rows`` the rows that go on, source after source; ``<out>.samples`` what was kept to be looked at.

    :return: how many ``lines`` were read, the sum of their ``digests``, the bytes of the rows of each source
        (``rows``), and ``marks``.
    """
    settings = CurationSettings.model_validate(job["settings"])
    part = _Part(job["name"], settings, Path(job["known"]) if job["known"] else None)
    lines = lines_of(job)
    while batch := list(islice(lines, _BATCH)):
        part.add(batch)
    with pa.ipc.new_file(f"{job['out']}.arrow", INDEX) as writer:
        writer.write_batch(
            pa.record_batch([pa.array(c, f.type) for c, f in zip(part.columns, INDEX, strict=True)], INDEX)
        )
    with Path(f"{job['out']}.rows").open("wb") as file:
        for source in sorted(part.rows):
            file.write(part.rows[source])
    Path(f"{job['out']}.samples").write_bytes(pickle.dumps((part.review, part.dropped)))
    return {
        "lines": part.lines,
        "digests": f"{part.digests:x}",
        "rows": {source: len(part.rows[source]) for source in sorted(part.rows)},
        "marks": [[*key, counts] for key, counts in part.marks.items()],
    }


class _Line:
    """A line as it was read."""

    __slots__ = ("bytes", "digest", "fault", "id", "marks", "row")

    def __init__(self, name: str, position: int, line: bytes) -> None:
        self.bytes = line
        self.digest = xxhash.xxh3_128_digest(line.strip())
        self.marks: Counter[str] = Counter()
        self.row, self.fault = read_line(line, self.marks)
        self.id: str = self.row.get("id", f"{name}:{position}")


class _Part:
    """What becomes of the lines of one part."""

    def __init__(self, name: str, settings: CurationSettings, known: Path | None) -> None:
        self._name = name
        self._settings = settings
        self._known = known
        self.columns: list[list[Any]] = [[] for _ in INDEX]
        self.rows: defaultdict[str, bytearray] = defaultdict(bytearray)
        self.marks: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.review = ReviewSample(settings.seed)
        self.dropped = DroppedSamples(settings.seed)
        self.lines = self.digests = 0

    def add(self, batch: Sequence[tuple[int, bytes]]) -> None:
        """Take in some lines, each with the byte where it begins."""
        read = [_Line(self._name, position, line) for position, line in batch]
        self.lines += len(read)
        self.digests = (self.digests + sum(int.from_bytes(line.digest) for line in read)) % 2**128
        known = known_digests(self._known, [line.id for line in read]) if self._known else {}
        for line in read:
            if line.digest not in known.get(line.id, ()):
                self._add(line)

    def _add(self, line: _Line) -> None:
        row, digest = line.row, line.digest
        if line.fault:
            text = line.bytes.decode("utf-8", "replace")
            self._drop(line.id, row.get("source", ""), digest, row, READ, line.fault.reason, line.fault.detail, text)
            return
        self._count(READ, row["source"], line.marks)
        if row["retracted"]:
            self._drop_row(row, digest, READ, Outcome.drop(RETRACTED))
            return
        cleaned = clean(row, self._settings.clean) if self._settings.clean.enabled else Outcome(row=row)
        self._count(CLEAN, row["source"], cleaned.marks)
        if cleaned.row is None:
            self._drop_row(row, digest, CLEAN, cleaned)
            return
        scrubbed = Outcome(row=cleaned.row)
        if self._settings.scrub.enabled:
            scrubbed, findings = scrub_for_review(cleaned.row, self._settings.scrub)
            self.review.add(findings)
        self._count(SCRUB, row["source"], scrubbed.marks)
        if scrubbed.row is None:
            self._drop_row(cleaned.row, digest, SCRUB, scrubbed)
        else:
            self._keep(scrubbed.row, digest)

    def _count(self, step: str, source: str, marks: Counter[str]) -> None:
        if marks:
            self.marks[step, source].update(marks)

    def _keep(self, row: dict[str, Any], digest: bytes) -> None:
        line, cut = write_line(row)
        rows = self.rows[row["source"]]
        place = (len(rows), len(line), cut)
        rows += line
        self._index(row["id"], row["source"], digest, place, row, (None, None, None))

    def _drop_row(self, row: dict[str, Any], digest: bytes, step: str, outcome: Outcome) -> None:
        text = "\n".join(message["content"] for message in row["messages"])
        self._drop(row["id"], row["source"], digest, row, step, outcome.reason, outcome.detail, text)

    def _drop(
        self, id_: str, source: str, digest: bytes, row: Any, step: str, reason: str, detail: str, text: str
    ) -> None:
        self.dropped.offer((step, reason), digest, text, id=id_, source=source, detail=detail)
        self._index(id_, source, digest, (None, None, None), row, (step, reason, detail or None))

    def _index(
        self,
        id_: str,
        source: str,
        digest: bytes,
        place: tuple[int | None, int | None, int | None],
        row: Mapping[str, Any],
        dropped: tuple[str | None, str | None, str | None],
    ) -> None:
        characters = min(characters_of(row), _MOST_CHARACTERS) if "messages" in row else 0
        values = (id_, source, digest, *place, row.get("language"), row.get("licence"), characters, *dropped)
        for column, value in zip(self.columns, values, strict=True):
            column.append(value)


def _join(done: Iterable[tuple[Job, Any]], folder: Path, seed: int) -> None:
    """Make one of all parts, and remove them on the way: text stands on disk twice for a moment only."""
    ends: Counter[str] = Counter()
    marks: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    review, dropped = ReviewSample(seed), DroppedSamples(seed)
    (folder / "rows").mkdir()
    with pq.ParquetWriter(folder / "index.parquet", INDEX, compression="zstd") as writer:
        for job, result in done:
            out = job["out"]
            writer.write_table(_shifted(pa.ipc.open_file(pa.memory_map(f"{out}.arrow")).read_all(), ends))
            _append(Path(f"{out}.rows"), result["rows"], folder / "rows")
            ends.update(result["rows"])
            for step, source, counts in result["marks"]:
                marks[step, source].update(counts)
            of_review, of_dropped = pickle.loads(Path(f"{out}.samples").read_bytes())
            review.merge(of_review)
            dropped.merge(of_dropped)
            for ending in ("arrow", "rows", "samples"):
                Path(f"{out}.{ending}").unlink()
    write_json(folder / "marks.json", marks_as_json(marks))
    write_json_lines(folder / "review.jsonl", review.rows())
    write_json_lines(folder / "samples.jsonl", dropped.rows())


def _shifted(index: pa.Table, ends: Mapping[str, int]) -> pa.Table:
    """An index with the places of rows in the files of their sources, which are so long already."""
    sources = index.column("source").combine_chunks()
    offsets = pa.array([ends[source] for source in sources.dictionary.to_pylist()], pa.uint64()).take(sources.indices)
    begins = pc.add(index.column("begin").combine_chunks(), offsets)
    return index.set_column(INDEX.get_field_index("begin"), INDEX.field("begin"), begins)


def _append(rows: Path, lengths: Mapping[str, int], folder: Path) -> None:
    with rows.open("rb") as file:
        for source, length in lengths.items():
            with (folder / f"{source}.jsonl").open("ab") as target:
                target.write(file.read(length))


def _inputs(named: Mapping[str, Path], done: Sequence[tuple[Job, Any]]) -> list[dict[str, Any]]:
    """For each file its name, its lines, and a hash of them in any order."""
    inputs = []
    for name in named:
        results = [result for job, result in done if job["name"] == name]
        digests = sum(int(result["digests"], 16) for result in results) % 2**128
        inputs.append({"file": name, "lines": sum(result["lines"] for result in results), "hash": f"{digests:032x}"})
    return inputs
