"""Under which licences rows stand that name none themselves, and what a catalogue entry asks of their users."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from medllm_ops.curation.settings import CurationSettings
from medllm_ops.sources import catalogue


def licences_of_sources() -> dict[str, str]:
    """The licence of the rows of a source that name none, by source.

    It is the catalogue entry's, unless that says that it does not hold for every row (``licence_covers_rows: false``);
    the licence of such a row, and of a row of a source without an entry, is unknown.
    """
    return {entry.name: entry.licence for entry in catalogue() if entry.licence_covers_rows}


def duties(sources: Iterable[str]) -> dict[str, dict[str, str]]:
    """``credit`` and ``terms`` of the sources that have a catalogue entry."""
    entries = {entry.name: entry for entry in catalogue()}
    found = ((name, entries[name]) for name in sorted(sources) if name in entries)
    return {name: {"credit": entry.credit, "terms": entry.terms} for name, entry in found}


def strict(settings: CurationSettings, allowed: Collection[str]) -> CurationSettings:
    """The settings for a dataset: an unknown licence stops its build, unless they say ``licences.unknown: keep``.

    :param allowed: names of sources besides ``licences.allow``.
    """
    licences = settings.licences
    changes: dict[str, object] = {"allow": tuple(sorted({*licences.allow, *allowed}))}
    if licences.unknown is None:
        changes["unknown"] = "stop"
    return settings.model_copy(update={"licences": licences.model_copy(update=changes)})
