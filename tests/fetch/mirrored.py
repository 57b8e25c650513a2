"""What a refresh of NLM's mirror keeps, for the tests of it."""

from itertools import islice
from pathlib import Path
from typing import Any

from medllm_ops.fetch.base import FetchedFile, Known
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.pubmed import Settings, fetch
from servers.nlm import NlmMirror
from servers.pubmed_xml import article_set, citation


def add(mirror: NlmMirror, number: int, folder: str = "updatefiles", prefix: str = "pubmed26", **more: Any) -> str:
    return mirror.add(folder, f"{prefix}n{number:04}.xml.gz", article_set([citation(number)]), **more)


class Corpus:
    """What a refresh keeps of what it applied, file by file; it ends as if killed after ``files`` of them."""

    def __init__(self, mirror: NlmMirror, client: Client, folder: Path) -> None:
        self._mirror, self._client, self.folder = mirror, client, folder
        self.known = Known()

    def refresh(self, files: int | None = None, **settings: Any) -> list[FetchedFile]:
        self._mirror.requests.clear()
        settings = {"base_url": self._mirror.url} | settings
        fetched = []
        for raw in islice(fetch(Settings(**settings), self.known, self.folder, self._client), files):
            assert raw.path is not None
            assert raw.path.name == raw.name.rpartition("/")[2]
            raw.path.unlink()
            fetched.append(raw)
            names = {**self.known.files, raw.name: raw.checksum}
            self.known = Known(names, raw.watermark or {}, raw.generation or self.known.generation)
        return fetched

    def names(self, *arguments: Any, **settings: Any) -> list[str]:
        return [short(raw.name) for raw in self.refresh(*arguments, **settings)]


def short(name: str) -> str:
    """``baseline/pubmed26n0001.xml.gz`` as ``b26n1``."""
    folder, file = name.split("/")
    year, number = file.removeprefix("pubmed").removesuffix(".xml.gz").split("n")
    return f"{folder[0]}{year}n{int(number)}"


def renew(mirror: NlmMirror, numbers: tuple[int, ...] = (1, 2, 3)) -> None:
    """A new year's baseline takes the place of all there was."""
    for path in [path for path in mirror.files if path.endswith(".gz")]:
        mirror.remove(*path.split("/"))
    for number in numbers:
        add(mirror, number, "baseline", "pubmed27")
