"""What all places of a user's own choice share: which files are data, and news of those that were removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field, field_validator

from medllm_ops.fetch.base import FetchedFile, FetchError, FetchSettings, Known
from medllm_ops.files import text_hash

_SPOOL = "brought"
_NO_DATA_SUFFIXES = (".md5", ".dtd")


class Settings(FetchSettings):
    """What the fetcher of a place can be told."""

    location: str = Field(default="", description="Where the files lie.")
    patterns: tuple[str, ...] = Field(
        default=(), description="Only files whose name or path matches one of these, such as *.docx; none: all."
    )

    @field_validator("patterns", mode="before")
    @classmethod
    def _one_alone(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


def is_data(name: str) -> bool:
    """Whether a file of that name is data: not hidden, no lock file of Word, no README, checksum or DTD."""
    return not (
        name.startswith((".", "~$")) or name.upper().startswith("README") or name.lower().endswith(_NO_DATA_SUFFIXES)
    )


def is_data_path(path: str) -> bool:
    """Whether a path below a place names data: :func:`is_data`, and in no hidden folder."""
    *folders, name = PurePosixPath(path).parts or ("",)
    return bool(name) and is_data(name) and not any(folder.startswith(".") for folder in folders)


def data_files(folder: Path) -> list[Path]:
    """All data files below a folder, sorted; links to folders are not followed.

    :raises FetchError: if a folder cannot be read: its files must not pass for removed ones.
    """
    found = []
    for directory, subfolders, names in os.walk(folder, onerror=_refuse, followlinks=False):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(directory, name) for name in names if is_data(name)]
    return sorted(found)


def _refuse(error: OSError) -> None:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return  # there is none, or none any more
    raise FetchError(f"{error.filename}: {error.strerror or error}; nothing was changed") from error


def chosen(paths: Collection[str], patterns: Sequence[str], place: str) -> list[str]:
    """The paths that match one of the patterns, sorted; without patterns all.

    :raises FetchError: if there is none: a place that is empty by mistake must not empty the corpus.
    """
    found = sorted(path for path in paths if not patterns or _matches(path, patterns))
    if not found:
        wanted = f"file that matches {', '.join(patterns)}" if patterns else "file of data"
        some = ", ".join(sorted(paths)[:5]) + (", …" if len(paths) > 5 else "")
        raise FetchError(f"{place} has no {wanted}: it has {some or 'none at all'}; nothing was changed")
    return found


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text, each) for each in patterns for text in (path, PurePosixPath(path).name))


def removed(prefix: str, names: Collection[str], known: Known) -> Iterator[FetchedFile]:
    """News of the files of a place that are no longer there.

    It comes after the new files: records of a file that was renamed are then held by its new name.

    :param prefix: what the names of all its files begin with.
    """
    for name in sorted(known.files):
        if name.startswith(prefix) and name not in names:
            yield FetchedFile(name=name, path=None)


def clear_spool(folder: Path) -> None:
    """Remove what refreshes that were killed left behind; call it before the first :func:`spool_path`."""
    shutil.rmtree(folder / _SPOOL, ignore_errors=True)


def spool_path(folder: Path, name: str) -> Path:
    """Where a file of that name is brought to: a folder of its own, so that it keeps its last name and suffixes."""
    path = folder / _SPOOL / text_hash(name)[:16] / PurePosixPath(name).name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
