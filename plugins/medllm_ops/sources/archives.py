"""Raw files as bytes: plain or gzip in bounded memory, md5 sidecars, zip members that are safe to read."""

from __future__ import annotations

import hashlib
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, cast

from isal import isal_zlib

from medllm_ops.errors import UnreadableFileError

BLOCK = 1 << 20
"""Bytes given out at a time, at most."""
CHUNK = 1 << 16
"""Compressed bytes read at a time."""
MAX_MEMBER_BYTES = 128 << 20
"""A zip member that unpacks to more is refused: whole studies have at most some 20 MB."""
MAX_MEMBER_RATIO = 200
"""A zip member of more than a block that was packed more than so many times is refused; JSON packs 5 to 20 times."""

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError, ValueError)
"""What :mod:`zipfile` lets through when an archive or one of its members is damaged."""

GZIP_MAGIC = b"\x1f\x8b"
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_GZIP_WINDOW = 31
# isal's type stub calls its exception class an instance.
_DECODER_ERROR = cast("type[Exception]", isal_zlib.error)
_MD5 = re.compile(r"(?:^|[\s=])([0-9a-fA-F]{32})(?:\s|$)")


@contextmanager
def open_raw(path: Path) -> Iterator[IO[bytes]]:
    """Open a raw file for reading bytes.

    :raises UnreadableFileError: if it is missing, a directory, or may not be read.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UnreadableFileError(path, (error.strerror or str(error)).lower()) from error
    with file:
        yield file


def check_md5_sidecar(path: Path) -> None:
    """Compare ``path`` with the md5 in ``<path>.md5`` beside it, if there is one.

    NLM writes ``MD5(name)= <hex>``, ``md5sum`` writes ``<hex>  name``; both are understood, and a bare sum.

    :raises UnreadableFileError: if the sums differ, or the sidecar holds none.
    """
    sidecar = path.with_name(path.name + ".md5")
    if not sidecar.is_file():
        return
    with open_raw(sidecar) as file:
        stated = _MD5.search(file.read(4096).decode("utf-8", "replace"))
    if stated is None:
        raise UnreadableFileError(path, f"its sidecar {sidecar.name} holds no md5 sum; fetch both again")
    digest = hashlib.md5(usedforsecurity=False)
    with open_raw(path) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if (found := digest.hexdigest()) != stated[1].lower():
        raise UnreadableFileError(
            path, f"md5 {found} does not match its sidecar {sidecar.name} ({stated[1].lower()}); fetch the file again"
        )


class RawFile:
    """A plain or gzip file, told apart by its first bytes and not by its name, as blocks of unpacked bytes.

    After :meth:`blocks` has run to its end, ``damage`` says why a gzip file could not be read further (``""`` if
    it could), and ``cut_off`` whether it merely ends too early; all that came before has been given out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = ""
        self.cut_off = False

    def blocks(self) -> Iterator[bytes]:
        """Give the unpacked bytes out, at most :data:`BLOCK` at a time.

        :raises UnreadableFileError: if the file cannot be opened, or nothing of a gzip file can be unpacked.
        """
        with open_raw(self.path) as file:
            magic = file.read(len(GZIP_MAGIC))
            file.seek(0)
            if magic == GZIP_MAGIC:
                yield from self._gunzip(file)
            else:
                yield from iter(lambda: file.read(BLOCK), b"")

    def _gunzip(self, file: IO[bytes]) -> Iterator[bytes]:
        given = 0
        try:
            for block in _inflate(lambda: file.read(CHUNK), isal_zlib.decompressobj):
                yield block
                given += len(block)
            return
        except EOFError as error:
            self.damage, self.cut_off = str(error), True
            return
        except _DECODER_ERROR as error:
            self.damage = f"the gzip data are damaged: {error}"
        # The fast decoder dropped what it had unpacked of the chunk it failed on: get that byte by byte.
        good = max(0, file.tell() - 2 * CHUNK)
        file.seek(0)
        slow = _inflate(lambda: file.read(CHUNK if file.tell() + CHUNK <= good else 1), zlib.decompressobj)
        seen = 0
        try:
            for block in slow:
                seen += len(block)
                if seen > given:
                    yield block[given - seen :]
                    given = seen
        except (zlib.error, EOFError) as error:
            self.damage = f"the gzip data are damaged: {error}"
        if not given:
            raise UnreadableFileError(self.path, f"{self.damage}; fetch the file again")


def _inflate(read: Callable[[], bytes], new_decoder: Callable[[int], Any]) -> Iterator[bytes]:
    """Unpack all members of a gzip file; padding of NULs behind a member is skipped, as gzip does.

    :raises EOFError: if the last member is not whole.
    """
    decoder = new_decoder(_GZIP_WINDOW)
    data = read()
    while data:
        if block := decoder.decompress(data, BLOCK):
            yield block
        if decoder.eof:
            data = decoder.unused_data.lstrip(b"\0")
            while not data and (more := read()):
                data = more.lstrip(b"\0")
            if data:
                decoder = new_decoder(_GZIP_WINDOW)
        else:
            data = decoder.unconsumed_tail or read()
    if not decoder.eof:
        if rest := decoder.flush():
            yield rest
        if not decoder.eof:
            raise EOFError("the gzip file ends before its end mark")


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a zip: its bytes, or (``refusal`` not empty) a fixed phrase that says why it was not unpacked."""

    name: str
    data: bytes = b""
    refusal: str = ""
    detail: str = ""


def zip_members(path: Path, suffix: str) -> Iterator[Member]:
    """Give out the members of a zip in its own order, one at a time in memory; nothing is written to disk.

    Directories are passed over. A member is refused, and the others are read, if its path climbs out of the
    archive, its name does not end in ``suffix``, it is encrypted, too large, packed too tightly, or damaged.

    :raises UnreadableFileError: if the file cannot be opened or is no zip with a whole central directory.
    """
    with open_raw(path) as file:
        try:
            archive = zipfile.ZipFile(file)
        except ZIP_ERRORS as error:
            raise UnreadableFileError(path, f"not a whole zip file ({error}); fetch it again") from error
        with archive:
            for info in archive.infolist():
                if not info.filename.endswith("/"):  # is_dir fails on an empty name
                    yield _member(archive, info, suffix)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, suffix: str) -> Member:
    # orig_filename: zipfile itself cuts names at a NUL and turns backslashes round on Windows.
    name = info.orig_filename
    if climbs_out(name):
        return Member(name, refusal="unsafe path in archive", detail=name)
    if not name.lower().endswith(suffix):
        return Member(name, refusal="not a data file in archive", detail=f"its name does not end in {suffix}")
    if info.flag_bits & 1:
        return Member(name, refusal="encrypted file in archive")
    if info.file_size > MAX_MEMBER_BYTES:
        return Member(name, refusal="file in archive too large", detail=f"{info.file_size} bytes")
    if info.file_size > BLOCK and info.file_size > MAX_MEMBER_RATIO * info.compress_size:
        detail = f"{info.compress_size} bytes unpack to {info.file_size}"
        return Member(name, refusal="file in archive packed too tightly", detail=detail)
    try:
        # zipfile never unpacks more than the size that was checked above.
        return Member(name, archive.read(info))
    except ZIP_ERRORS as error:
        return Member(name, refusal="damaged file in archive", detail=str(error))


def climbs_out(name: str) -> bool:
    """Whether the path of a zip's member leads out of the folder that the zip would be unpacked into."""
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    return "\0" in name or bool(windows.anchor) or posix.is_absolute() or ".." in windows.parts
