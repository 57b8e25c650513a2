"""What the corpus has that the last version of a dataset does not know."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from medllm_ops.corpus.reader import open_corpus
from medllm_ops.datasets.store import find_dataset, versions
from medllm_ops.errors import MedllmError

log = logging.getLogger(__name__)


def taken_until(
    name: str, corpus: str | None = None, version: int | str | None = None, sources: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """For each source, how far the last version of a dataset took it in; what :func:`changes_since` takes, as JSON.

    :param sources: only these; by default all that the corpus has.
    :raises MedllmError: if the corpus has no records, or none of one of the sources.
    """
    snapshot = open_corpus(corpus or None, version or None)
    wanted = list(sources or snapshot.sources)
    if missing := [source for source in wanted if source not in snapshot.sources]:
        there = ", ".join(snapshot.sources) or "nothing"
        raise MedllmError(f"corpus {snapshot.storage.url} has nothing of {', '.join(missing)}; it has {there}")
    if not wanted:
        raise MedllmError(f"corpus {snapshot.storage.url} has no records: refresh a source first")
    taken: dict[str, Any] = {}
    if versions(name):
        of_corpus = find_dataset(name).manifest.get("corpus", {})
        taken = of_corpus.get("sources", {}) if of_corpus.get("url") == snapshot.storage.url else {}
    found = []
    for source in wanted:
        since = taken.get(source, {"version": 0, "facts": 0})
        place = {"corpus": snapshot.storage.url, "version": snapshot.version}
        found.append({"source": source, **place, "since": since["version"], "facts": since["facts"]})
    return found


def changes_since(source: str, corpus: str, version: int, since: int, facts: int) -> dict[str, Any]:
    """How many records of a source were added, corrected or retracted, and how many are gone, since a version.

    :return: ``{"source", "changed", "gone"}``.
    """
    snapshot = open_corpus(corpus, version)
    found = snapshot.changes(source, since, facts)
    changed = snapshot.counts(source)["alive"] if found.changed is None else len(found.changed)
    log.info("%s: %d records are new or changed since version %d, %d are gone", source, changed, since, len(found.gone))
    return {"source": source, "changed": changed, "gone": len(found.gone)}
