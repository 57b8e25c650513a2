"""One writer at a time: the others are told who it is, a dead one stands in nobody's way, a late one finds out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from medllm_ops.corpus import lease as leases
from medllm_ops.corpus.lease import LeaseError, hold
from medllm_ops.corpus.storage import Storage, StorageError

HOLDER = Path(__file__).with_name("holder.py")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_POLL_SECONDS", 0.01)


@pytest.fixture
def start(storage: Storage) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a process that will hold the lease once it is told to."""
    started: list[subprocess.Popen[str]] = []

    def start_one() -> subprocess.Popen[str]:
        command = [sys.executable, str(HOLDER), storage.url, "x"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert read(process) == "ready"
        return process

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


def read(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def statement(storage: Storage) -> dict[str, Any]:
    said: dict[str, Any] = orjson.loads(storage.read(storage.keys("leases/x/")[-1]))
    return said


def say(storage: Storage, **changes: Any) -> None:
    storage.write(storage.keys("leases/x/")[-1], orjson.dumps({**statement(storage), **changes}))


def test_the_second_is_told_who_holds_it(any_storage: Storage) -> None:
    with hold(any_storage, "x") as lease:
        assert lease.token == 1
        who = rf"x is being written by process {os.getpid()} on \S+ \(running since 20\d\d-.*UTC\); wait"
        with pytest.raises(LeaseError, match=who), hold(any_storage, "x"):
            pass
        with hold(any_storage, "y") as other:
            other.check()
        lease.check()
    with hold(any_storage, "x") as lease:
        assert lease.token == 2


def test_the_second_waits_when_told_to(storage: Storage) -> None:
    order: list[str] = []

    def second() -> None:
        with hold(storage, "x", wait=60):
            order.append("second")

    with hold(storage, "x"):
        thread = threading.Thread(target=second)
        thread.start()
        while not thread.is_alive():
            time.sleep(0.001)
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_it_waits_no_longer_than_told(storage: Storage) -> None:
    with (
        hold(storage, "x"),
        pytest.raises(LeaseError, match="is being written"),
        hold(storage, "x", wait=0.05),
    ):
        pass


def test_it_is_given_back_after_a_failure(storage: Storage) -> None:
    with pytest.raises(ZeroDivisionError), hold(storage, "x"):
        raise ZeroDivisionError
    with hold(storage, "x"):
        pass


def test_it_cannot_be_used_after_it_was_given_back(storage: Storage) -> None:
    with hold(storage, "x") as lease:
        pass
    with pytest.raises(LeaseError, match="the lease on x was given back"):
        lease.check()


@pytest.mark.parametrize("buried", [True, False])
def test_a_dead_holders_lease_is_taken_at_once(
    storage: Storage, start: Callable[[], subprocess.Popen[str]], buried: bool
) -> None:
    holder = start()
    tell(holder)
    assert read(holder) == "1"
    with pytest.raises(LeaseError, match=f"process {holder.pid} on"), hold(storage, "x"):
        pass
    holder.send_signal(signal.SIGKILL)
    if buried:
        holder.wait()
    else:
        while psutil.Process(holder.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.001)
    with hold(storage, "x") as lease:
        assert lease.token == 2


def test_another_process_with_the_dead_ones_number_is_not_it(storage: Storage) -> None:
    with hold(storage, "x"):
        pass
    say(storage, released=False, started=psutil.Process().create_time() - 100)
    with hold(storage, "x") as lease:
        assert lease.token == 2


def test_of_another_host_an_expired_one_is_taken_and_no_other(storage: Storage) -> None:
    with hold(storage, "x"):
        pass
    say(storage, released=False, host="elsewhere", pid=1)
    with pytest.raises(LeaseError, match="by process 1 on elsewhere"), hold(storage, "x"):
        pass
    say(storage, until=time.time() - 1)
    with hold(storage, "x") as lease:
        assert lease.token == 2


def test_a_holder_that_slept_finds_that_it_lost(storage: Storage) -> None:
    with hold(storage, "x") as sleeper:
        sleeper.check()
        say(storage, host="elsewhere", until=time.time() - 1)
        with hold(storage, "x") as other:
            with pytest.raises(LeaseError, match=f"went to process {os.getpid()} on .* while this process was silent"):
                sleeper.check()
            sleeper.renew()
            with pytest.raises(LeaseError, match="went to"):
                sleeper.check()
            other.check()
    with hold(storage, "x") as third:
        assert third.token == 3


def test_a_thread_renews_it_and_survives_a_failure(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([StorageError("no"), OSError("no")])
    write = storage.write

    def failing(key: str, data: bytes) -> None:
        if error := next(failures, None):
            raise error
        write(key, data)

    monkeypatch.setattr(storage, "write", failing)
    with hold(storage, "x", seconds=0.6):
        first = statement(storage)["until"]
        for _ in range(1000):
            if statement(storage)["until"] > first:
                break
            time.sleep(0.01)
        assert statement(storage)["until"] > first


def test_when_it_cannot_be_given_back_the_work_still_counts(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(key: str, data: bytes) -> None:
        raise StorageError("no")

    with hold(storage, "x"):
        monkeypatch.setattr(storage, "write", failing)


def test_of_two_processes_that_race_one_wins(storage: Storage, start: Callable[[], subprocess.Popen[str]]) -> None:
    processes = [start() for _ in range(2)]
    for process in processes:
        tell(process)
    answers = [read(process) for process in processes]
    assert sorted(answer.isdecimal() for answer in answers) == [False, True]
    (loser,) = [answer for answer in answers if not answer.isdecimal()]
    (winner,) = [process for process, answer in zip(processes, answers, strict=True) if answer.isdecimal()]
    assert f"x is being written by process {winner.pid}" in loser


def test_of_many_threads_that_race_one_wins(storage: Storage) -> None:
    barrier = threading.Barrier(8)
    won: list[int] = []
    lost: list[str] = []

    def race() -> None:
        barrier.wait()
        try:
            with hold(storage, "x") as lease:
                won.append(lease.token)
                barrier.wait()
        except LeaseError as error:
            lost.append(str(error))
            barrier.wait()

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [1]
    assert len(lost) == 7


def test_old_statements_are_cleared_away(storage: Storage) -> None:
    for _ in range(12):
        with hold(storage, "x"):
            pass
    assert [key[-7:] for key in storage.keys("leases/x/")] == [f"{n:02}.json" for n in range(8, 13)]
