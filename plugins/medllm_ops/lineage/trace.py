"""The whole way of a record, and what is withdrawn of all that was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm_ops.corpus.reader import Snapshot, open_corpus
from medllm_ops.curation.write.index import forms
from medllm_ops.datasets.lineage import Life, Place, life_of, places_of
from medllm_ops.datasets.retracted import RetractedShare, WithdrawnRecords, corpus_of
from medllm_ops.datasets.store import Dataset, every_dataset
from medllm_ops.lineage.runs import TrainedRun, services_of, stage_of, trained_runs
from medllm_ops.serving.registry import Service


@dataclass(frozen=True, slots=True)
class Use:
    """A run whose dataset holds a record: the models that were trained on it, and what serves them now.

    Of a record on the side ``val`` there are no models: it measured them, and did not teach them.
    """

    run: TrainedRun
    place: Place
    models: dict[str, Path]
    services: list[Service]

    def to_row(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "run": self.run.name,
            "dataset": str(self.place.dataset),
            "side": self.place.side,
            "models": {stage: str(path) for stage, path in self.models.items()},
            "services": [{"name": one.name, "url": one.url} for one in self.services],
        }


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a record has been. ``life`` is None if the corpus never had it."""

    id: str
    corpus: str
    corpus_version: int
    life: Life | None
    places: list[Place]
    uses: list[Use]

    def to_row(self) -> dict[str, Any]:
        """As JSON."""
        life = self.life
        told = life and {
            "source": life.source,
            "alive": life.alive,
            "retracted": life.retracted,
            "lived": life.lived,
            "facts": [
                {
                    "event": fact.event,
                    "version": fact.version,
                    "date": fact.date,
                    "file": fact.file,
                    "corpus_version": fact.corpus_version,
                    "is_first": fact.is_first,
                }
                for fact in life.facts
            ],
        }
        return {
            "id": self.id,
            "corpus": {"url": self.corpus, "version": self.corpus_version, "record": told},
            "datasets": [place.to_row() for place in self.places],
            "runs": [use.to_row() for use in self.uses],
        }


def trace(record_id: str, corpus: str | None = None) -> Trace:
    """Where a record has been: corpus versions, datasets, runs, models, services.

    :param record_id: of the record, or of a line that a dataset has of it (``<id>#<k>``).
    :raises MedllmError: if the corpus, a dataset or a run cannot be read.
    """
    runs = list(trained_runs())
    snapshot = open_corpus(corpus)
    record_id, life, places = _known(record_id, snapshot, _datasets(runs))
    holders = {place.dataset.directory for place in places if place.side}
    uses = [
        _use(run, place)
        for run in runs
        if run.dataset.directory in holders  # else there is nothing to look for in what was made of it
        for place in places_of(record_id, [run.seen])
        if place.side
    ]
    return Trace(record_id, snapshot.storage.url, snapshot.version, life, places, uses)


def _known(line_id: str, snapshot: Snapshot, datasets: Sequence[Dataset]) -> tuple[str, Life | None, list[Place]]:
    """The id of the record that a line may be of: one that the corpus knows, else one that a dataset does."""
    found = [(form, life_of(snapshot, form), list(places_of(form, datasets))) for form in forms(line_id)]
    of_datasets = (one for one in found if one[2])
    return next((one for one in found if one[1]), next(of_datasets, found[0]))


def _datasets(runs: Iterable[TrainedRun]) -> list[Dataset]:
    """Those with a name, and those that runs curated for themselves."""
    found = {dataset.directory.resolve(): dataset for dataset in every_dataset()}
    for run in runs:
        found.setdefault(run.dataset.directory.resolve(), run.dataset)
    return list(found.values())


def _use(run: TrainedRun, place: Place) -> Use:
    stage = stage_of(run, place.source)
    models = run.models_after([stage] if stage else run.stages) if place.side == "train" else {}
    return Use(run, place, models, services_of(models.values()))


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What is withdrawn of a dataset, and what it reached: runs, their models, and what serves them now."""

    share: RetractedShare
    dataset: Dataset
    runs: list[TrainedRun]
    services: list[Service]

    def to_row(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **self.share.to_row(),
            "runs": [run.name for run in self.runs],
            "models": [str(path) for run in self.runs for path in run.models.values()],
            "services": [{"name": one.name, "url": one.url} for one in self.services],
            "records_withdrawn": [
                {"id": hit.id, "source": hit.source, "side": hit.side, "reason": hit.reason} for hit in self.share.hits
            ],
        }


def withdrawn(datasets: Sequence[Dataset] | None = None, corpus: str | None = None) -> list[Withdrawn]:
    """What of datasets is retracted or deleted in the newest version of the corpus.

    :param datasets: all by default, those that runs made for themselves among them.
    :raises MedllmError: if the corpus, a dataset or a run cannot be read.
    """
    runs = list(trained_runs())
    chosen = _datasets(runs) if datasets is None else datasets
    known: dict[str, WithdrawnRecords] = {}
    found = []
    for dataset in chosen:
        own = [run for run in runs if dataset.directory in (run.dataset.directory, run.seen.directory)]
        snapshot = corpus_of([dataset, *(run.dataset for run in own)], corpus)
        records = known.setdefault(snapshot.storage.url, WithdrawnRecords(snapshot))
        share = records.in_dataset(dataset)
        services = services_of(path for run in own for path in run.models.values())
        found.append(Withdrawn(share, dataset, own, services))
    return found
