"""中医世家: text dumps of its books at a place of the user's choice, or else the pages of the site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medllm_ops.fetch import dataset, tcm_site
from medllm_ops.fetch.base import FetchedFile, Known
from medllm_ops.fetch.http import Client


class Settings(tcm_site.Settings, dataset.Settings):
    """What the fetcher can be told; with a ``location``, the dumps that lie there are taken, and no site is asked."""


def fetch(settings: Settings, known: Known, folder: Path, client: Client) -> Iterator[FetchedFile]:
    """Yield what is new.

    :raises FetchError: if the place or the site cannot be read.
    """
    if settings.location:
        return dataset.fetch(settings, known, folder, client)
    return tcm_site.fetch(settings, known, folder, client)
