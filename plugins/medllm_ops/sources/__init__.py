"""The registry of sources: one module each, found by name, by folder, or by what a file's rows look like."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError, UnreadableFileError
from medllm_ops.sources import (
    alpaca,
    clinicaltrials,
    conversations,
    deepctrl,
    disc_medllm,
    docx,
    messages,
    preference,
    pubmed,
    query_response,
    tcm_books,
    unrecognised,
)
from medllm_ops.sources.base import Source
from medllm_ops.sources.row import Row
from medllm_ops.sources.rows import read_rows

UNRECOGNISED = unrecognised.NAME
"""The key of :func:`list_files` for files that no source knows."""
ROW_FOLDER = "sft"
ALIASES = {"tcm": "tcm_books", "disc": "disc_medllm", "swift": "messages"}

SOURCES: tuple[Source, ...] = (
    pubmed.SOURCE,
    clinicaltrials.SOURCE,
    tcm_books.SOURCE,
    docx.SOURCE,
    alpaca.SOURCE,
    deepctrl.SOURCE,
    disc_medllm.SOURCE,
    messages.SOURCE,
    conversations.SOURCE,
    query_response.SOURCE,
    preference.SOURCE,
)

# The first that recognises a row has it: the narrower formats come first.
_RECOGNISERS: tuple[tuple[Source, Callable[[dict[str, Any]], bool]], ...] = (
    (preference.SOURCE, preference.recognises),
    (disc_medllm.SOURCE, disc_medllm.recognises),
    (messages.SOURCE, messages.recognises),
    (conversations.SOURCE, conversations.recognises),
    (deepctrl.SOURCE, deepctrl.recognises),
    (alpaca.SOURCE, alpaca.recognises),
    (query_response.SOURCE, query_response.recognises),
)
_ROWS_TO_SNIFF = 20
_NO_DATA_SUFFIXES = (".md5", ".dtd")


def all_sources() -> tuple[Source, ...]:
    """Every source, in the order in which the chain converts them."""
    return SOURCES


def get_source(name: str) -> Source:
    """The source of that name or alias.

    :raises MedllmError: if there is none, with the names there are and the closest of them.
    """
    if name == UNRECOGNISED:
        return unrecognised.SOURCE
    by_name = {source.name: source for source in SOURCES}
    if found := by_name.get(ALIASES.get(name, name)):
        return found
    close = difflib.get_close_matches(name.lower(), [*by_name, *ALIASES], n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise MedllmError(f"there is no source {name!r}{hint} (sources: {', '.join(by_name)})")


def sniff(path: Path) -> Source | None:
    """The source of a file of rows, by the keys of its first rows (CSV: by its header); ``None`` if none knows it."""
    try:
        first_rows = list(islice(read_rows(path), _ROWS_TO_SNIFF))
    except UnreadableFileError:
        return None
    for row in first_rows:
        for source, recognises in _RECOGNISERS:
            if isinstance(row, Row) and recognises(row.data):
                return source
    return None


def list_files(raw: Path) -> dict[str, list[Path]]:
    """Assign every file below the folders of a folder of raw files to a source, sorted by path.

    Left out are hidden files, Word's lock files, checksums (``.md5``), DTDs and READMEs. A file in ``sft`` that no
    source recognises stands under :data:`UNRECOGNISED`, so that nobody loses it unseen. A source without files has
    no key.

    :raises MedllmError: if ``raw`` is no folder.
    """
    if not raw.is_dir():
        raise MedllmError(f"{raw}: no folder of raw files; give one with {', '.join(_folders())} in it")
    files: dict[str, list[Path]] = {}
    for folder, source in _folders().items():
        for path in _data_files(raw / folder):
            found = source or sniff(path)
            files.setdefault(found.name if found else UNRECOGNISED, []).append(path)
    return files


def _folders() -> dict[str, Source | None]:
    return {source.folder: None if source.folder == ROW_FOLDER else source for source in SOURCES}


def _data_files(folder: Path) -> list[Path]:
    found = []
    for directory, subfolders, names in os.walk(folder, followlinks=False):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(directory, name) for name in names if _is_data(name)]
    return sorted(found)


def _is_data(name: str) -> bool:
    return not (
        name.startswith((".", "~$")) or name.upper().startswith("README") or name.lower().endswith(_NO_DATA_SUFFIXES)
    )
