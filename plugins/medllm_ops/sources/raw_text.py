"""Raw text files as people keep them: which encoding, with which mark in front, cut into lines."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, TypeAlias

from medllm_ops.errors import UnreadableFileError
from medllm_ops.sources.archives import GZIP_MAGIC, OLE_MAGIC, ZIP_MAGIC

Encoding: TypeAlias = Literal["utf-8", "gb18030"]

_BLOCK = 1 << 20
_ENOUGH_RUNS = 2_000
_HIGH_BYTES = re.compile(rb"[\x80-\xff]+")
_UNDECODED = re.compile("[\udc80-\udcff]")
_REFUSED = {
    codecs.BOM_UTF16_LE: "text in UTF-16; save it as UTF-8",
    codecs.BOM_UTF16_BE: "text in UTF-16; save it as UTF-8",
    GZIP_MAGIC: "a gzip file; unpack it first",
    **dict.fromkeys(ZIP_MAGIC, "a zip or Office file; unpack it, or save its table as CSV in UTF-8"),
    OLE_MAGIC: "a file of an old Office or a protected one; save its table as CSV in UTF-8",
    # Its own four bytes, and the first of whatever follows them.
    b"PAR1\x15": "a Parquet file; write its rows as JSON lines",
}
"""Why a file that begins so is refused."""


def find_encoding(file: IO[bytes], path: Path) -> Encoding:
    """Decide the encoding of the whole file and leave ``file`` at its first byte of text, past a byte order mark.

    A UTF-8 character consists of bytes above 127 only, so each run of such bytes is valid UTF-8 or is not. The
    majority of runs decides for the file: one damaged byte must not turn every other row into another script. GBK
    and GB2312 need no trial of their own, because GB18030 decodes each of their characters to the same one.

    :raises UnreadableFileError: for UTF-16, which would have to be cut into lines in another way, and for what is no
        text by its first bytes (gzip, zip, Office, Parquet).
    """
    start = file.read(max(map(len, _REFUSED)))
    for magic, reason in _REFUSED.items():
        if start.startswith(magic):
            raise UnreadableFileError(path, reason)
    if start.startswith(codecs.BOM_UTF8):
        file.seek(len(codecs.BOM_UTF8))
        return "utf-8"
    file.seek(0)
    valid = invalid = 0
    while (block := file.read(_BLOCK)) and valid + invalid < _ENOUGH_RUNS:
        for run in _HIGH_BYTES.finditer(block):
            if run.end() == len(block) == _BLOCK or (run.start() == 0 and file.tell() > _BLOCK):
                continue  # may be half a run, the other half being in the next block
            if _is_utf_8(run.group()):
                valid += 1
            else:
                invalid += 1
    file.seek(0)
    return "utf-8" if valid >= invalid else "gb18030"


def _is_utf_8(run: bytes) -> bool:
    try:
        run.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def text_of(line: bytes, encoding: Encoding, errors: str = "strict") -> str:
    """The text of a line, without the byte order mark that files joined end to end leave within."""
    return line.decode(encoding, errors).removeprefix("\ufeff")


def limited_lines(file: IO[bytes], limit: int, first: int = 1) -> Iterator[tuple[int, int, bytes, bool]]:
    r"""Cut the rest of ``file`` into lines at ``\n``: ``(number, first byte, line, whether it is over limit bytes)``.

    Of a line that is too long only the first ``limit`` bytes are kept, so memory is bounded.

    :param first: the number of the line at which ``file`` stands.
    """
    number, start = first, file.tell()
    while line := file.readline(limit + 1):
        too_long = len(line) > limit and not line.endswith(b"\n")
        yield number, start, line[:limit] if too_long else line, too_long
        number, start = number + 1, start + len(line)
        while too_long and (rest := file.readline(_BLOCK)):
            start += len(rest)
            if rest.endswith(b"\n"):
                break


def has_undecoded_bytes(text: str) -> bool:
    """Whether ``text`` was decoded with ``surrogateescape`` from bytes that are not in the encoding."""
    return _UNDECODED.search(text) is not None
