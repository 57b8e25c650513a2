"""Build a frozen dataset from the corpus: whole or not at all, and the same content only once."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from medllm_ops.corpus.reader import open_corpus
from medllm_ops.curation.curate import check_files
from medllm_ops.curation.funnel import by_step, read_ledger
from medllm_ops.curation.settings import CurationSettings
from medllm_ops.curation.workers import Runner
from medllm_ops.curation.write.tokens import tokenizer_hash
from medllm_ops.curation.write.write import write_dataset
from medllm_ops.datasets.feed import WAIT_SECONDS, Fed, Work, fed
from medllm_ops.datasets.goal import Goal, goal_of
from medllm_ops.datasets.licences import duties, licences_of_sources, strict
from medllm_ops.datasets.selection import Selection
from medllm_ops.datasets.store import LATEST, MANIFEST, Dataset, find_dataset, folder_of, locked, versions
from medllm_ops.datasets.verify import content_of, files_of
from medllm_ops.errors import MedllmError
from medllm_ops.files import code_hash, file_hash, link_to, read_json, text_hash, to_json_line, write_json

log = logging.getLogger(__name__)

_DRAFT = ".draft"


def build_dataset(
    name: str,
    *,
    corpus: str | None = None,
    version: int | str | None = None,
    sources: Collection[str] | None = None,
    settings: CurationSettings | None = None,
    evalsets: Sequence[Path] = (),
    workers: int = 1,
    runner: Runner = "local",
    allow_licences: Collection[str] = (),
    wait: float = WAIT_SECONDS,
) -> Dataset:
    """Build a dataset of a version of the corpus, or find the one that was built of the same before.

    Its folder is ``datasets/<name>/<version>`` in the home folder, where the version counts up; what would have the
    content of an earlier version is that version. ``latest`` links to what was built last.

    :param corpus: the corpus's address; ``corpus/`` in the home folder by default.
    :param version: of the corpus, a number or a tag. By default, the latest one, and of sources whose refresh goes on
        what they had before it began.
    :param sources: only these; all by default. Duplicates are looked for among all of them nevertheless.
    :param settings: of curation; the defaults if left out.
    :param evalsets: the files that the model will be evaluated on.
    :param allow_licences: names of sources whose licences are allowed, besides ``licences.allow`` of the settings.
    :param wait: seconds to wait for another build from the same corpus, or of the same name.
    :raises LedgerError: if a step drops more than it may.
    :raises MedllmError: in one clear sentence; a licence that is denied or unknown is named with its source.
    """
    settings = strict(settings or CurationSettings(), allow_licences)
    folder = folder_of(name)
    check_files(evalsets)
    snapshot = open_corpus(corpus, version)
    decisive = {
        "settings": settings.model_dump(mode="json"),
        "evalsets": [[path.name, file_hash(path)] for path in sorted(evalsets, key=lambda path: path.name)],
        "tokenizer": tokenizer_hash(Path(settings.chunk.tokenizer)) if settings.chunk.tokenizer else None,
        "sources": None if sources is None else sorted(sources),
        "licences": licences_of_sources(),
        "code": code_hash(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, wait, f"another build of dataset {folder.name} has not ended: wait until it has"):
        goal = goal_of(snapshot, exact=version is not None)
        _check_sources(goal, sources)
        key = text_hash(to_json_line([snapshot.storage.url, goal.facts, decisive]).decode())
        if (earlier := _with(name, "key", key)) is not None:
            return _latest(name, earlier)
        with fed(goal, Work(settings, workers, runner), wait) as known:
            draft = folder / _DRAFT
            shutil.rmtree(draft, ignore_errors=True)
            log.info("writing the dataset")
            write_dataset(
                Selection(known.state, sources, licences_of_sources()),
                draft,
                settings,
                evalsets=evalsets,
                worker_count=workers,
                runner=runner,
            )
            _check_rows(Dataset(draft))
            manifest = _completed(Dataset(draft), goal, known, key)
        if (earlier := _with(name, "content", manifest["content"])) is not None:
            shutil.rmtree(draft)
            return _latest(name, earlier)
        number = max(versions(name), default=0) + 1
        draft.rename(folder / str(number))
        return _latest(name, number)


def _latest(name: str, version: int) -> Dataset:
    link_to(folder_of(name) / LATEST, Path(str(version)))
    return find_dataset(name, version)


def _check_sources(goal: Goal, sources: Collection[str] | None) -> None:
    where = f"corpus {goal.snapshot.storage.url}, version {goal.snapshot.version}"
    going_on = f"; the refresh of {', '.join(goal.unfinished)} has not ended yet" if goal.unfinished else ""
    if not goal.facts:
        raise MedllmError(
            f"{where}, has no records{going_on or ': bring some into it with `medllm-ops corpus refresh SOURCE`'}"
        )
    if unknown := sorted({*(sources or ())} - {*goal.facts}):
        there = ", ".join(goal.facts)
        raise MedllmError(f"{where}, has nothing of {', '.join(unknown)} (sources: {there}){going_on}")


def _check_rows(dataset: Dataset) -> None:
    if not dataset.manifest["sources"]:
        steps = by_step(read_ledger(dataset.directory)).items()
        told = (f"{step}: {reason} {rows:,}" for step, (_, _, dropped) in steps for reason, rows in dropped.items())
        raise MedllmError(f"no source is left with rows on both sides ({'; '.join(told)}): nothing can be trained on")


def _with(name: str, field: str, value: str) -> int | None:
    """The version whose manifest says so."""
    for number in reversed(versions(name)):
        if read_json(folder_of(name) / str(number) / MANIFEST).get(field) == value:
            return number
    return None


def _completed(dataset: Dataset, goal: Goal, known: Fed, key: str) -> dict[str, Any]:
    """Add to a dataset what only we know: where the records are from, the duties, and all hashes."""
    memory = known.memory
    taken = {name: one.model_dump() for name, one in sorted(memory.sources.items())}
    corpus = {"url": goal.snapshot.storage.url, "version": goal.snapshot.version, "sources": taken}
    files = files_of(dataset.directory)
    manifest = dataset.manifest
    manifest |= {
        "corpus": {**corpus, "unfinished": dict(sorted(goal.unfinished.items()))},
        "history": [list(step) for step in memory.history],
        "duties": duties(manifest["sources"]),
        "files": files,
        "content": content_of(files),
        "key": key,
    }
    write_json(dataset.directory / MANIFEST, manifest)
    return manifest
