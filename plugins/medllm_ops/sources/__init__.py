"""The sources: found by name in the catalogue, by folder, or by what a file's rows look like."""

from __future__ import annotations

import difflib
from itertools import islice
from pathlib import Path

from medllm_ops.errors import MedllmError, UnreadableFileError
from medllm_ops.fetch.location import data_files
from medllm_ops.sources import unrecognised
from medllm_ops.sources.base import Source
from medllm_ops.sources.catalogue import Entry, catalogue
from medllm_ops.sources.row import Row
from medllm_ops.sources.rows import read_rows

__all__ = ["UNRECOGNISED", "Entry", "all_sources", "catalogue", "get_entry", "get_source", "list_files", "sniff"]

UNRECOGNISED = unrecognised.NAME
"""The key of :func:`list_files` for files that no source knows."""

_ROWS_TO_SNIFF = 20


def all_sources() -> tuple[Source, ...]:
    """Every source, in the order in which the chain converts them.

    :raises MedllmError: if an entry of the catalogue, or its module, is broken.
    """
    return tuple(entry.source for entry in catalogue())


def get_entry(name: str) -> Entry:
    """The catalogue entry of that name or alias.

    :raises MedllmError: if there is none, with the names there are and the closest of them.
    """
    entries = {entry.name: entry for entry in catalogue()}
    aliases = {alias: entry.name for entry in entries.values() for alias in entry.aliases}
    if found := entries.get(aliases.get(name, name)):
        return found
    close = difflib.get_close_matches(name.lower(), [*entries, *aliases], n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise MedllmError(f"there is no source {name!r}{hint} (sources: {', '.join(entries)})")


def get_source(name: str) -> Source:
    """The source of that name or alias.

    :raises MedllmError: if there is none, with the names there are and the closest of them.
    """
    return unrecognised.SOURCE if name == UNRECOGNISED else get_entry(name).source


def sniff(path: Path) -> Source | None:
    """The source of a file of rows, by the keys of its first rows (CSV: by its header); ``None`` if none knows it."""
    try:
        first_rows = list(islice(read_rows(path), _ROWS_TO_SNIFF))
    except UnreadableFileError:
        return None
    formats = sorted(all_sources(), key=lambda source: source.precedence)
    for row in first_rows:
        for source in formats:
            if isinstance(row, Row) and source.recognises and source.recognises(row.data):
                return source
    return None


def list_files(raw: Path) -> dict[str, list[Path]]:
    """Assign every file below the folders of a folder of raw files to a source, sorted by path.

    Left out are hidden files, Word's lock files, checksums (``.md5``), DTDs and READMEs. A file of a folder of row
    formats that no source recognises stands under :data:`UNRECOGNISED`, so that nobody loses it unseen. A source
    without files has no key.

    :raises MedllmError: if ``raw`` is no folder.
    """
    folders = _folders()
    if not raw.is_dir():
        raise MedllmError(f"{raw}: no folder of raw files; give one with {', '.join(folders)} in it")
    files: dict[str, list[Path]] = {}
    for folder, source in folders.items():
        for path in data_files(raw / folder):
            found = source or sniff(path)
            files.setdefault(found.name if found else UNRECOGNISED, []).append(path)
    return files


def _folders() -> dict[str, Source | None]:
    """The source of each folder; ``None``: its files are told apart by their rows."""
    folders: dict[str, Source | None] = {}
    for source in all_sources():
        owner = None if source.recognises else source
        if source.folder in folders and not (owner is folders[source.folder] is None):
            raise MedllmError(f"source {source.name}: another source has the folder {source.folder}; choose its own")
        folders[source.folder] = owner
    return folders
