"""What a docx must not be before a parser is let near it."""

from __future__ import annotations

import mmap
import zipfile
from pathlib import Path
from typing import IO
from xml.parsers import expat

from medllm_ops.errors import UnreadableFileError
from medllm_ops.sources.archives import OLE_MAGIC, ZIP_ERRORS, climbs_out

MAX_XML_BYTES = 64 << 20
"""Unpacked size of all XML parts together; a book of 1,000 pages has some 20 MB, and a parsed tree takes 20 times."""
MAX_BYTES = 1 << 30
"""Unpacked size of all parts, pictures included."""
_PROTECTED = "protected by a password; save it without"
_BLOCK = 1 << 16
_PROTECTED_MARK = "EncryptedPackage".encode("utf-16-le")


class _RootReachedError(Exception):
    """The root element begins, so no document type can follow."""


class _DocumentTypeError(Exception):
    """The part declares a document type, where entities are defined."""


def check_parts(file: IO[bytes], path: Path) -> None:
    """Look at every part of a docx and leave ``file`` at its beginning.

    :raises UnreadableFileError: if the file is no zip or a damaged one, a part's path climbs out of it, a part is
        encrypted, the parts unpack to too much, or a part declares a document type (entities expand without end).
    """
    try:
        archive = zipfile.ZipFile(file)
    except ZIP_ERRORS as error:
        raise UnreadableFileError(path, _kind_without_zip(file)) from error
    with archive:
        parts = archive.infolist()
        for part in parts:
            if climbs_out(part.orig_filename):
                raise UnreadableFileError(path, f"refused: the part {part.orig_filename!r} lies outside the archive")
            if part.flag_bits & 1:
                raise UnreadableFileError(path, _PROTECTED)
        if sum(part.file_size for part in parts) > MAX_BYTES:
            raise UnreadableFileError(path, f"refused: its parts unpack to more than {MAX_BYTES} bytes")
        xml_bytes = 0
        for part in parts:
            try:
                is_xml = _is_xml(archive, part)
            except _DocumentTypeError as error:
                message = f"refused: {part.filename} declares a document type (entities)"
                raise UnreadableFileError(path, message) from error
            except ZIP_ERRORS as error:
                raise UnreadableFileError(path, f"damaged: {part.filename} cannot be unpacked ({error})") from error
            xml_bytes += part.file_size if is_xml else 0
            if xml_bytes > MAX_XML_BYTES:
                raise UnreadableFileError(path, f"refused: its text unpacks to more than {MAX_XML_BYTES} bytes")
    file.seek(0)


def _kind_without_zip(file: IO[bytes]) -> str:
    """What a file is instead of a docx; Word wraps a protected document into the container of its old format."""
    file.seek(0)
    if file.read(len(OLE_MAGIC)) != OLE_MAGIC:
        return "not a docx (no zip archive)"
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        protected = data.find(_PROTECTED_MARK) >= 0
    return _PROTECTED if protected else "an old .doc; save it as .docx"


def _is_xml(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    """Whether the part reaches a root element. The parser itself looks, so no encoding hides a document type."""
    parser = expat.ParserCreate()
    parser.StartElementHandler = _root_reached
    parser.StartDoctypeDeclHandler = _document_type
    try:
        with archive.open(part) as stream:
            while block := stream.read(_BLOCK):
                parser.Parse(block, False)
    except _RootReachedError:
        return True
    except (expat.ExpatError, LookupError):  # a LookupError is an encoding that nobody knows
        return False
    return False


def _root_reached(_name: str, _attributes: dict[str, str]) -> None:
    raise _RootReachedError


def _document_type(_name: str, _system: str | None, _public: str | None, _internal: bool) -> None:
    raise _DocumentTypeError
