"""What a source is: it knows its files and parses them into records, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

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
    """One entry of the registry.

    ``folder`` is where its files lie below a folder of raw files; ``patterns`` are their names there.
    ``publisher_ids`` says that the publisher names its records, so a later record of an id replaces an earlier
    one; otherwise ids come from the content, and equal ids are equal rows.
    """

    name: str
    title: str
    stage: Stage
    folder: str
    patterns: tuple[str, ...]
    parse: Parser
    publisher_ids: bool = False
