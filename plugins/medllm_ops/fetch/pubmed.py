"""PubMed: the answer to a query by E-utilities, or else the files of NLM's mirror."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, model_validator

from medllm_ops.fetch import entrez, nlm_mirror
from medllm_ops.fetch.base import FetchedFile, Known
from medllm_ops.fetch.http import Client


class Settings(nlm_mirror.MirrorSettings, entrez.EntrezSettings):
    """What the PubMed fetcher can be told; with a ``query``, E-utilities are asked."""

    since: entrez.Day | None = Field(
        default=None,
        description="Files: only update files listed on this day or later, and no baseline. "
        "Query: only what entered PubMed on this day or later.",
    )

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Settings:
        if self.until and not self.query:
            raise ValueError("until needs a query: the files are not divided by date")
        if self.since and self.until and self.since > self.until:
            raise ValueError("since is later than until")
        return self


def fetch(settings: Settings, known: Known, folder: Path, client: Client) -> Iterator[FetchedFile]:
    """Yield what is new.

    :raises FetchError: if the publisher cannot be read.
    """
    if settings.query.strip():
        return entrez.fetch(settings, known, folder, client)
    return nlm_mirror.fetch(settings, known, folder, client)
