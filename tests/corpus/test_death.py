"""A writer that dies between any two writes leaves the last whole version, and the next one finishes the work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corpus.toys import Item, apply, assert_sound, deletion, document, exported, reject
from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus import writer as writers
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import Storage, open_storage
from medllm_ops.corpus.table import Table
from medllm_ops.corpus.writer import Writer, open_writer

FILES: list[tuple[str, list[Item] | None, dict[str, Any]]] = [
    ("a", [document(1), document(2), document(3), reject(4)], {"whole": True}),
    ("a", [document(2, "changed"), document(5, retracted=True)], {"whole": True}),
    ("b", [document(1, "again"), deletion(5), document(6)], {}),
    ("new 1", [document(1), document(2, "changed"), document(7)], {"generation": "new"}),
    ("new 2", [document(8), deletion(6)], {"generation": "new", "generation_complete": True}),
    ("a", None, {"generation": "new"}),
]
METHODS = ("reset", "append", "upsert", "delete", "compact")


class Death(BaseException):
    """Takes the writer's process away; nobody catches it."""


def run(storage: Storage) -> None:
    """Apply what is not yet applied, as a refresh would, and compact at the end."""
    with open_writer(storage, "toy") as writer:
        while writer.next_number <= len(FILES):
            name, items, more = FILES[writer.next_number - 1]
            apply(writer, name, items, checksum=str(writer.next_number), **more)
        if Snapshot(storage).table("toy", "files")._data.get_fragments()[1:]:
            writer.compact()


def each_write(before: Callable[[int], None], after: Callable[[int], None], patch: pytest.MonkeyPatch) -> None:
    """Call ``before`` and ``after`` around every write, with its number."""
    counted = 0

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **more: Any) -> Any:
            nonlocal counted
            counted += 1
            number = counted
            before(number)
            result = method(*arguments, **more)
            after(number)
            return result

        return wrapped

    for name in METHODS:
        patch.setattr(Table, name, wrap(getattr(Table, name)))
    patch.setattr(manifests, "publish", wrap(manifests.publish))


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """The export after each number of applied files, of a writer that was never disturbed."""
    storage = open_storage(str(tmp_path_factory.mktemp("truth")))
    run(storage)
    by_files = {0: b""}
    for version in manifests.versions(storage):
        by_files[manifests.read(storage, version).source("toy").files] = exported(storage, version, retracted=True)
    assert len(by_files) == 7
    assert by_files[4] == by_files[3]
    assert [content.count(b"\n") for content in by_files.values()] == [0, 3, 2, 3, 3, 4, 3]
    return by_files


def assert_whole(storage: Storage, truth: dict[int, bytes]) -> None:
    applied = manifests.read(storage).source("toy").files
    assert exported(storage, retracted=True) == truth[applied]
    assert_sound(storage)


def finish(storage: Storage, truth: dict[int, bytes]) -> None:
    run(storage)
    assert exported(storage, retracted=True) == truth[len(FILES)]
    assert_sound(storage)
    ledgers = [row["ledger"]["in"] for row in Snapshot(storage).files("toy")]
    assert ledgers == [4, 2, 3, 3, 2, 0]


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_death_before_any_write(
    tmp_path: Path, truth: dict[int, bytes], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    for fatal in range(1, 1000, step):
        storage = open_storage(str(tmp_path / str(fatal)))

        def die(number: int, fatal: int = fatal) -> None:
            if number == fatal:
                raise Death

        with monkeypatch.context() as patch:
            each_write(die, ignore, patch)
            try:
                run(storage)
            except Death:
                pass
            else:
                break
        assert_whole(storage, truth)
        finish(storage, truth)
    assert fatal > 60, "there are more writes than that"


def ignore(_: int) -> None:
    """Nothing happens."""


def test_death_at_every_write_in_turn(
    storage: Storage, truth: dict[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run dies a few writes later than the one before, in one and the same corpus."""
    deaths = 0
    for survived in (*range(1, 40, 3), 10_000):

        def die(number: int, survived: int = survived) -> None:
            if number > survived:
                raise Death

        with monkeypatch.context() as patch:
            each_write(die, ignore, patch)
            try:
                run(storage)
            except Death:
                deaths += 1
        assert_whole(storage, truth)
    assert deaths > 5
    finish(storage, truth)


@pytest.fixture
def killed(storage: Storage) -> Callable[[int], int]:
    """Run in a process of its own that kills itself at a write."""

    def run_one(fatal: int) -> int:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, __file__, storage.url, str(fatal)]
        return subprocess.run(command, check=False, env=environment, stderr=subprocess.DEVNULL).returncode

    return run_one


@pytest.mark.parametrize("writes", [7, 12, 26])
def test_killed_and_continued(
    storage: Storage, truth: dict[int, bytes], killed: Callable[[int], int], writes: int
) -> None:
    assert killed(writes) == -signal.SIGKILL
    assert_whole(storage, truth)
    assert killed(writes) == -signal.SIGKILL
    assert_whole(storage, truth)
    finish(storage, truth)


def test_the_comparison_sees_a_lost_write(
    storage: Storage, truth: dict[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were a half file published, this would be seen: its own power is tried with one that is."""
    monkeypatch.setattr(writers, "tombstones", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(storage)
    with monkeypatch.context() as patch, open_writer(storage, "toy") as writer:
        patch.setattr(Writer, "_tombstones", lambda *_: iter(()))
        name, items, more = FILES[writer.next_number - 1]
        apply(writer, name, items, **more)
    with pytest.raises(AssertionError):
        assert_whole(storage, truth)
    storage.delete(storage.keys("manifests/")[-1])
    monkeypatch.undo()
    finish(storage, truth)


if __name__ == "__main__":

    def _kill(number: int) -> None:
        if number == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    each_write(ignore, _kill, pytest.MonkeyPatch())
    run(open_storage(sys.argv[1]))
