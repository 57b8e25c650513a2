"""Pages of an answer as raw files."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medllm_ops.fetch.base import FetchedFile
from medllm_ops.files import write_whole


class Pages:
    """Keeps pages until they are applied.

    A page that comes once more (its search was lost, its token refused) is put beside the one that came before, which
    may still wait to be applied.

    :param folder: the fetcher's own; pages that a killed refresh left there are removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "pages"
        self._times: Counter[str] = Counter()
        shutil.rmtree(self._folder, ignore_errors=True)

    def keep(
        self, name: str, content: bytes, url: str, watermark: Mapping[str, Any], left: int | None = None
    ) -> FetchedFile:
        """Write a page down; the arguments are those of a :class:`~medllm_ops.fetch.base.FetchedFile`."""
        self._times[name] += 1
        path = self._folder / str(self._times[name]) / name
        with write_whole(path) as file:
            file.write(content)
        checksum = hashlib.sha256(content).hexdigest()
        return FetchedFile(name=name, path=path, url=url, checksum=checksum, watermark=watermark, left=left)
