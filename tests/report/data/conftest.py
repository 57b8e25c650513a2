"""Made-up datasets, as ``curate`` writes them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.curation.settings import STEPS, CurationSettings
from medllm_ops.files import file_hash, read_json, read_json_lines, text_hash, write_json, write_json_lines

WORDS = {
    "en": [
        "the",
        "patient",
        "was",
        "given",
        "a",
        "dose",
        "of",
        "aspirin",
        "and",
        "had",
        "no",
        "pain",
        "in",
        "hospital",
    ],
    "zh": [
        "患者",
        "服药",
        "后",
        "症状",
        "减轻",
        "。",
        "建议",
        "多",
        "饮水",
        "，",
        "休息",
        "复诊",
        "；",
        "体温",
        "脉",
        "浮",
        "紧",
    ],
}
Drops = dict[tuple[str, str], int]


@dataclass(frozen=True)
class MadeSource:
    """What becomes of the rows of a source: ``written`` rows go on, a tenth of them to validation."""

    language: str
    written: int
    drops: Drops = field(default_factory=dict)
    licence: str = "CC-BY-4.0"
    turns: int = 1
    words: int = 60

    @property
    def read(self) -> int:
        return self.written + sum(self.drops.values())


SOURCES = {
    "pubmed": MadeSource(
        "en",
        400,
        {
            ("read", "retracted"): 3,
            ("read", "not JSON"): 2,
            ("clean", "too short"): 21,
            ("exact dedup", "exact duplicate"): 30,
            ("near dedup", "near duplicate"): 18,
            ("decontaminate", "overlap with an evaluation set"): 4,
        },
        words=180,
    ),
    "tcm_books": MadeSource(
        "zh", 260, {("clean", "not enough Han"): 9, ("near dedup", "near duplicate"): 40}, "public domain", words=220
    ),
    "alpaca": MadeSource(
        "en",
        300,
        {("scrub", "mostly personal data"): 2, ("sample", "not drawn"): 100, ("split", "val_conflict"): 1},
        "CC-BY-NC-4.0",
        2,
        40,
    ),
    "deepctrl": MadeSource(
        "zh", 220, {("exact dedup", "exact duplicate"): 25, ("chunk", "dialogue too long"): 3}, "", 4, 30
    ),
}


def text_for(source: str, number: int, made: MadeSource, version: int = 0) -> list[dict[str, str]]:
    texts = texts_of(source, number, made.language, made.turns, made.words, version)
    roles = ["user", "assistant"] * (made.turns // 2) or ["assistant"]
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]


@cache
def texts_of(source: str, number: int, language: str, turns: int, words: int, version: int) -> list[str]:
    chance = random.Random(f"{source}:{number}:{version}")
    joint = "" if language == "zh" else " "
    length = max(4, round(words * chance.lognormvariate(0, 0.6)))
    return [joint.join(chance.choices(WORDS[language], k=length)) for _ in range(turns)]


def make_dataset(
    folder: Path,
    sources: dict[str, MadeSource] | None = None,
    *,
    changed: int = 0,
    shift: int = 0,
    settings: dict[str, Any] | None = None,
    evalsets: bool = True,
) -> Path:
    """Write a dataset in which everything is right.

    :param changed: of each source, so many of the first rows have another text.
    :param shift: of each source, so many of the first rows are gone, and as many new ones come after the last.
    """
    sources = SOURCES if sources is None else sources
    ledger, removed, lengths, figures = [], [], {}, {}
    for name, made in sources.items():
        rows = made.read
        for step in STEPS:
            dropped = {reason: count for (at, reason), count in made.drops.items() if at == step}
            row = {"step": step, "source": name, "in": rows, "out": rows - sum(dropped.values()), "dropped": dropped}
            rows = row["out"]
            ledger.append(row | ({"pieces": rows} if step == "chunk" else {}))
            for reason, count in dropped.items():
                for number in range(count):
                    gone = {"id": f"{name}:x{step[0]}{reason[:3]}{number}", "step": step, "reason": reason}
                    gone |= {"kept": f"{name}:{number + shift}"} if "dedup" in step else {}
                    removed.append(gone | {"source": name})
        figures[name], lengths[name] = _write_rows(folder, name, made, changed, shift)
    write_json(folder / "ledger.json", ledger)
    removed.sort(key=lambda row: (STEPS.index(row["step"]), row["id"]))
    write_json_lines(folder / "removed.jsonl", removed)
    chosen = CurationSettings.model_validate(settings or {})
    manifest = {
        "seed": chosen.seed,
        "settings": chosen.model_dump(mode="json"),
        "sources": figures,
        "evalsets": [{"name": "exam.jsonl", "hash": "ab" * 16, "items": 120}] if evalsets else [],
        "tokenizer": None,
        "inputs": [{"name": f"{name}/records.jsonl", "hash": text_hash(name)} for name in sources],
        "code": "0f" * 16,
        "history": {"segments": 1},
    }
    write_json(folder / "manifest.json", manifest)
    write_json(folder / "data" / "lengths.json", lengths)
    make_figures(folder, sources, evalsets)
    return folder


def _write_rows(
    folder: Path, name: str, made: MadeSource, changed: int, shift: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    numbers = range(shift, made.written + shift)
    ranked = sorted(numbers, key=lambda number: text_hash(f"side:{name}:{number}"))
    # A side is a matter of the row alone, as in a real dataset: a tenth of all hashes.
    validates = {number for number in numbers if int(text_hash(f"side:{name}:{number}")[:8], 16) < 0.1 * 2**32}
    validates = validates or set(ranked[:1]) if len(ranked) > 1 else validates
    figures: dict[str, Any] = {"hashes": {}}
    lengths: dict[str, Any] = {}
    for side in ("train", "val"):
        own = [number for number in numbers if (number in validates) is (side == "val")]
        own.sort(key=lambda number: text_hash(f"42:{name}:{number}"))
        lines = [{"id": f"{name}:{n}", "messages": text_for(name, n, made, int(n - shift < changed))} for n in own]
        path = folder / side / f"{name}.jsonl"
        write_json_lines(path, lines)
        figures[side] = len(lines)
        figures["hashes"][side] = file_hash(path)
        sizes = [sum(len(message["content"]) for message in line["messages"]) for line in lines]
        lengths[side] = dict(sorted(Counter(1 << size.bit_length() - 1 for size in sizes).items()))
        lengths[side] = {str(begin): rows for begin, rows in lengths[side].items()}
    written = figures["train"] + figures["val"]
    figures |= {"languages": {made.language: written}, "licences": {made.licence: written}}
    return figures, lengths


def make_figures(folder: Path, sources: dict[str, MadeSource], evalsets: bool) -> None:
    """Write what else is in ``data/``."""
    data = folder / "data"
    marks = {
        "clean": {name: {"unicode.invisible": 17, "html.tag": 5} for name in sources},
        "scrub": {name: {"EMAIL": 4, "PHONE": 2} for name in list(sources)[:2]},
    }
    write_json(data / "marks.json", marks)
    context = "call ⟨PHONE⟩ before ## a.m."
    review = {"field": "messages.0", "kind": "PHONE", "rule": "phone", "shape": "999-9999-9999", "context": context}
    write_json_lines(data / "review.jsonl", [{"id": f"pubmed:{n}", **review} for n in range(3)])
    samples = [
        {"step": step, "reason": reason, "id": f"{name}:s{n}", "source": name, "detail": f"{n} characters"}
        | {"excerpt": f"A dropped text, number {n}, of ⟨NAME⟩."}
        for name, made in sources.items()
        for (step, reason), count in made.drops.items()
        if step in ("read", "clean", "scrub")
        for n in range(min(2, count))
    ]
    write_json_lines(data / "samples.jsonl", samples)
    clusters = [
        {
            "size": size,
            "kept": f"tcm_books:{size}",
            "ids": [f"tcm_books:{size}", f"deepctrl:{size}", f"tcm_books:{size + 1}"][:size],
            "sources": ["tcm_books", "deepctrl", "tcm_books"][:size],
            "excerpts": ["桂枝汤方", "桂枝汤方：桂枝三两", "桂枝湯方"][:size],
            "similarity": [1.0, 0.81, 0.77][:size],
        }
        for size in (2, 5)
    ]
    write_json_lines(data / "clusters.jsonl", clusters)
    if not evalsets:
        return
    found = {"file": "exam.jsonl", "hash": "ab" * 16, "items": 120, "ngrams": 2210, "too_short": 7}
    report = {"evalsets": [{**found, "items_found": 2, "rows_removed": 4}], "common_ngrams": 1}
    write_json(data / "decontamination.json", report | {"common": [{"text": "which of the following", "rows": 31}]})
    overlap = {"step": "decontaminate", "source": "pubmed", "file": "exam.jsonl", "share": 0.93, "items": 1}
    overlap |= {"reason": "overlap with an evaluation set", "position": 0, "overlap": "a patient of 54 years has"}
    write_json_lines(data / "overlaps.jsonl", [{"id": f"pubmed:o{n}", "item": f"q{n}", **overlap} for n in range(4)])


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset in which nothing is wrong, but that some rows have no licence."""
    return make_dataset(tmp_path / "datasets" / "2026-11")


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make another dataset: ``make("name", …)`` with the parameters of :func:`make_dataset`."""
    return lambda name, *args, **options: make_dataset(tmp_path / "datasets" / name, *args, **options)


@pytest.fixture
def source() -> type[MadeSource]:
    """What becomes of the rows of a source."""
    return MadeSource


Change = Callable[[str, Callable[[Any], Any]], None]


@pytest.fixture
def change(dataset: Path) -> Change:
    """Change one file of the dataset in place: ``change("ledger.json", lambda rows: …)``."""

    def edit(name: str, how: Callable[[Any], Any]) -> None:
        path = dataset / name
        if path.suffix == ".json":
            value = read_json(path)
            how(value)
            path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        else:
            rows = list(read_json_lines(path))
            how(rows)
            write_json_lines(path, rows)

    return edit
