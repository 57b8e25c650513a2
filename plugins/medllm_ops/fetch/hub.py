"""Data sets of ModelScope and Hugging Face by name, through the hubs' own clients.

Tokens come from where those clients find them (``MODELSCOPE_API_TOKEN``, ``HF_TOKEN``), other addresses from
``MODELSCOPE_ENDPOINT`` and ``HF_ENDPOINT``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
from pydantic import Field

from medllm_ops.fetch.base import FetchedFile, FetchError, Known
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.location import Settings as LocationSettings
from medllm_ops.fetch.location import chosen, is_data_path, removed
from medllm_ops.files import sha256_of, text_hash

ROWS = ("*.jsonl", "*.json", "*.txt", "*.csv")
"""What is taken of a data set where no patterns are given: files of rows that the sources read."""
_REACH_SECONDS = 5
_CLIENTS = ("huggingface_hub", "httpx", "modelscope_hub", "requests")
_BY_HAND = "or bring the files here by hand and give their folder as location"


class Settings(LocationSettings):
    """What the fetcher of the hubs' data sets can be told."""

    revision: str = Field(default="", description="A branch, tag or commit of the data set; none: its main branch.")


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    checksum: str
    size: int
    sha256: str = ""


class _Hub(Protocol):
    title: str
    offline: tuple[str, ...]
    endpoint: str

    def list_files(self) -> list[_File]: ...

    def bring(self, file: _File, folder: Path) -> Path: ...


def fetch(settings: Settings, known: Known, folder: Path, client: Client) -> Iterator[FetchedFile]:
    """Yield each file of the data set that is new or changed, then news of those that were removed.

    Names begin with the location: ``huggingface:Flmc/DISC-Med-SFT/DISC-Med-SFT_released.jsonl``. Without network it
    says so within seconds.

    :raises FetchError: if the hub cannot be reached, has no such data set, or that has no such files.
    """
    place = settings.location
    scheme, _, repository = place.partition(":")
    hub = _open(scheme, repository, settings)
    _check_reachable(hub, place)
    with _told(hub, place):
        files = {file.path: file for file in hub.list_files() if _is_safe(file.path)}
    names = {f"{place}/{path}": files[path] for path in chosen(list(files), settings.patterns or ROWS, place)}
    local = folder / text_hash(place)[:16]
    due = {name: file for name, file in names.items() if known.files.get(name) != file.checksum}
    for number, (name, file) in enumerate(due.items(), start=1):
        with _told(hub, name):
            path = hub.bring(file, local)
        if file.sha256 and sha256_of(path) != file.sha256:
            path.unlink()
            raise FetchError(
                f"{name}: its SHA-256 is not what {hub.title} says; nothing of it was kept; try again later"
            )
        url = f"{hub.endpoint}/datasets/{repository}"
        left = len(due) - number
        yield FetchedFile(name=name, path=path, url=url, checksum=file.checksum, whole=True, left=left)
    yield from removed(f"{place}/", names, known)


def _open(scheme: str, repository: str, settings: Settings) -> _Hub:
    try:
        return (_HuggingFace if scheme == "huggingface" else _ModelScope)(repository, settings)
    except ModuleNotFoundError as error:
        raise FetchError(f"{settings.location}: the package {error.name} is not installed: pip install it") from error


class _HuggingFace:
    title = "Hugging Face"
    offline: tuple[str, ...] = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")

    def __init__(self, repository: str, settings: Settings) -> None:
        from huggingface_hub import HfApi

        self._repository = repository
        self._settings = settings
        self._commit = ""
        self.endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        self._api = HfApi(endpoint=self.endpoint)

    def list_files(self) -> list[_File]:
        """List one commit, so that the files fit together."""
        revision = self._settings.revision or None
        info = self._api.dataset_info(self._repository, revision=revision, timeout=self._settings.timeout)
        self._commit = str(info.sha)
        tree = self._api.list_repo_tree(self._repository, recursive=True, revision=self._commit, repo_type="dataset")
        return [self._file(entry) for entry in tree if hasattr(entry, "blob_id")]

    @staticmethod
    def _file(entry: Any) -> _File:
        sha256 = entry.lfs.sha256 if entry.lfs else ""
        return _File(entry.path, sha256 or entry.blob_id, entry.size, sha256)

    def bring(self, file: _File, folder: Path) -> Path:
        from huggingface_hub import hf_hub_download

        path = hf_hub_download(
            self._repository,
            file.path,
            repo_type="dataset",
            revision=self._commit,
            local_dir=folder,
            endpoint=self.endpoint,
            etag_timeout=self._settings.timeout,
        )
        return Path(path)


class _ModelScope:
    title = "ModelScope"
    offline: tuple[str, ...] = ("MODELSCOPE_OFFLINE",)

    def __init__(self, repository: str, settings: Settings) -> None:
        from modelscope_hub import HubApi
        from modelscope_hub.config import HubConfig

        self._repository = repository
        self._revision = settings.revision or None
        config = HubConfig()
        self.endpoint = str(config.endpoint)
        self._api = HubApi(config=config)

    def list_files(self) -> list[_File]:
        files = self._api.list_repo_files(self._repository, "dataset", revision=self._revision)
        return [
            _File(file.path, file.sha256 or file.blob_id or "", file.size, file.sha256 or "")
            for file in files
            if not file.is_dir
        ]

    def bring(self, file: _File, folder: Path) -> Path:
        path = self._api.download_file(
            self._repository,
            "dataset",
            file.path,
            revision=self._revision,
            local_dir=folder,
            cache_dir=folder / ".modelscope",
            expected_sha256=file.sha256 or None,
            file_size=file.size or None,
        )
        return Path(path)


def _is_of_the_hub(error: Exception) -> bool:
    """Whether an error tells of the hub and not of this machine: a full disk has a number of the system's."""
    if type(error).__module__.partition(".")[0] in _CLIENTS:
        return True
    return isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno is None)


def _is_safe(path: str) -> bool:
    return is_data_path(path) and not path.startswith("/")


def _check_reachable(hub: _Hub, place: str) -> None:
    """Ask the hub for a sign of life before its client begins to wait and to try again.

    :raises FetchError: if it gives none, or the user forbade to ask.
    """
    for name in hub.offline:
        if os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on"):
            raise FetchError(f"{place} was not asked for, because {name} is set: unset it, {_BY_HAND}")
    failure = [f"no answer within {_REACH_SECONDS} s"]

    def ask() -> None:
        try:
            httpx.head(hub.endpoint, timeout=_REACH_SECONDS)
            failure.clear()
        except httpx.HTTPError as error:
            failure[0] = str(error) or type(error).__name__

    # A thread of its own, because nothing limits how long the system looks for a host's address.
    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(_REACH_SECONDS)
    if failure:
        raise FetchError(
            f"{hub.title} ({hub.endpoint}) cannot be reached: {failure[0]}; check the network and its proxy, {_BY_HAND}"
        )


@contextmanager
def _told(hub: _Hub, what: str) -> Iterator[None]:
    """Tell of every failure of a hub's client in one sentence."""
    try:
        yield
    except Exception as error:
        if not _is_of_the_hub(error):
            raise
        said = " ".join(str(getattr(error, "message", "") or error).split())[:400]
        raise FetchError(
            f"{what} cannot be read from {hub.title}: {said}; check its name and your token, and refresh again: "
            "what came before is kept"
        ) from error
