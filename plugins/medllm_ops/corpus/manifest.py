"""Which table versions together are the corpus. Readers follow a manifest and nothing else.

A corpus version is a small object ``manifests/<number>.json``; creating the next number is the one act that makes new
data visible. Whatever a killed writer left in the tables beyond a manifest is undone by the next writer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from medllm_ops.corpus.storage import Storage
from medllm_ops.errors import MedllmError

TABLES = ("records", "events", "files", "rejects", "members")
_FOLDER = "manifests/"
LATEST = "latest"
"""Stands for the latest version, wherever a number or a tag may be given."""
_TAG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ATTEMPTS = 20


class CorpusError(MedllmError):
    """The corpus, one of its versions or tags cannot be read."""


class Staging(BaseModel):
    """A new generation on its way in: applied to the tables, not yet visible."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    generation: str
    tables: dict[str, int]


class SourceState(BaseModel):
    """What the corpus has of one source: the versions of its tables, and what its last writer left."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tables: dict[str, int] = Field(default_factory=dict)
    generation: str = ""
    token: int = 0
    files: int = 0
    staging: Staging | None = None

    @property
    def head(self) -> dict[str, int]:
        """The table versions that the next writer builds on."""
        return self.staging.tables if self.staging else self.tables


class Manifest(BaseModel):
    """One version of the corpus; 0 is the empty one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = 0
    created: str = ""
    sources: dict[str, SourceState] = Field(default_factory=dict)

    def source(self, name: str) -> SourceState:
        """The state of a source, empty if the corpus has nothing of it."""
        return self.sources.get(name, SourceState())


def now() -> str:
    """The time, as facts are dated: ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def versions(storage: Storage) -> list[int]:
    """The numbers of all versions, oldest first."""
    return [int(key.removeprefix(_FOLDER).removesuffix(".json")) for key in storage.keys(_FOLDER)]


def read(storage: Storage, version: int | str | None = None) -> Manifest:
    """A version of the corpus, by number, tag or ``latest``, which it is by default.

    :raises CorpusError: if there is no such version.
    """
    if version is None or version == LATEST:
        found = versions(storage)
        return _read(storage, found[-1]) if found else Manifest()
    if isinstance(version, str) and not version.isdecimal():
        version = tags(storage).get(version, version)
    if isinstance(version, str) and not version.isdecimal():
        raise CorpusError(
            f"{storage.url}: the corpus has no tag {version!r} (tags: {', '.join(tags(storage)) or 'none'})"
        )
    return _read(storage, int(version))


def _read(storage: Storage, version: int) -> Manifest:
    if version == 0:
        return Manifest()
    try:
        return Manifest.model_validate_json(storage.read(_key(version)))
    except KeyError as error:
        raise CorpusError(f"{storage.url}: the corpus has no version {version}") from error
    except ValueError as error:
        raise CorpusError(f"{storage.url}: {_key(version)} is damaged: {error}") from error


def publish(storage: Storage, source: str, change: Callable[[SourceState], SourceState]) -> Manifest:
    """Make the next version, in which only one source has changed.

    Writers of other sources may publish at the same moment: the slower one builds on the faster one's version.

    :param change: from the source's state in the latest version to its new state; it raises if another writer of
        the same source was faster.
    """
    for _ in range(_ATTEMPTS):
        latest = read(storage)
        state = change(latest.source(source))
        following = Manifest(version=latest.version + 1, created=now(), sources=latest.sources | {source: state})
        if storage.create(_key(following.version), following.model_dump_json(indent=1).encode()):
            return following
    raise CorpusError(f"{storage.url}: other writers were faster {_ATTEMPTS} times; try again")


def delete(storage: Storage, version: int) -> None:
    """Forget a version; its tables are not touched."""
    storage.delete(_key(version))


def tags(storage: Storage) -> dict[str, int]:
    """The versions that have a name."""
    keys = storage.keys("tags/")
    return {key.removeprefix("tags/").removesuffix(".json"): orjson.loads(storage.read(key))["version"] for key in keys}


def tag(storage: Storage, name: str, version: int, move: bool = False) -> None:
    """Give a version a name; it is then kept by compaction.

    :raises CorpusError: if another version has the name and ``move`` is false, or it is no name.
    """
    if not _TAG_NAME.fullmatch(name) or name.isdecimal() or name == LATEST:
        raise CorpusError(
            f"a tag is up to 64 letters, digits, '.', '_' and '-', begins with a letter or digit, and is neither a "
            f"number nor '{LATEST}': {name!r} is none"
        )
    content: dict[str, Any] = {"version": _read(storage, version).version, "created": now()}
    if move:
        storage.write(f"tags/{name}.json", orjson.dumps(content))
    elif not storage.create(f"tags/{name}.json", orjson.dumps(content)) and (there := tags(storage)[name]) != version:
        raise CorpusError(f"the tag {name!r} is on version {there}; move it with --move")


def _key(version: int) -> str:
    return f"{_FOLDER}{version:012}.json"
