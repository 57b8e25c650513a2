"""From the corpus into the state of curation: each refresh once, in the order in which they ended.

What the state is after a version of the corpus depends on the corpus's history and on the settings, and not on when, or
how often, somebody built a dataset: between two ends of refreshes of a source there is nothing to be taken in.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from medllm_ops.corpus.history import End
from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import Folder, Storage
from medllm_ops.curation.prepare import prepare, row_wise_fingerprint
from medllm_ops.curation.settings import CurationSettings
from medllm_ops.curation.state.state import CurationState
from medllm_ops.curation.workers import Runner
from medllm_ops.datasets.goal import Goal, Memory, Taken
from medllm_ops.datasets.store import locked
from medllm_ops.errors import MedllmError
from medllm_ops.files import text_hash, write_whole
from medllm_ops.home import home

log = logging.getLogger(__name__)

WAIT_SECONDS = 60.0
_MEMORY = "taken.json"
_STATE = "state"
_INCOMING = "incoming"
_REPLAY = ".replay."


@dataclass(frozen=True, slots=True)
class Fed:
    """The state that belongs to a goal, open; the folder it is in; and how it came to be."""

    state: CurationState
    folder: Path
    memory: Memory


@dataclass(frozen=True, slots=True)
class Work:
    """How the work is done."""

    settings: CurationSettings
    workers: int = 1
    runner: Runner = "local"


def curation_folder(storage: Storage) -> Path:
    """Where the state of a corpus lies: in the corpus's own folder, so that all who build from it find the same sides.

    Of a corpus in a bucket it lies in the home folder: a state is a database that wants a file system.
    """
    if isinstance(storage, Folder):
        return Path(storage.url) / "curation"
    return home() / "curation" / text_hash(storage.url)[:16]


@contextmanager
def fed(goal: Goal, work: Work, wait: float = WAIT_SECONDS) -> Iterator[Fed]:
    """Open the state that belongs to a goal; what it lacks of the history until then is taken in.

    The persistent state is used, unless it is ahead of the goal already, or the goal lies within a refresh. Then the
    history is taken into a state that is removed afterwards.

    :param wait: seconds to wait for another build from this corpus.
    :raises MedllmError: if another build does not end, or the state is of another corpus.
    """
    storage = goal.snapshot.storage
    folder = curation_folder(storage)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, wait, f"another build uses {folder}, and did not end in {wait:.0f} s: wait until it has"):
        for left in folder.glob(f"{_REPLAY}*"):
            shutil.rmtree(left)
        memory = _read(folder, storage)
        last = {end.source: end.version for end in goal.ends}
        is_ahead = any(taken.version > last.get(source, 0) for source, taken in memory.sources.items())
        if not is_ahead and not goal.is_within:
            yield from _fed(folder, memory, goal, work)
            return
        temporary = folder / f"{_REPLAY}{os.getpid()}"
        try:
            if is_ahead:
                log.info("the state is ahead of version %d: what led to it is replayed", goal.snapshot.version)
                memory = Memory(url=storage.url)
                temporary.mkdir()
            else:
                _copy(folder, temporary)
            yield from _fed(temporary, memory, goal, work)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _fed(folder: Path, memory: Memory, goal: Goal, work: Work) -> Iterator[Fed]:
    with CurationState.open(folder / _STATE, work.settings, worker_count=work.workers, runner=work.runner) as state:
        if not state.segments():
            memory = Memory(url=memory.url)
        feeder = _Feeder(folder, state, memory, goal, work)
        feeder.take_all()
        yield Fed(state, state.folder, feeder.memory)


def _read(folder: Path, storage: Storage) -> Memory:
    path = folder / _STATE / _MEMORY
    if not path.is_file():
        return Memory(url=storage.url)
    try:
        return Memory.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise MedllmError(f"{path} is damaged: remove {folder}, and sides will be decided anew") from error


def _copy(folder: Path, target: Path) -> None:
    """Copy the state; segments never change, so they are linked."""

    def copy(source: str, to: str) -> str:
        if Path(source).suffix in (".sqlite", ".json") or "sqlite" in Path(source).name:
            return str(shutil.copy2(source, to))
        os.link(source, to)
        return to

    ignored = shutil.ignore_patterns(".lock", "lock", f"{_REPLAY}*", _INCOMING)
    shutil.copytree(folder, target, ignore=ignored, copy_function=copy)


class _Feeder:
    """Takes ends of refreshes into the state in a folder, one after the other."""

    def __init__(self, folder: Path, state: CurationState, memory: Memory, goal: Goal, work: Work) -> None:
        self._folder = folder
        self._state = state
        self.memory = memory
        self._goal = goal
        self._storage = goal.snapshot.storage
        self._work = work

    def _keep(self, taken: Mapping[str, Taken], history: Sequence[tuple[int, str]]) -> None:
        """Remember what was taken in."""
        self.memory = Memory(
            url=self._storage.url,
            sources={**self.memory.sources, **taken},
            history=(*self.memory.history, *history),
        )
        with write_whole(self._state.folder / _MEMORY) as file:
            file.write(self.memory.model_dump_json(indent=1).encode())

    def take_all(self) -> None:
        """Take in what refreshes brought, those of them that were not taken in before."""
        if self.memory.sources and (reason := self._reason()):
            log.info("%s: all are taken in anew", reason)
            self._take_everything()
        for end in self._left():
            self._take(end)

    def _left(self) -> list[End]:
        return [end for end in self._goal.ends if end.version > self._taken(end.source).version]

    def _reason(self) -> str:
        return self._state.only_all(row_wise_fingerprint(self._work.settings))

    def _taken(self, source: str) -> Taken:
        return self.memory.sources.get(source, Taken(version=0, facts=0))

    def _take(self, end: End) -> None:
        """Take in one refresh; one that brought nothing leaves no trace."""
        snapshot = Snapshot(self._storage, end.version)
        before = self._taken(end.source)
        facts = snapshot.facts(end.source)
        if facts < before.facts:
            raise MedllmError(
                f"{self._folder} is the state of another corpus than {self._storage.url} is now: it knows of "
                f"{before.facts} facts about {end.source}, and the corpus has {facts}: remove {self._folder}, "
                "and sides are decided anew"
            )
        if facts == before.facts:
            return
        found = snapshot.changes(end.source, before.version, before.facts)
        gone = found.gone.to_pylist()
        log.info(
            "version %d, %s: %s changed, %d gone",
            end.version,
            end.source,
            "all" if found.changed is None else len(found.changed),
            len(gone),
        )
        lines = {end.source: snapshot.lines(end.source, found.changed, before.version)}
        taken = {end.source: Taken(version=end.version, facts=facts)}
        self._absorb(lines, gone, False, taken, ((end.version, end.source),))

    def _take_everything(self) -> None:
        """Take all rows in again, as they were when they were taken in last, or as soon after as can be read."""
        lines: dict[str, Iterator[bytes]] = {}
        taken: dict[str, Taken] = {}
        for source, before in sorted(self.memory.sources.items()):
            choices = [before.version, *(end.version for end in self._left() if end.source == source)]
            for version in choices:
                try:
                    snapshot = Snapshot(self._storage, version)
                    taken[source] = Taken(version=snapshot.version, facts=snapshot.facts(source))
                    lines[source] = snapshot.lines(source)
                except CorpusError:  # cleaned away
                    continue
                break
            else:
                raise MedllmError(
                    f"{self._storage.url}: no version that is left has all of {source}, whose records are to be taken "
                    "in anew: restore the settings"
                )
        history = tuple((one.version, source) for source, one in sorted(taken.items()))
        self._absorb(lines, [], True, taken, history)

    def _absorb(
        self,
        lines: Mapping[str, Iterator[bytes]],
        gone: Sequence[str],
        full: bool,
        taken: dict[str, Taken],
        history: tuple[tuple[int, str], ...],
    ) -> None:
        incoming = self._folder / _INCOMING
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        files = []
        for source, rows in lines.items():
            files.append(incoming / f"{source}.jsonl")
            with files[-1].open("wb") as file:
                file.writelines(rows)
        # Killed after a segment was taken in and before that is remembered, the same rows come again: they are known.
        segment = prepare(
            files,
            self._state.next_segment,
            self._work.settings,
            gone=gone,
            full=full,
            known=None if full else self._state.folder,
            worker_count=self._work.workers,
            runner=self._work.runner,
        )
        shutil.rmtree(incoming)
        if full or not segment.is_empty:
            self._state.absorb()
        else:
            shutil.rmtree(segment.folder)
        self._keep(taken, history)
