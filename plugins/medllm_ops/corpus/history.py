"""Which versions of the corpus end a refresh: between them, a source is half refreshed."""

from __future__ import annotations

from dataclasses import dataclass

from medllm_ops.corpus import lease as leases
from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.manifest import SourceState
from medllm_ops.corpus.storage import Storage


@dataclass(frozen=True, slots=True, order=True)
class End:
    """The last version that one refresh of a source made."""

    version: int
    source: str


@dataclass(frozen=True, slots=True)
class History:
    """``ends`` of refreshes, oldest first; and for sources whose refresh goes on, the last version of it so far."""

    ends: list[End]
    unfinished: list[End]


def read_history(storage: Storage, until: int, since: int = 0) -> History:
    """The refreshes of all sources in the versions after ``since`` and up to ``until``.

    A writer has a token of its own in the versions that it makes, so a refresh ends where a source's next version has
    another one. The latest version of a source ends its refresh if nobody holds the lease on it. A refresh that was
    killed ends with its last version, too: the next one goes on after it. Versions that were cleaned away cannot be
    told: of a refresh that is only partly there, the last version that is left counts as its end.
    """
    found: list[End] = []
    last: dict[str, tuple[int, SourceState]] = {}
    settled: set[str] = set()
    for number in _looked_at(manifests.versions(storage), since):
        if number > until and settled >= set(last):
            break
        for name, state in manifests.read(storage, number).sources.items():
            if name in settled:
                continue
            before = last.get(name)
            if before and before[1] == state:
                continue
            if before and before[1].token != state.token:
                found.append(End(before[0], name))
                if number > until:
                    settled.add(name)
            if number <= until:
                last[name] = (number, state)
            elif before and before[1].token == state.token:
                settled.add(name)
    ended = set(found)
    unfinished = []
    for name, (number, state) in last.items():
        end = End(number, name)
        if end in ended or number <= since:
            continue
        if name in settled or leases.is_held(storage, name, state.token):
            unfinished.append(end)
        else:
            found.append(end)
    return History(sorted(end for end in found if end.version > since), sorted(unfinished))


def _looked_at(numbers: list[int], since: int) -> list[int]:
    """The versions after ``since``, and the one before them to compare with."""
    before = [number for number in numbers if number <= since]
    return [*before[-1:], *(number for number in numbers if number > since)]
