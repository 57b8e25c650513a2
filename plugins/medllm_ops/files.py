"""Files that appear whole or not at all, JSON lines, and content hashes."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

import orjson
import xxhash

from medllm_ops.errors import MedllmError

# Line ends only at "\n": U+2028 and its kin are text inside JSON strings.
_JSON_LINE = orjson.OPT_APPEND_NEWLINE

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a write for which there was no room."""


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have the error of a full disk name what was being written: the system names no file where a write fails."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(path)
        raise


def _beside(path: Path, ending: str) -> Path:
    # The kernel's number of this thread, unique on the machine: two threads may write one file at once.
    return path.with_name(f".{path.name}.{threading.get_native_id()}.{ending}")


@contextmanager
def write_whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside ``path`` for writing; it takes the name ``path`` only when the block ends well.

    The data reach the disk before the name does, so a crash or a full disk leaves the old file or none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path, "part")
    try:
        with _naming(path), part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Make a directory beside ``path`` to fill; it replaces ``path`` only when the block ends well.

    :raises MedllmError: if another process is at it.
    """
    path = path.absolute()
    with alone_at(path), _naming(path), _temporary(_beside(path, "part")) as part:
        yield part
        put_in_place(part, path)


@contextmanager
def alone_at(path: Path) -> Iterator[None]:
    """Keep other writers from the directory ``path`` for the time of the block; what was killed beside it is undone.

    :raises MedllmError: if another process is at it.
    """
    with _locked(path, "lock"):
        _settle(path)
        yield


def put_in_place(part: Path, path: Path) -> None:
    """Give a finished directory its name; an older one of that name makes way, and is removed."""
    if path.exists():
        # A directory cannot be renamed over one that has content: move the old one away first.
        old = _beside(path, "old")
        path.rename(old)
        part.rename(path)
        shutil.rmtree(old)
    else:
        part.rename(path)


def _settle(path: Path) -> None:
    # An older directory that had just made way comes back; the rest goes.
    if not path.exists():
        for old in sorted(path.parent.glob(f".{glob.escape(path.name)}.*.old"))[:1]:
            old.rename(path)
    remove_parts(path)


def _tidy(path: Path) -> None:
    # What a process left that was killed when the directory had its name already; another writer does it itself.
    if any(path.parent.glob(f".{glob.escape(path.name)}.*")):
        with suppress(MedllmError), alone_at(path):
            pass


@contextmanager
def work_beside(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` for what is needed until the block ends; one that a killed process left is removed.

    :raises MedllmError: if another process is at ``path``.
    """
    path = path.absolute()
    # Another lock than the directory's own: that is written while its work lies beside it.
    with _locked(path, "work.lock"):
        _remove_left(path, "work")
        with _temporary(_beside(path, "work")) as work:
            yield work


def remove_parts(path: Path) -> None:
    """Remove what killed writers of ``path`` left beside it; a directory's other writers must be kept away."""
    _remove_left(path, "part")
    _remove_left(path, "old")


def _remove_left(path: Path, ending: str) -> None:
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.{ending}"):
        remove(leftover)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; it may be gone already."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(path: Path, ending: str) -> Iterator[None]:
    """Hold the file ``.<name>.<ending>`` beside ``path``; the kernel lets go of it when this process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.{ending}")
    descriptor = _lock(file, path)
    try:
        yield
    finally:
        # Only who holds the file removes it, and does so before it lets go: see _lock.
        file.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(file: Path, path: Path) -> int:
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise MedllmError(f"{path} is being made by another process: wait until it has ended") from None
        except OSError:  # some network file systems lock nothing: there, two at once end in an error of one of them
            return descriptor
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # its holder has removed it between the opening and the locking: it keeps nobody away


def link_to(link: Path, target: Path) -> None:
    """Make ``link`` a symbolic link to ``target``; a reader finds the old one or the new one at any instant.

    :raises MedllmError: if ``link`` is there and is something else than a link: it would be lost.
    """
    if link.exists() and not link.is_symlink():
        raise MedllmError(f"{link} must be a link, but is none: move it away")
    link.parent.mkdir(parents=True, exist_ok=True)
    remove_parts(link)
    part = _beside(link, "part")
    try:
        part.symlink_to(target)
        part.replace(link)
    finally:
        part.unlink(missing_ok=True)


def make_once(out: Path, inputs: Any, make: Callable[[Path], Any]) -> bool:
    """Call ``make`` with a folder that becomes ``out``, unless ``out`` was made from equal ``inputs`` before.

    The folder keeps the hash of what it was made from in ``key.json``; the code that makes data is part of it, so
    a changed parser makes its records anew.

    :param inputs: anything that becomes JSON: settings, and the hashes of files.
    :return: whether it was made now.
    :raises MedllmError: if ``out`` is there and was not made by this function: it would be lost.
    """
    key = text_hash(to_json_line([inputs, code_hash()]).decode())
    mark = out / "key.json"
    if mark.is_file() and read_json(mark)["key"] == key:
        _tidy(out)
        return False
    if not mark.is_file() and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise MedllmError(f"{out} is there and holds something else, which would be lost: name another folder")
    with whole_directory(out) as folder:
        make(folder)
        write_json(folder / mark.name, {"key": key})
    return True


@cache
def code_hash(*places: str) -> str:
    """A hash of the code that makes data, with its lists of words, or of some files and folders of this package."""
    root = Path(__file__).parent
    files: list[Path] = []
    for place in places or ("records.py", "sources", "curation", "datasets"):
        path = root / place
        files += [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.suffix in (".py", ".txt"))
    return text_hash("".join(file_hash(path) for path in files))


def to_json_line(row: Any) -> bytes:
    """One row as UTF-8 JSON with its newline; the key order is the row's own."""
    return orjson.dumps(row, option=_JSON_LINE)


def write_json_lines(path: Path, rows: Iterable[Any]) -> int:
    """Write rows to ``path``, whole or not at all, and return how many there were."""
    count = 0
    with write_whole(path) as file:
        for row in rows:
            file.write(to_json_line(row))
            count += 1
    return count


def read_json_lines(path: Path) -> Iterator[Any]:
    """Read rows that :func:`write_json_lines` wrote.

    :raises ValueError: (``orjson.JSONDecodeError``) on a line that is not JSON: our own files have none.
    """
    with path.open("rb") as file:
        for line in file:
            yield orjson.loads(line)


def count_lines(path: Path) -> int:
    """The number of newline-terminated lines on disk, read in blocks."""
    lines = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            lines += block.count(b"\n")
    return lines


def write_json(path: Path, value: Any) -> None:
    """Write one indented JSON document, whole or not at all."""
    with write_whole(path) as file:
        file.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def read_json(path: Path) -> Any:
    """Read one JSON document."""
    return orjson.loads(path.read_bytes())


def text_hash(text: str) -> str:
    """xxh3-128 of the UTF-8 text, as 32 hexadecimal digits: the same on every machine and in every year."""
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))


def file_hash(path: Path) -> str:
    """xxh3-128 of a file's bytes, as 32 hexadecimal digits."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """MD5 of a file's bytes, as 32 hexadecimal digits: the sum that publishers give."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
