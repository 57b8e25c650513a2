"""Files of rows in parts: what one worker reads at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import BaseModel

from medllm_ops.curation.workers import Job
from medllm_ops.errors import UnreadableFileError

PART_BYTES: Final = 8 << 20


def parts(files: Mapping[str, Path], folder: Path, settings: BaseModel, size: int = PART_BYTES) -> list[Job]:
    """A job for each range of about ``size`` bytes of each file.

    A job names the ``file``, the number of its ``set``, where its range begins and ends (``begin``, ``end``), the
    name in ``folder`` of what it writes (``out``, to which it adds an ending), and the ``settings``.

    :raises UnreadableFileError: if a file is missing.
    """
    jobs: list[Job] = []
    for number, (name, path) in enumerate(files.items()):
        if not path.is_file():
            raise UnreadableFileError(path, f"the rows of set {name} are missing")
        whole = path.stat().st_size
        for begin in range(0, whole, size):
            job = {"file": str(path.absolute()), "set": number, "begin": begin, "end": min(begin + size, whole)}
            out = str(folder.absolute() / f"{len(jobs):06}")
            jobs.append({**job, "out": out, "settings": settings.model_dump(mode="json")})
    return jobs


def lines_of(job: Job) -> Iterator[tuple[int, bytes]]:
    """The lines that begin in a job's range, each with the byte where it begins."""
    begin, end = job["begin"], job["end"]
    with Path(job["file"]).open("rb") as lines:
        position = begin
        if begin:
            # A line that begins before the range belongs to the part before.
            lines.seek(begin - 1)
            position += len(lines.readline()) - 1
        while position < end and (line := lines.readline()):
            yield position, line
            position += len(line)


def rows_of(job: Job) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of the lines that begin in a job's range, each with the byte where its line begins.

    :raises UnreadableFileError: naming the file and the position of a line that is no record.
    """
    for position, line in lines_of(job):
        try:
            row = _record(orjson.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UnreadableFileError(
                job["file"], f"the line at byte {position} is no record ({type(error).__name__}: {error})"
            ) from error
        yield position, row


def _record(row: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(row["id"], str):
        raise TypeError("its id is no text")
    if not isinstance(row.setdefault("version", 1), int):
        raise TypeError("its version is no number")
    for message in row["messages"]:
        if not isinstance(message["role"], str) or not isinstance(message["content"], str):
            raise TypeError("a turn is no text")
    if not isinstance(row.get("rejected_response", ""), str):
        raise TypeError("its rejected_response is no text")
    return row


def staying(path: Path, out: set[int]) -> Iterator[bytes]:
    """The lines of a file but those that begin at the positions ``out``."""
    position = 0
    with path.open("rb") as lines:
        for line in lines:
            if position not in out:
                yield line
            position += len(line)
