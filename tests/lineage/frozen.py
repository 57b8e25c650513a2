"""Small frozen datasets, as curation writes them, made by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medllm_ops.curation.write.index import write_index
from medllm_ops.datasets.store import LATEST, Dataset, folder_of
from medllm_ops.datasets.verify import content_of, files_of
from medllm_ops.files import file_hash, link_to, write_json, write_json_lines

Rows = Mapping[str, str]


def freeze(
    name: str,
    version: int,
    train: Mapping[str, Rows],
    val: Mapping[str, Rows],
    *,
    removed: list[dict[str, Any]] | None = None,
    corpus: str = "",
    corpus_version: int = 0,
    index: bool = True,
    settings: dict[str, Any] | None = None,
    records: set[str] | None = None,
) -> Dataset:
    """A dataset of rows: by source, from id to text.

    :param records: the ids of records; by default, all that a row's id may stand for is indexed.
    """
    folder = folder_of(name) / str(version)
    dataset = Dataset(folder, name, version)
    sources = sorted({*train, *val})
    manifest: dict[str, Any] = {"sources": {}, "settings": settings or {}, "seed": 42}
    ledger = []
    gone = Counter((row["source"], row["step"], row["reason"]) for row in removed or [])
    for source in sources:
        figures: dict[str, Any] = {"hashes": {}}
        for side, rows in (("train", train), ("val", val)):
            lines = [
                {"id": id_, "messages": [{"role": "assistant", "content": text}]}
                for id_, text in rows.get(source, {}).items()
            ]
            figures[side] = write_json_lines(folder / side / f"{source}.jsonl", lines)
            figures["hashes"][side] = file_hash(folder / side / f"{source}.jsonl")
        manifest["sources"][source] = figures
        written = figures["train"] + figures["val"]
        dropped = {reason: rows for (of, _, reason), rows in gone.items() if of == source}
        rows_in = written + sum(dropped.values())
        ledger.append({"step": "read", "source": source, "in": rows_in, "out": written, "dropped": dropped})
        ledger.append({"step": "split", "source": source, "in": written, "out": written, "dropped": {}})
    write_json_lines(folder / "removed.jsonl", removed or [])
    write_json(folder / "ledger.json", ledger)
    if index:
        write_index(folder, None if records is None else lambda ids: [one in records for one in ids])
    if corpus:
        manifest["corpus"] = {"url": corpus, "version": corpus_version}
    manifest["files"] = files_of(folder)
    manifest["content"] = content_of(manifest["files"])
    write_json(folder / "manifest.json", manifest)
    link_to(folder_of(name) / LATEST, Path(str(version)))
    return dataset
