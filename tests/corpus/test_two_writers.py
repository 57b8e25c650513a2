"""Two writers of one source: the second is told, and one that slept through its lease can neither publish nor harm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest

from corpus.toys import apply, assert_sound, bring, deletion, document, texts
from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus import table as tables
from medllm_ops.corpus.lease import LeaseError
from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import Storage
from medllm_ops.corpus.writer import Writer, open_writer

FIRST = {str(n): "text" for n in range(6)}


@pytest.fixture(autouse=True)
def first(storage: Storage) -> None:
    for n in range(0, 6, 2):
        bring(storage, f"first {n}", [document(n), document(n + 1)], whole=True)


def expire(storage: Storage) -> None:
    """Let the lease of the latest holder run out, as if it had slept; its own process cannot tell."""
    key = storage.keys("leases/toy/")[-1]
    storage.write(key, orjson.dumps(orjson.loads(storage.read(key)) | {"host": "elsewhere", "until": time.time() - 1}))


@contextmanager
def sleeper(storage: Storage) -> Iterator[Writer]:
    """A writer whose lease has run out."""
    with open_writer(storage, "toy") as writer:
        expire(storage)
        yield writer


def test_the_second_is_told_who_is_at_work(storage: Storage) -> None:
    with (
        open_writer(storage, "toy") as writer,
        pytest.raises(LeaseError, match="toy is being written by process"),
        open_writer(storage, "toy"),
    ):
        pass
    with pytest.raises(LeaseError):
        apply(writer, "late", [document(1)])
    assert texts(storage) == FIRST


def test_one_that_wakes_before_it_wrote_stops_at_once(storage: Storage) -> None:
    with sleeper(storage) as late:
        bring(storage, "new", [document(9)])
        with pytest.raises(LeaseError, match="the lease on toy went to process"):
            apply(late, "late", [document(1, "late")])
    assert texts(storage) == FIRST | {"9": "text"}
    assert_sound(storage)


ACTS: dict[str, Callable[[Writer], Any]] = {
    "new records": lambda writer: apply(writer, "late", [document(20, "late"), document(21, "late")]),
    "changed records": lambda writer: apply(writer, "late", [document(n, "late") for n in range(6)]),
    "deletions": lambda writer: apply(writer, "late", [deletion(0), deletion(1)]),
    "a whole file": lambda writer: apply(writer, "first 0", [document(1, "late")], whole=True),
    "a file that went": lambda writer: apply(writer, "first 0", None),
    "a generation": lambda writer: apply(writer, "late", [document(1)], generation="x", generation_complete=True),
    "compaction": lambda writer: writer.compact(),
}
GOOD: dict[str, Callable[[Writer], Any]] = {
    "changed and new records": lambda writer: apply(writer, "good", [document(n, "good") for n in range(9)]),
    "a whole file": lambda writer: apply(writer, "first 2", [document(3, "good")], whole=True),
    "compaction": lambda writer: writer.compact(),
}
QUICK = ("changed and new records",)
METHODS = ("append", "upsert", "delete", "compact")


class RefusedError(Exception):
    """The late writer gets no further than this."""


def refuse(*_: Any) -> None:
    raise RefusedError


def write_late(late: str, writer: Writer) -> None:
    """Let the late writer write all it can."""
    ACTS[late](writer)
    raise RefusedError  # compaction may find nothing to do


def interrupt(number: int, act: Callable[[], None], patch: pytest.MonkeyPatch) -> list[str]:
    """Do something before the n-th write from now on; return the list that the writes are noted in."""
    calls: list[str] = []
    methods = {name: getattr(tables.Table, name) for name in METHODS}

    def wrapped(name: str) -> Callable[..., Any]:
        def method(*arguments: Any, **more: Any) -> Any:
            calls.append(name)
            if len(calls) == number:
                with pytest.MonkeyPatch.context() as undisturbed:
                    for one, original in methods.items():
                        undisturbed.setattr(tables.Table, one, original)
                    act()
            return methods[name](*arguments, **more)

        return method

    for name in METHODS:
        patch.setattr(tables.Table, name, wrapped(name))
    return calls


@pytest.mark.parametrize("good", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in GOOD])
@pytest.mark.parametrize("late", ACTS)
def test_one_that_wakes_in_the_middle_harms_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, late: str, good: str
) -> None:
    """Before each write of a good writer in turn, the late one, which believes in its lease, writes all it can."""
    calls = [""]
    interrupted = 0
    while len(calls) >= interrupted:
        interrupted += 1
        with sleeper(storage) as writer, open_writer(storage, "toy") as other, monkeypatch.context() as patch:
            writer._lease.check = lambda: None  # type: ignore[method-assign]

            def wake(writer: Writer = writer) -> None:
                with pytest.MonkeyPatch.context() as unpublished:
                    unpublished.setattr(manifests, "publish", refuse)
                    with pytest.raises((CorpusError, RefusedError)):
                        write_late(late, writer)

            before = Snapshot(storage).version, texts(storage)
            calls = interrupt(interrupted, wake, patch)
            try:
                GOOD[good](other)
            except CorpusError as error:
                assert str(error).endswith("nothing of this work was published: run it again")  # noqa: PT017
                assert (Snapshot(storage).version, texts(storage)) == before
        assert "late" not in texts(storage).values()
        assert_sound(storage)
        with open_writer(storage, "toy") as again:
            GOOD[good](again)
        assert "late" not in texts(storage).values()
        assert_sound(storage)
    assert interrupted > 5


def test_one_that_wakes_to_publish_after_another_published_cannot(storage: Storage) -> None:
    with sleeper(storage) as late:
        late._lease.check = lambda: None  # type: ignore[method-assign]
        bring(storage, "new", [document(9)])
        with pytest.raises(CorpusError, match=r"(wrote to|published|cannot be written).*: run it again"):
            apply(late, "late", [document(1, "late")])
    assert texts(storage) == FIRST | {"9": "text"}
    assert_sound(storage)


def test_if_it_publishes_before_the_other_the_other_stops(storage: Storage) -> None:
    with sleeper(storage) as late, open_writer(storage, "toy") as other:
        late._lease.check = lambda: None  # type: ignore[method-assign]
        apply(late, "late", [document(1, "late")])  # between its last look at the lease and this, the other came
        with pytest.raises(CorpusError, match=r"(wrote to|published|cannot be written).*: run it again"):
            apply(other, "good", [document(1, "good")])
    assert texts(storage)["1"] == "late"
    assert_sound(storage)
    bring(storage, "good", [document(1, "good")])
    assert texts(storage)["1"] == "good"


def test_a_late_one_that_opens_its_tables_harms_nothing(storage: Storage) -> None:
    """It undoes what it finds beyond the manifest that it knows; the other, in the middle of its work, notices."""
    with sleeper(storage) as late, open_writer(storage, "toy") as other:
        late._lease.check = lambda: None  # type: ignore[method-assign]
        apply(other, "good", [document(1, "good")])
        late._is_whole = False
        with pytest.raises(CorpusError, match="another process"):
            apply(late, "late", [document(1, "late")])
        assert texts(storage)["1"] == "good"
    bring(storage, "good 2", [document(2, "good")])
    assert texts(storage) == FIRST | {"1": "good", "2": "good"}
    assert_sound(storage)
