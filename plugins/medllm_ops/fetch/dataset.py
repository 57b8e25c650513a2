"""Files of a place of the user's choice: a folder, a file, S3, or a data set of ModelScope or Hugging Face."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, model_validator

from medllm_ops.fetch import folder as folders
from medllm_ops.fetch import hub, s3
from medllm_ops.fetch.base import FetchedFile, FetchError, Known
from medllm_ops.fetch.http import Client

PLACES = "a folder, a file, s3://bucket/prefix, modelscope:owner/name or huggingface:owner/name"
_HUBS = ("modelscope:", "huggingface:")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:")


class Settings(hub.Settings):
    """What the fetcher of a place can be told."""

    location: str = Field(default="", description=f"Where the files lie: {PLACES}.")

    @model_validator(mode="after")
    def _is_a_place(self) -> Settings:
        place = self.location
        if place.startswith(_HUBS):
            if not _REPOSITORY.fullmatch(place.partition(":")[2]):
                raise ValueError(f"location {place!r}: a data set is named owner/name")
        elif place.startswith("s3://"):
            if not place.removeprefix("s3://").strip("/"):
                raise ValueError(f"location {place!r} names no bucket")
        elif _ADDRESS.match(place) and not Path(place).expanduser().exists():
            raise ValueError(f"location {place!r} is no place to fetch from; give {PLACES}")
        if self.revision and not place.startswith(_HUBS):
            raise ValueError("only a data set of ModelScope or Hugging Face has a revision: leave it out")
        return self


def fetch(settings: Settings, known: Known, folder: Path, client: Client) -> Iterator[FetchedFile]:
    """Yield each file that is new or changed, then news of those that were removed.

    Files of another place than the one asked for are left alone: one source may have several.

    :raises FetchError: if the place cannot be read, or holds no such files.
    """
    if not settings.location:
        raise FetchError(f"it is not said where the files lie: set location to {PLACES}")
    if settings.location.startswith(_HUBS):
        return hub.fetch(settings, known, folder, client)
    if settings.location.startswith("s3://"):
        return s3.fetch(settings, known, folder, client)
    return folders.fetch(settings, known, folder, client)
