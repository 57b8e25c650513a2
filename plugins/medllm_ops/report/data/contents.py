"""One pass over the rows of a dataset: how many, what hash, which ids, and the first of them as text."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import xxhash

from medllm_ops.errors import MedllmError
from medllm_ops.report.data.dataset import DatasetFiles
from medllm_ops.report.data.model import SIDES, FileFigures, Sample, Script, Side
from medllm_ops.report.data.text import excerpt, scripts

# Rows stand in the order of a hash of their ids: the first ones of a file are a random sample of it.
READ: Final = 2000
KEPT_SAMPLES: Final = 2
_HEAD: Final = b'{"id":"'
_NECK: Final = b'","messages":'

Numbers = npt.NDArray[Any]


@dataclass(slots=True)
class Contents:
    """What is in the files of a dataset, ordered by id.

    ``ids`` and ``texts`` are 64-bit hashes (of 40 million rows, two ids share one with a chance of 1 in 20,000);
    ``file`` is the index in ``files`` and ``offset`` the byte where the row begins.
    """

    dataset: DatasetFiles
    files: list[FileFigures] = field(default_factory=list)
    scripts: list[Script] = field(default_factory=list)
    characters: list[Counter[str]] = field(default_factory=list)
    kept: list[Sample] = field(default_factory=list)
    ids: Numbers = field(default_factory=lambda: np.zeros(0, np.uint64))
    texts: Numbers = field(default_factory=lambda: np.zeros(0, np.uint64))
    file: Numbers = field(default_factory=lambda: np.zeros(0, np.uint16))
    offset: Numbers = field(default_factory=lambda: np.zeros(0, np.uint64))

    @property
    def sides(self) -> Numbers:
        """For each row whether it validates."""
        return np.array([file.side == "val" for file in self.files], bool)[self.file]

    def row(self, number: int) -> tuple[FileFigures, str, str]:
        """The file, the id and the whole text of a row."""
        figures = self.files[int(self.file[number])]
        with self.dataset.file(figures.side, figures.source).open("rb") as file:
            file.seek(int(self.offset[number]))
            row = orjson.loads(file.readline())
        return figures, row["id"], text_of(row)


def text_of(row: dict[str, Any]) -> str:
    """All turns of a row, one below the other."""
    turns = [message["content"] for message in row["messages"]]
    return "\n".join([*turns, *([row["rejected_response"]] if "rejected_response" in row else [])])


def read_contents(dataset: DatasetFiles) -> Contents:
    """Read the files of all sources.

    :raises MedllmError: naming the file and the line that is no row.
    """
    contents = Contents(dataset)
    ids, texts, offsets, files = array("Q"), array("Q"), array("Q"), array("H")
    for source in sorted(dataset.sources):
        for side in SIDES:
            before = len(ids)
            _read_file(contents, source, side, (ids, texts, offsets))
            files.extend([len(contents.files) - 1] * (len(ids) - before))
    hashes = np.asarray(ids, np.uint64)
    order = np.argsort(hashes, kind="stable")
    contents.ids, contents.texts = hashes[order], np.asarray(texts, np.uint64)[order]
    contents.file, contents.offset = np.asarray(files, np.uint16)[order], np.asarray(offsets, np.uint64)[order]
    return contents


def _read_file(contents: Contents, source: str, side: Side, into: tuple[array[int], array[int], array[int]]) -> None:
    path = contents.dataset.file(side, source)
    ids, texts, offsets = into
    whole, hash_of = xxhash.xxh3_128(), xxhash.xxh3_64_intdigest
    characters: Counter[str] = Counter()
    rows = read = offset = 0
    told = {
        "rows_told": contents.dataset.sources[source][side],
        "hash_told": contents.dataset.hash_told(side, source),
    }
    if path.is_file():
        with path.open("rb") as file:
            for line in file:
                rows += 1
                whole.update(line)
                neck = line.find(_NECK)
                if neck < 0 or not line.startswith(_HEAD):
                    raise MedllmError(f"{path}, line {rows} is no row as curate writes it: make the dataset again")
                ids.append(hash_of(line[len(_HEAD) : neck]))
                texts.append(hash_of(line[neck:]))
                offsets.append(offset)
                offset += len(line)
                if rows <= READ:
                    text = text_of(row := orjson.loads(line))
                    characters.update(text)
                    read = rows
                    if rows <= KEPT_SAMPLES:
                        contents.kept.append(Sample(id=row["id"], source=source, side=side, excerpt=excerpt(text)))
    contents.files.append(FileFigures(side=side, source=source, rows=rows, hash=whole.hexdigest(), **told))
    contents.scripts.append(Script(source=source, side=side, rows=read, characters=scripts(characters)))
    contents.characters.append(characters)
