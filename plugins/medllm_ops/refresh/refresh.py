"""One refresh of one source: fetch, keep, parse, apply, each raw file whole and exactly once.

Raw files are parsed ahead in other processes while the one before is written; they are applied in order. Killed at any
instant, the next refresh goes on after the last file that was applied.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.items import write_items
from medllm_ops.corpus.raw_store import RawStore
from medllm_ops.corpus.reader import Snapshot, corpus_url
from medllm_ops.corpus.storage import Storage, open_storage
from medllm_ops.corpus.writer import Applied, Writer, open_writer
from medllm_ops.errors import MedllmError, UnreadableFileError
from medllm_ops.fetch.base import FetchedFile, FetchSettings
from medllm_ops.fetch.http import Client
from medllm_ops.files import sha256_of, text_hash
from medllm_ops.home import home
from medllm_ops.records import Deletion, Record, Reject
from medllm_ops.refresh.summary import Refreshed, log_progress, log_summary
from medllm_ops.sources import get_entry
from medllm_ops.sources.base import Parser, Source
from medllm_ops.sources.catalogue import Sample
from medllm_ops.sources.sample import NOT_SAMPLED, Sampled

UNREADABLE = "unreadable file"
ALL = Sample()


def refresh(
    source: Source,
    settings: FetchSettings,
    storage: Storage,
    *,
    sample: Sample = ALL,
    keep_raw: bool = True,
    wait: float = 0,
    workers: int | None = None,
    tell: Callable[[Refreshed], None] = log_summary,
) -> Refreshed:
    """Bring everything that is new at a source's publisher into the corpus.

    :param sample: of each raw file, at most so many records, drawn by a stable hash.
    :param keep_raw: keep the raw files in the raw store.
    :param wait: seconds to wait for another refresh of the source to end.
    :param workers: processes that parse; as many as there are processors by default.
    :param tell: is given what was done, in the end or when it fails after something was done.
    :raises MedllmError: in one clear sentence; what was applied until then stays.
    """
    if source.fetch is None:
        raise MedllmError(f"source {source.name} cannot be fetched: convert its files with `medllm-ops convert`")
    refreshed = Refreshed(source.name)
    client = Client(
        attempts=settings.attempts,
        first_wait=settings.first_wait,
        longest_wait=settings.longest_wait,
        timeout=settings.timeout,
    )
    try:
        with client, open_writer(storage, source.name, wait) as writer, _told_of_takeover(writer):
            began = time.monotonic()
            spool = _spool(source.name, storage)
            fetched = islice(source.fetch(settings, writer.known, spool, client), settings.max_files or None)
            store = RawStore(storage, source.name) if keep_raw else None
            for raw, items in _parsed(source.parse, fetched, spool, sample, workers):
                refreshed.files.append(_keep_and_apply(writer, store, raw, items, sample))
                if raw.path is not None:
                    refreshed.bytes += raw.path.stat().st_size
                    if raw.path.is_relative_to(spool):
                        raw.path.unlink()
                refreshed.seconds = time.monotonic() - began
                log_progress(refreshed, raw.left, settings.max_files)
            refreshed.seconds = time.monotonic() - began
    except Exception:
        if refreshed.files:
            tell(refreshed)
        raise
    tell(refreshed)
    return refreshed


def refresh_source(
    name: str,
    changes: Mapping[str, Any],
    corpus: str | None = None,
    keep_raw: bool | None = None,
    wait: float = 0,
    tell: Callable[[Refreshed], None] = log_summary,
) -> Refreshed:
    """:func:`refresh` a source of the catalogue, as its entry says, with changes to its settings.

    :param corpus: the corpus's address; see :func:`~medllm_ops.corpus.reader.corpus_url`.
    :raises MedllmError: in one clear sentence; what was applied until then stays.
    """
    entry = get_entry(name)
    settings = entry.fetch_settings(**changes)
    keep_raw = entry.keep_raw if keep_raw is None else keep_raw
    storage = open_storage(corpus_url(corpus))
    return refresh(entry.source, settings, storage, sample=entry.sample, keep_raw=keep_raw, wait=wait, tell=tell)


def rebuild(source: Source, old: Storage, new: Storage) -> Refreshed:
    """Make a source's tables anew in another corpus, from the raw store of the old one, with the old dates.

    What is there of an earlier rebuild is gone on with.

    :raises MedllmError: if a raw file was not kept, is missing or damaged, or the other corpus holds something else.
    """
    refreshed = Refreshed(source.name)
    began = time.monotonic()
    store = RawStore(old, source.name)
    if new.url == old.url:
        raise MedllmError(f"{new.url}: name another place than the corpus itself")
    if not (files := manifests.read(old).source(source.name).files):
        raise MedllmError(f"{old.url}: there is nothing of {source.name} to rebuild")
    applied = {row["number"]: row["sha256"] for row in Snapshot(old).files(source.name)}
    with open_writer(new, source.name) as writer:
        spool = _spool(f"rebuild-{source.name}", new)
        there = {row["number"]: row["sha256"] for row in Snapshot(new).files(source.name)}
        for entry in store.entries(files):
            if there.get(entry.number, entry.sha256) != entry.sha256:
                raise MedllmError(
                    f"{new.url} holds another raw file {entry.number} of {source.name} than {old.url}: "
                    "name an empty place"
                )
            if entry.number < writer.next_number:
                continue
            if entry.sha256 != applied.get(entry.number, entry.sha256):
                raise MedllmError(
                    f"raw file {entry.number} of {source.name}, {entry.name}, is not the one that was applied"
                )
            raw = store.bring(entry, spool)
            for file, items in _parsed(source.parse, iter([raw]), spool, Sample.model_validate(entry.sample), 1):
                refreshed.files.append(_apply(writer, file, items, entry.sha256, entry.date))
            if raw.path:
                raw.path.unlink()
    refreshed.seconds = time.monotonic() - began
    return refreshed


def _spool(name: str, storage: Storage) -> Path:
    """Where raw files wait to be applied. Each corpus has a folder of its own: two may be written at once."""
    folder = home() / "spool" / f"{name}-{text_hash(storage.url)[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob("*.items"):  # a killed refresh's
        leftover.unlink()
    return folder


@dataclass(frozen=True, slots=True)
class _Items:
    path: Path
    not_sampled: int
    is_readable: bool


@contextmanager
def _told_of_takeover(writer: Writer) -> Iterator[None]:
    """Files that are missing because another process took over: tell of the lease, not of them."""
    try:
        yield
    except OSError:
        writer.check()
        raise


def _keep_and_apply(
    writer: Writer, store: RawStore | None, raw: FetchedFile, items: _Items | None, sample: Sample
) -> Applied:
    writer.check()  # the raw store's log is no table: nothing else keeps out a writer that was taken over
    date = manifests.now()
    if store:
        digest = store.keep(raw, writer.next_number, date, sample.model_dump())
    else:
        digest = sha256_of(raw.path) if raw.path else ""
    return _apply(writer, raw, items, digest, date)


def _apply(writer: Writer, raw: FetchedFile, items: _Items | None, digest: str, date: str) -> Applied:
    if items is None:
        return writer.apply(raw, None, digest, date)
    if not items.is_readable:  # what it brought before stays
        raw = replace(raw, whole=False)
    not_sampled = {NOT_SAMPLED: items.not_sampled} if items.not_sampled else {}
    applied = writer.apply(raw, items.path, digest, date, not_sampled)
    items.path.unlink()
    return applied


def _parsed(
    parse: Parser, fetched: Iterator[FetchedFile], spool: Path, sample: Sample, workers: int | None
) -> Iterator[tuple[FetchedFile, _Items | None]]:
    """The files with their items, in order; several are parsed at once, if there are several.

    What was fetched before a fetcher failed is yielded before its error is raised.
    """
    workers = workers or os.cpu_count() or 1
    failed: list[MedllmError] = []
    stream = _until_failure(fetched, failed)
    first = list(islice(stream, 2))
    if workers < 2 or len(first) < 2:
        for raw in chain(first, stream):
            yield raw, _parse(parse, raw, spool / "0.items", sample)
    else:
        yield from _parsed_ahead(parse, chain(first, stream), spool, sample, workers)
    if failed:
        raise failed[0]


def _until_failure(fetched: Iterator[FetchedFile], failed: list[MedllmError]) -> Iterator[FetchedFile]:
    try:
        yield from fetched
    except MedllmError as error:
        failed.append(error)


def _parsed_ahead(
    parse: Parser, fetched: Iterator[FetchedFile], spool: Path, sample: Sample, workers: int
) -> Iterator[tuple[FetchedFile, _Items | None]]:
    waiting: deque[tuple[FetchedFile, Future[_Items | None]]] = deque()
    # Not by fork: threads of this process (the lease, the tables) would be copied in the middle of their work.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        for number, raw in enumerate(fetched):
            waiting.append((raw, pool.submit(_parse, parse, raw, spool / f"{number}.items", sample)))
            if len(waiting) > workers:
                ready, items = waiting.popleft()
                yield ready, items.result()
        while waiting:
            ready, items = waiting.popleft()
            yield ready, items.result()


def _end_with_parent() -> None:
    """Let this worker end when the process that started it is killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _parse(parse: Parser, raw: FetchedFile, path: Path, sample: Sample) -> _Items | None:
    if (source_file := raw.path) is None:
        return None
    is_readable = True

    def items() -> Iterator[Record | Deletion | Reject]:
        nonlocal is_readable
        try:
            yield from parse(source_file)
        except UnreadableFileError as error:
            if not raw.whole:  # one of a series: what comes after it must not be applied without it
                raise MedllmError(
                    f"{raw.name} cannot be applied: {error.reason}; nothing after it was applied"
                ) from error
            is_readable = False
            yield Reject(file=raw.name, position="file", reason=UNREADABLE, detail=error.reason)

    sampled = Sampled(items(), sample.rows, sample.seed)
    write_items(sampled, path)
    return _Items(path, sampled.left_out, is_readable)
