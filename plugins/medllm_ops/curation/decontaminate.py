"""Rows that give away what a model is to be evaluated on are out.

A row goes if it shares an n-gram with an item of an evaluation set, unless the n-gram is a common phrase; and if it
holds most of an item, or of its question, common or not.
"""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

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
from medllm_ops.curation.parts import parts, rows_of
from medllm_ops.curation.workers import Job, Run
from medllm_ops.errors import MedllmError
from medllm_ops.files import code_hash, file_hash, read_json_lines, text_hash, to_json_line, write_whole
from medllm_ops.records import EXCERPT_CHARACTERS

STEP: Final = "decontaminate"
REASON: Final = "overlap with an evaluation set"

Lives: TypeAlias = Callable[[Path, str, int], bool]
"""Whether the row of a segment, a source and a position in its file counts: it may be superseded, or a duplicate."""

_BATCH: Final = 256
_COMMON_SHOWN: Final = 50
_CODE: Final = tuple(
    f"curation/{name}.py" for name in ("decontaminate", "overlap", "evalsets", "grams", "duplicates/normalise")
)


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

    def of_question(self, item: int) -> int:
        """How many n-grams the question of an item has."""
        return sum(unit.questions[item] for unit in self.units)


_loaded: dict[str, Index] = {}
"""The index of the step that is taken, by its file."""


def _load(file: str) -> Index:
    """The index that the step wrote, read once by each worker."""
    if file not in _loaded:
        _loaded.clear()
        _loaded[file] = pickle.loads(Path(file).read_bytes())
    return _loaded[file]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What goes, and what was compared.

    ``removed``: rows sorted by id: ``id``, ``step`` and ``reason`` as everywhere; ``segment``, ``source`` and
    ``position`` (the byte where the line begins); ``file`` and ``item`` of the evaluation set that it has most of,
    ``share``: how much of the item's n-grams, ``overlap``: the longest common text, ``items``: of how many items it has
    something.

    ``report``: ``evalsets``: for each file its items, n-grams, items too short to tell, items found and rows removed
    for it. ``common``: the most frequent n-grams that were taken for common phrases, and in how many rows they are.
    """

    removed: list[dict[str, Any]]
    report: dict[str, Any]


class Decontamination:
    """Evaluation sets, and what of them stands in the rows of segments.

    A segment never changes, so it is searched once: it keeps what was found, under the hash of the evaluation sets,
    the settings and the code. Which rows go is decided anew each time, over the rows that live.

    :param evalsets: the files that the model will be evaluated on; see :func:`~.evalsets.read_items`.
    :raises MedllmError: if two evaluation sets have the same file name.
    :raises UnreadableFileError: naming the file that cannot be read, and where.
    """

    def __init__(self, evalsets: Sequence[Path], settings: DecontaminationSettings) -> None:
        names = Counter(path.name for path in evalsets)
        if twice := [name for name, count in names.items() if count > 1]:
            raise MedllmError(
                f"two evaluation sets are named {twice[0]}: rename one, so that reports can tell them apart"
            )
        self._settings = settings
        self._evalsets = sorted(evalsets, key=lambda path: path.name)
        self._index = Index(self._evalsets, settings)
        self._hashes = {path.name: file_hash(path) for path in self._evalsets}
        made_of = [self._hashes, settings.model_dump(mode="json"), code_hash(*_CODE)]
        self._key = text_hash(to_json_line(made_of).decode())

    @property
    def evalsets(self) -> list[dict[str, Any]]:
        """The name, the hash and the number of items of each evaluation set."""
        items = Counter(item.file for item in self._index.items)
        return [{"file": name, "hash": hash_, "items": items[name]} for name, hash_ in self._hashes.items()]

    def found(self, segment: Path) -> Path:
        """Where a segment keeps what was found in it: JSON lines, a row each."""
        return segment / f"overlaps-{self._key}.jsonl"

    def find(self, segments: Sequence[Path], work: Path, run: Run) -> None:
        """Search the rows of the segments that were not searched before.

        :param work: a folder that all workers see, for the time of the call.
        """
        new = [segment for segment in segments if not self.found(segment).is_file()] if self._evalsets else []
        if not new:
            return
        work.mkdir()
        try:
            self._search(new, work, run)
        finally:
            _loaded.clear()
            shutil.rmtree(work, ignore_errors=True)

    def _search(self, segments: Sequence[Path], work: Path, run: Run) -> None:
        stored = (work / "index.pickle").absolute()
        stored.write_bytes(pickle.dumps(self._index, pickle.HIGHEST_PROTOCOL))
        _loaded[str(stored)] = self._index
        jobs: list[Job] = []
        folders = [work / f"{number:06}" for number in range(len(segments))]
        for segment, folder in zip(segments, folders, strict=True):
            files = {path.name.removesuffix(".jsonl"): path for path in sorted((segment / "rows").glob("*.jsonl"))}
            names = list(files)
            folder.mkdir()
            jobs += [
                {**job, "source": names[job["set"]], "index": str(stored)}
                for job in parts(files, folder, self._settings)
            ]
        run(find_overlaps, jobs)
        for segment, folder in zip(segments, folders, strict=True):
            with write_whole(self.found(segment)) as file:
                for part in sorted(folder.iterdir()):
                    file.write(part.read_bytes())

    def judge(self, segments: Sequence[Path], lives: Lives) -> Judgement:
        """Decide which of the living rows of all segments go; they were searched before."""
        index, settings = self._index, self._settings
        frequency: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
        for _, row in self._living(segments, lives):
            for counter, grams in zip(frequency, row["grams"], strict=True):
                counter.update(grams)
        removed = [
            {**removal, "segment": str(segment)}
            for segment, row in self._living(segments, lives)
            if (removal := _removal(row, index, frequency, settings))
        ]
        removed.sort(key=lambda row: (row["id"], row["segment"], row["source"], row["position"]))
        report = _report(self._hashes, index, frequency, removed, settings)
        return Judgement([{**row, "item": row["item"][1]} for row in removed], report)

    def _living(self, segments: Sequence[Path], lives: Lives) -> Iterator[tuple[Path, dict[str, Any]]]:
        for segment in segments if self._evalsets else ():
            for row in read_json_lines(self.found(segment)):
                if lives(segment, row["source"], row["position"]):
                    yield segment, row


def find_overlaps(job: Job) -> None:
    """Write the n-grams of evaluation sets in the rows of one part to ``<out>.jsonl``."""
    index, source = _load(job["index"]), job["source"]
    with Path(f"{job['out']}.jsonl").open("wb") as file:
        batch: list[tuple[int, str, str]] = []
        for position, row in rows_of(job):
            turns = [message["content"] for message in row["messages"]]
            batch.append((position, row["id"], "\n".join([*turns, row.get("rejected_response", "")])))
            if len(batch) == _BATCH:
                file.writelines(_overlaps(batch, source, index))
                batch = []
        file.writelines(_overlaps(batch, source, index))


def _overlaps(batch: list[tuple[int, str, str]], source: str, index: Index) -> Iterator[bytes]:
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
                    "source": source,
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


def _removal(
    row: Mapping[str, Any], index: Index, frequency: Sequence[Counter[int]], settings: DecontaminationSettings
) -> dict[str, Any] | None:
    """What is said of a row that goes."""
    matched, asked = Counter[int](), Counter[int]()
    guilty: set[int] = set()
    for unit, counter, grams in zip(index.units, frequency, row["grams"], strict=True):
        for gram in grams:
            matched.update(unit.items[gram])
            asked.update(unit.asked[gram])
            if not settings.common or counter[gram] <= settings.common:
                guilty.update(unit.items[gram])
    shares = {item: count / index.grams(item) for item, count in matched.items()}
    guilty.update(item for item, share in shares.items() if share >= settings.share)
    guilty.update(item for item, count in asked.items() if count >= settings.share * index.of_question(item))
    if not guilty:
        return None
    item = min(guilty, key=lambda one: (-shares[one], one))
    overlap = next(
        text
        for unit, runs in zip(index.units, row["runs"], strict=True)
        for grams, text in runs
        if any(item in unit.items[gram] for gram in grams)
    )
    return {
        "id": row["id"],
        "step": STEP,
        "reason": REASON,
        "source": row["source"],
        "position": row["position"],
        "file": index.items[item].file,
        "item": (item, index.items[item].name),
        "share": round(shares[item], 4),
        "overlap": overlap[:EXCERPT_CHARACTERS],
        "items": len(guilty),
    }


def _report(
    hashes: Mapping[str, str],
    index: Index,
    frequency: Sequence[Counter[int]],
    removed: Sequence[Mapping[str, Any]],
    settings: DecontaminationSettings,
) -> dict[str, Any]:
    rows = Counter(row["file"] for row in removed)
    report = []
    for name, hash_ in hashes.items():
        items = [number for number, item in enumerate(index.items) if item.file == name]
        report.append(
            {
                "file": name,
                "hash": hash_,
                "items": len(items),
                "ngrams": sum(index.grams(number) for number in items),
                "too_short": sum(not index.grams(number) for number in items),
                "items_found": len({row["item"][0] for row in removed} & set(items)),
                "rows_removed": rows[name],
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
