"""Which records that a dataset holds were retracted or deleted since it was built."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from medllm_ops.corpus.reader import Snapshot, open_corpus
from medllm_ops.curation.write.index import Hashes, hashes_of
from medllm_ops.datasets.ids import read_index
from medllm_ops.datasets.store import SIDES, Dataset
from medllm_ops.errors import MedllmError

log = logging.getLogger(__name__)

RETRACTED = "retracted"


class RetractedError(MedllmError):
    """A dataset holds more retracted or deleted records than allowed."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The retracted and deleted records of a source, in one version of the corpus."""

    ids: pa.ChunkedArray
    reasons: pa.ChunkedArray
    hashes: Hashes


@dataclass(frozen=True, slots=True)
class Hit:
    """A record that a dataset holds and that is withdrawn now."""

    id: str
    source: str
    side: str
    reason: str


@dataclass(frozen=True, slots=True)
class RetractedShare:
    """What of a dataset is withdrawn in a version of the corpus.

    ``records`` are those of the dataset by side; ``share`` is that of withdrawn ones among those to train on.
    """

    dataset: str
    corpus: str
    corpus_version: int
    records: dict[str, int]
    hits: list[Hit] = field(repr=False)

    def count(self, side: str) -> int:
        """How many of a side are withdrawn."""
        return sum(hit.side == side for hit in self.hits)

    @property
    def share(self) -> float:
        """Withdrawn records among those of the side ``train``, from 0 to 1."""
        return self.count("train") / self.records["train"] if self.records["train"] else 0.0

    def to_row(self) -> dict[str, Any]:
        """The counts, as JSON."""
        withdrawn = {side: self.count(side) for side in SIDES}
        corpus = {"url": self.corpus, "version": self.corpus_version}
        return {
            "dataset": self.dataset,
            "corpus": corpus,
            "records": self.records,
            "withdrawn": withdrawn,
            "share": self.share,
        }


class WithdrawnRecords:
    """The withdrawn records of a corpus; each source is read once, and only what a dataset asks for."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._sources: dict[str, Withdrawn] = {}

    def of(self, source: str) -> Withdrawn:
        """Those of one source."""
        if source not in self._sources:
            self._sources[source] = _withdrawn(self.snapshot, source)
        return self._sources[source]

    def in_dataset(self, dataset: Dataset) -> RetractedShare:
        """Those that a dataset holds."""
        records = dict.fromkeys(SIDES, 0)
        hits = []
        for index in read_index(dataset):
            records[index.side] += len(index.ids)
            # A set that is named otherwise is mixed of several sources.
            sources = self.snapshot.sources
            for source in [index.source] if index.source in sources else sources:
                withdrawn = self.of(source)
                for place in np.flatnonzero(index.has(withdrawn.hashes)).tolist():
                    name, reason = withdrawn.ids[place].as_py(), withdrawn.reasons[place].as_py()
                    hits.append(Hit(name, index.source, index.side, reason))
        hits.sort(key=lambda hit: hit.id)
        return RetractedShare(str(dataset), self.snapshot.storage.url, self.snapshot.version, records, hits)


def _withdrawn(snapshot: Snapshot, source: str) -> Withdrawn:
    ids, reasons, hashes = [pa.array([], pa.string())], [pa.array([], pa.string())], [np.empty(0, np.uint64)]
    for batch in snapshot.table(source, "records").scan(
        ("id", "deleted"), "deleted IS NOT NULL OR retracted", narrow=True
    ):
        ids.append(batch["id"])
        reasons.append(batch["deleted"].fill_null(RETRACTED))
        hashes.append(hashes_of(batch["id"].to_pylist()))
    return Withdrawn(pa.chunked_array(ids), pa.chunked_array(reasons), np.concatenate(hashes))


def corpus_of(datasets: Iterable[Dataset], url: str | None = None) -> Snapshot:
    """The newest version of the corpus that datasets were built from.

    :param url: of the corpus, where the datasets do not name one, or it has moved.
    :raises MedllmError: if they are of several corpora.
    """
    named = {str(dataset.manifest["corpus"]["url"]) for dataset in datasets if dataset.manifest.get("corpus")}
    if url is None and len(named) > 1:
        raise MedllmError(f"these datasets are of several corpora ({', '.join(sorted(named))}): name one by --corpus")
    return open_corpus(url or next(map(_unless_moved, named), None))


def _unless_moved(url: str) -> str | None:
    """The address of a corpus; None, for the home folder's, if it is a folder that is no more: the home was moved."""
    return url if "://" in url or Path(url).is_dir() else None


def retracted_share(dataset: Dataset, corpus: str | None = None) -> RetractedShare:
    """What of a dataset is withdrawn in the newest version of its corpus; one scan of narrow columns, and no text."""
    return WithdrawnRecords(corpus_of([dataset], corpus)).in_dataset(dataset)


def check_retracted(
    dataset: Dataset,
    max_retracted_share: float,
    beyond: Literal["warn", "stop"] = "warn",
    corpus: str | None = None,
) -> RetractedShare:
    """Look whether a dataset may still be trained on, or the model that was, still be served.

    :param max_retracted_share: of the records to train on, from 0 to 1.
    :param beyond: what to do where there are more: log a warning, or raise.
    :raises RetractedError: if ``beyond`` says so; it names the share, the limit and the remedy.
    """
    found = retracted_share(dataset, corpus)
    if found.share > max_retracted_share:
        said = (
            f"dataset {dataset}: {found.count('train'):,} of {found.records['train']:,} records to train on "
            f"({found.share:.3%}, allowed {max_retracted_share:.3%}) are retracted or deleted in version "
            f"{found.corpus_version} of the corpus: build it anew"
        )
        if beyond == "stop":
            raise RetractedError(said)
        log.warning("%s", said)
    return found
