"""Rows that give away what a model is to be evaluated on are out.

A row goes if it shares an n-gram with an item of an evaluation set, unless the n-gram is a common phrase; and if it
holds most of an item, common or not.
"""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from medllm_ops.curation.evalsets import Item, read_items
from medllm_ops.curation.overlap import (
    DecontaminationSettings,
    Found,
    GramIndex,
    Tokens,
    characters_of,
    is_unspaced,
    words_of,
)
from medllm_ops.curation.parts import parts, rows_of, staying
from medllm_ops.curation.workers import Job, Runner, workers
from medllm_ops.errors import MedllmError
from medllm_ops.files import file_hash, read_json, read_json_lines, whole_directory, write_json, write_json_lines
from medllm_ops.records import EXCERPT_CHARACTERS, LedgerEntry

STEP: Final = "decontaminate"
REASON: Final = "overlap with an evaluation set"

_BATCH: Final = 256
_COMMON_SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class Decontamination:
    """What :func:`decontaminate` wrote into its folder."""

    folder: Path

    @property
    def removed(self) -> Path:
        """JSON lines of what does not stay, sorted by id.

        ``id``, ``step`` and ``reason`` as everywhere; ``set`` and ``position`` (the byte where the line begins);
        ``file`` and ``item`` of the evaluation set that it has most of, ``share``: how much of the item's n-grams,
        ``overlap``: the longest common text, ``items``: of how many items it has something.
        """
        return self.folder / "removed.jsonl"

    @property
    def ledger(self) -> LedgerEntry:
        """The counts."""
        return LedgerEntry.from_row(read_json(self.folder / "ledger.json")[0])

    @property
    def report(self) -> dict[str, Any]:
        """What was compared.

        ``evalsets``: for each file its items, n-grams, items too short to tell, items found and rows removed for it.
        ``common``: the most frequent n-grams that were taken for common phrases, and in how many rows they are.
        """
        report: dict[str, Any] = read_json(self.folder / "report.json")
        return report

    def staying(self, name: str, path: Path) -> Iterator[bytes]:
        """The lines of a set that stay, in the order of its file."""
        return staying(path, {row["position"] for row in read_json_lines(self.removed) if row["set"] == name})


class Index:
    """The n-grams of all evaluation sets, of words and of characters."""

    def __init__(self, files: Sequence[Path], settings: DecontaminationSettings) -> None:
        self.items: list[Item] = [item for path in files for item in read_items(path)]
        numbered = list(enumerate(self.items))
        self.units = (
            GramIndex(numbered, settings.words, settings.fields, words=True),
            GramIndex(numbered, settings.characters, settings.fields, words=False),
        )

    def grams(self, item: int) -> int:
        """How many n-grams an item has."""
        return sum(unit.counts[item] for unit in self.units)


_loaded: dict[str, Index] = {}
"""The index of the step that is taken, by its file."""


def _load(file: str) -> Index:
    """The index that the step wrote, read once by each worker."""
    if file not in _loaded:
        _loaded.clear()
        _loaded[file] = pickle.loads(Path(file).read_bytes())
    return _loaded[file]


def decontaminate(
    files: Mapping[str, Path],
    evalsets: Sequence[Path],
    out: Path,
    settings: DecontaminationSettings,
    *,
    worker_count: int = 1,
    runner: Runner = "local",
) -> Decontamination:
    """Find the rows that overlap with evaluation sets, into the folder ``out``, whole or not at all.

    :param files: set name to its rows, as ``convert`` writes them.
    :param evalsets: the files that the model will be evaluated on; see :func:`~.evalsets.read_items`.
    :raises MedllmError: if two evaluation sets have the same file name.
    :raises UnreadableFileError: naming the file that cannot be read, and where.
    """
    names = Counter(path.name for path in evalsets)
    if twice := [name for name, count in names.items() if count > 1]:
        raise MedllmError(f"two evaluation sets are named {twice[0]}: rename one, so that reports can tell them apart")
    evalsets = sorted(evalsets, key=lambda path: path.name)
    index = Index(evalsets, settings)
    with whole_directory(out) as folder, workers(worker_count, runner) as run:
        work = folder / "work"
        work.mkdir()
        stored = work / "index.pickle"
        stored.write_bytes(pickle.dumps(index, pickle.HIGHEST_PROTOCOL))
        _loaded[str(stored.absolute())] = index
        jobs = [{**job, "index": str(stored.absolute())} for job in parts(files, work, settings)]
        counts = run(find_overlaps, jobs)
        _loaded.clear()
        found = [work / f"{Path(job['out']).name}.jsonl" for job in jobs]
        frequency = _frequency(found)
        sets = list(files)
        removed = [
            {**removal, "set": sets[job["set"]]}
            for job, path in zip(jobs, found, strict=True)
            for removal in _removals(path, index, frequency, settings)
        ]
        removed.sort(key=lambda row: (row["id"], row["set"], row["position"]))
        entry = LedgerEntry(STEP, rows_in=sum(counts), rows_out=sum(counts) - len(removed))
        if removed:
            entry.drop(REASON, len(removed))
        write_json(folder / "ledger.json", [entry.check().to_row()])
        write_json(folder / "report.json", _report(evalsets, index, frequency, removed, settings))
        write_json_lines(folder / "removed.jsonl", ({**row, "item": row["item"][1]} for row in removed))
        shutil.rmtree(work)
    return Decontamination(out)


def find_overlaps(job: Job) -> int:
    """Write the n-grams of evaluation sets in the rows of one part to ``<out>.jsonl``; return its number of rows."""
    index = _load(job["index"])
    rows = 0
    with Path(f"{job['out']}.jsonl").open("wb") as file:
        batch: list[tuple[int, str, str]] = []
        for position, row in rows_of(job):
            rows += 1
            turns = [message["content"] for message in row["messages"]]
            batch.append((position, row["id"], "\n".join([*turns, row.get("rejected_response", "")])))
            if len(batch) == _BATCH:
                file.writelines(_overlaps(batch, index))
                batch = []
        file.writelines(_overlaps(batch, index))
    return rows


def _overlaps(batch: list[tuple[int, str, str]], index: Index) -> Iterator[bytes]:
    words, characters = index.units
    texts: list[list[Tokens]] = [
        [words_of(text) if len(words) else [] for _, _, text in batch],
        [characters_of(text) if len(characters) and is_unspaced(text) else "" for _, _, text in batch],
    ]
    found = [unit.find(tokens) for unit, tokens in zip(index.units, texts, strict=True)]
    for number, (position, id_, _) in enumerate(batch):
        if any(unit[number] for unit in found):
            yield orjson.dumps(
                {
                    "id": id_,
                    "position": position,
                    "grams": [sorted({one.gram for one in unit[number]}) for unit in found],
                    "runs": [_runs(unit[number], tokens[number]) for unit, tokens in zip(found, texts, strict=True)],
                },
                option=orjson.OPT_APPEND_NEWLINE,
            )


def _runs(found: Iterable[Found], tokens: Tokens) -> list[tuple[list[int], str]]:
    """The stretches of a text that n-grams cover, with their n-grams, the longest first."""
    runs: list[tuple[int, int, list[int]]] = []
    for gram, begin, end in sorted(found, key=lambda one: one.begin):
        if runs and begin < runs[-1][1]:
            first, last, grams = runs[-1]
            runs[-1] = (first, max(last, end), [*grams, gram])
        else:
            runs.append((begin, end, [gram]))
    joint = "" if isinstance(tokens, str) else " "
    runs.sort(key=lambda run: run[0] - run[1])
    return [(grams, joint.join(tokens[begin:end])) for begin, end, grams in runs]


def _frequency(found: Iterable[Path]) -> tuple[Counter[int], Counter[int]]:
    """In how many rows each n-gram is, of words and of characters."""
    frequency: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    for path in found:
        for row in read_json_lines(path):
            for counter, grams in zip(frequency, row["grams"], strict=True):
                counter.update(grams)
    return frequency


def _removals(
    path: Path, index: Index, frequency: Sequence[Counter[int]], settings: DecontaminationSettings
) -> Iterator[dict[str, Any]]:
    for row in read_json_lines(path):
        matched: Counter[int] = Counter()
        told: set[int] = set()
        for unit, counter, grams in zip(index.units, frequency, row["grams"], strict=True):
            for gram in grams:
                matched.update(unit.items[gram])
                if not settings.common or counter[gram] <= settings.common:
                    told.update(unit.items[gram])
        shares = {item: count / index.grams(item) for item, count in matched.items()}
        guilty = {item for item, share in shares.items() if item in told or share >= settings.share}
        if not guilty:
            continue
        item = min(guilty, key=lambda one: (-shares[one], one))
        overlap = next(
            text
            for unit, runs in zip(index.units, row["runs"], strict=True)
            for grams, text in runs
            if any(item in unit.items[gram] for gram in grams)
        )
        yield {
            "id": row["id"],
            "step": STEP,
            "reason": REASON,
            "set": "",
            "position": row["position"],
            "file": index.items[item].file,
            "item": (item, index.items[item].name),
            "share": round(shares[item], 4),
            "overlap": overlap[:EXCERPT_CHARACTERS],
            "items": len(guilty),
        }


def _report(
    evalsets: Sequence[Path],
    index: Index,
    frequency: Sequence[Counter[int]],
    removed: Sequence[Mapping[str, Any]],
    settings: DecontaminationSettings,
) -> dict[str, Any]:
    rows = Counter(row["file"] for row in removed)
    report = []
    for path in evalsets:
        items = [number for number, item in enumerate(index.items) if item.file == path.name]
        report.append(
            {
                "file": path.name,
                "hash": file_hash(path),
                "items": len(items),
                "ngrams": sum(index.grams(number) for number in items),
                "too_short": sum(not index.grams(number) for number in items),
                "items_found": len({row["item"][0] for row in removed} & set(items)),
                "rows_removed": rows[path.name],
            }
        )
    common = [
        {"text": unit.text(gram), "rows": count}
        for unit, counter in zip(index.units, frequency, strict=True)
        for gram, count in counter.items()
        if settings.common and count > settings.common
    ]
    common.sort(key=lambda one: (-int(str(one["rows"])), str(one["text"])))
    return {"evalsets": report, "common_ngrams": len(common), "common": common[:_COMMON_SHOWN]}
