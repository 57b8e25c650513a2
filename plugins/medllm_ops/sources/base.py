"""What a source is: it knows its files and parses them into records, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from medllm_ops.fetch.base import Fetcher, FetchSettings
from medllm_ops.records import Deletion, Record, Reject

Parsed: TypeAlias = Record | Deletion | Reject
Stage: TypeAlias = Literal["pretrain", "sft", "dpo"]


class Parser(Protocol):
    """Yields exactly one item for each raw record of a file, in file order, in bounded memory.

    :raises UnreadableFileError: if nothing of the file can be read. What can be read is yielded; a file that
        breaks off ends with one :class:`~medllm_ops.records.Reject` that says so.
    """

    def __call__(self, path: Path) -> Iterator[Parsed]:
        """Parse one file."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """What the code knows of a source; what a person may edit stands in its catalogue entry.

    ``folder`` is where its files lie below a folder of raw files; ``patterns`` are their names there.
    ``publisher_ids`` says that the publisher names its records, so a later record of an id replaces an earlier
    one; otherwise ids come from the content, and equal ids are equal rows.
    ``recognises`` tells a row of a row format from those of other formats that lie in the same folder; of several
    that recognise a row, the one of the lowest ``precedence`` has it: give narrower formats lower ones.
    ``fetch`` brings the raw files here, as ``settings`` say; without it they are given by hand.
    ``code`` is the hash of the module's file; the catalogue fills it in.
    """

    name: str
    stage: Stage
    folder: str
    patterns: tuple[str, ...]
    parse: Parser
    publisher_ids: bool = False
    recognises: Callable[[dict[str, Any]], bool] | None = None
    precedence: int = 100
    fetch: Fetcher | None = None
    settings: type[FetchSettings] = FetchSettings
    code: str = ""
