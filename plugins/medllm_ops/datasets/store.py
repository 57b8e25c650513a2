"""Where frozen datasets lie: ``datasets/<name>/<version>/`` in the home folder; ``latest`` links to the last one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json
from medllm_ops.home import home

LATEST = "latest"
SIDES = ("train", "val")
MANIFEST = "manifest.json"
REPORT = "report"
"""The folder of a dataset's report, which is no part of it."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A frozen dataset in its folder. One that has no name was made by ``curate``, or by a run for itself."""

    directory: Path
    name: str = ""
    version: int = 0

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.name else str(self.directory)

    @property
    def manifest(self) -> dict[str, Any]:
        """What ``manifest.json`` says.

        :raises MedllmError: if there is none, or it cannot be read.
        """
        path = self.directory / MANIFEST
        try:
            manifest = read_json(path)
        except FileNotFoundError as error:
            raise MedllmError(f"{self.directory} is no dataset: it has no {MANIFEST}") from error
        except ValueError as error:
            raise MedllmError(f"{path} is damaged: {error}") from error
        if not isinstance(manifest, dict):
            raise MedllmError(f"{path} is damaged: it is no mapping")
        return manifest

    def files(self) -> Iterator[tuple[str, str, Path]]:
        """Side, source and path of each file of rows."""
        for side in SIDES:
            for path in sorted((self.directory / side).glob("*.jsonl")):
                yield side, path.stem, path


def folder_of(name: str) -> Path:
    """The folder of all versions of a dataset, which need not be there.

    :raises MedllmError: if the name is no folder name.
    """
    if not _NAME.fullmatch(name) or name == LATEST:
        raise MedllmError(f"dataset name {name!r}: letters, digits and ._+- only, at most 100, and not {LATEST!r}")
    return home() / "datasets" / name


def names() -> list[str]:
    """The names of all datasets."""
    found = sorted(path.name for path in (home() / "datasets").glob("*/") if not path.name.startswith("."))
    return [name for name in found if versions(name)]


def versions(name: str) -> list[int]:
    """The versions of a dataset, oldest first; none if there is no such dataset."""
    found = folder_of(name).glob(f"*/{MANIFEST}")
    return sorted(int(path.parent.name) for path in found if path.parent.name.isdecimal())


def every_dataset() -> Iterator[Dataset]:
    """All versions of all datasets."""
    for name in names():
        for version in versions(name):
            yield Dataset(folder_of(name) / str(version), name, version)


def find_dataset(name: str, version: int | str | None = None) -> Dataset:
    """A dataset by its name, or by ``NAME@VERSION``, or by its folder.

    :param version: a number or ``latest``, which it is by default.
    :raises MedllmError: naming the datasets, or the versions, that there are.
    """
    if is_folder(name):
        return of_folder(Path(name))
    name, _, told = name.partition("@")
    wanted = version if version is not None else told or LATEST
    found = versions(name)
    if not found:
        raise MedllmError(f"there is no dataset {name!r} (datasets: {', '.join(names()) or 'none'})")
    if wanted == LATEST:
        number = _latest(name, found)
    elif not str(wanted).isdecimal() or int(wanted) not in found:
        raise MedllmError(f"dataset {name} has no version {wanted} (versions: {', '.join(map(str, found))})")
    else:
        number = int(wanted)
    return Dataset(folder_of(name) / str(number), name, number)


def is_folder(name: str) -> bool:
    """Whether a dataset is told by its folder, and not by its name."""
    return "/" in name or Path(name, MANIFEST).is_file()


def of_folder(folder: Path) -> Dataset:
    """The dataset in a folder: one with a name if it lies among the others.

    :raises MedllmError: if the folder holds no dataset.
    """
    folder = folder.expanduser().resolve()
    if not (folder / MANIFEST).is_file():
        raise MedllmError(f"{folder} is no dataset: it has no {MANIFEST}")
    if folder.parent.parent == (home() / "datasets").resolve() and folder.name.isdecimal():
        return Dataset(folder, folder.parent.name, int(folder.name))
    return Dataset(folder)


def dataset_of(name: str, version: int | str | None = None) -> Path:
    """The folder of a dataset; see :func:`find_dataset`."""
    return find_dataset(name, version).directory


def _latest(name: str, found: list[int]) -> int:
    try:
        told = (folder_of(name) / LATEST).readlink().name
    except OSError:  # no link: a build was killed before it made the first one
        return found[-1]
    return int(told) if told.isdecimal() and int(told) in found else found[-1]


@contextmanager
def locked(folder: Path, wait: float, otherwise: str) -> Iterator[None]:
    """Keep others from building in a folder for the time of the block.

    :param wait: seconds to wait for another build.
    :param otherwise: what the error says if it has not ended by then.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=wait)
    except Timeout as error:
        raise MedllmError(otherwise) from error
    try:
        yield
    finally:
        lock.release()
