"""Under which licences the rows of a dataset stand, and which of them stop its build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

from medllm_ops.curation.settings import LicenceSettings
from medllm_ops.errors import MedllmError
from medllm_ops.sources import catalogue
from medllm_ops.sources.catalogue import Entry

UNKNOWN = ""
"""How a licence that nobody knows is written."""


class LicenceError(MedllmError):
    """A licence that nobody allowed."""


def licences_of(counts: Mapping[str, Mapping[str, int]]) -> dict[str, Counter[str]]:
    """The rows of each source by licence; :data:`UNKNOWN` stands for none.

    A row that names no licence has that of its source's catalogue entry, unless the entry says that it does not hold
    for every row (``licence_covers_rows: false``).

    :param counts: rows by source and by the licence that they name themselves.
    """
    entries = {entry.name: entry for entry in catalogue()}
    found: dict[str, Counter[str]] = {}
    for source, named in counts.items():
        found[source] = Counter()
        for licence, rows in named.items():
            found[source][licence.strip() or _of_entry(entries.get(source))] += rows
    return found


def _of_entry(entry: Entry | None) -> str:
    return entry.licence if entry is not None and entry.licence_covers_rows else UNKNOWN


def check_licences(
    counts: Mapping[str, Mapping[str, int]], settings: LicenceSettings, allowed: Collection[str] = ()
) -> dict[str, Any]:
    """Stop if a source has rows under a licence that is denied, or unknown.

    :param counts: rows by source and by the licence that they name themselves.
    :param allowed: names of sources besides ``settings.allow``.
    :return: for the manifest, by source: its ``licences`` (rows by licence), ``allowed`` (whether somebody had to), and
        ``credit`` and ``terms`` of its catalogue entry.
    :raises LicenceError: naming each such source, its licence, and the setting that allows it.
    """
    by_name = {*settings.allow, *allowed}
    entries = {entry.name: entry for entry in catalogue()}
    told, problems = {}, []
    for source, licences in sorted(licences_of(counts).items()):
        wrong = [why for licence, rows in sorted(licences.items()) if (why := _problem(licence, rows, settings))]
        if wrong and source not in by_name:
            problems.append(f"source {source}: {', and '.join(wrong)}")
        entry = entries.get(source)
        told[source] = {
            "licences": dict(sorted(licences.items())),
            "allowed": bool(wrong),
            "credit": entry.credit if entry else "",
            "terms": entry.terms if entry else "",
        }
    if problems:
        names = ", ".join(problem.removeprefix("source ").partition(":")[0] for problem in problems)
        raise LicenceError(
            f"{'; '.join(problems)}: leave out what may not be used, or allow it by name: "
            f"licences.allow: [{names}] in the settings, or --allow-licence for each"
        )
    return told


def _problem(licence: str, rows: int, settings: LicenceSettings) -> str:
    if licence == UNKNOWN:
        return f"{rows:,} rows have no licence that is known" if settings.unknown == "stop" else ""
    for pattern in settings.deny:
        if fnmatchcase(licence.casefold(), pattern.casefold()):
            return f"the licence {licence!r} of {rows:,} rows is denied (licences.deny: {pattern})"
    return ""
