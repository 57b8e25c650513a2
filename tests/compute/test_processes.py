import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import psutil
import pytest

from medllm_ops.compute.processes import MARK, ProcessIdentity, end_job, environment_of, marked_processes

JOB = f"test-of-processes-{os.getpid()}"
SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]


def start(mark: str | None) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    environment.update({MARK: mark} if mark else {})
    process = subprocess.Popen(SLEEP, env=environment, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    return process


@pytest.fixture
def sleeping() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """One process of the job, one of another job, one of none."""
    processes = {"ours": start(JOB), "other": start(f"{JOB}-other"), "nobody": start(None)}
    yield processes
    for process in processes.values():
        process.kill()
        process.communicate()


def test_only_the_processes_of_the_job_are_ended(sleeping: dict[str, subprocess.Popen[bytes]]) -> None:
    assert [process.pid for process in marked_processes(JOB)] == [sleeping["ours"].pid]
    assert end_job(JOB) == 1
    assert list(marked_processes(JOB)) == []
    assert sleeping["other"].poll() is None
    assert sleeping["nobody"].poll() is None
    assert end_job(JOB) == 0


def test_the_oldest_process_comes_first() -> None:
    processes = [start(JOB) for _ in range(5)]
    try:
        assert [process.pid for process in marked_processes(JOB)] == [process.pid for process in processes]
    finally:
        end_job(JOB)
        for process in processes:
            process.communicate()


def test_a_spared_process_lives_on(sleeping: dict[str, subprocess.Popen[bytes]]) -> None:
    assert end_job(JOB, spare=[sleeping["ours"].pid]) == 0
    assert sleeping["ours"].poll() is None


def test_a_job_that_a_job_started_is_none_of_its_processes() -> None:
    code = f"import os, subprocess, sys; os.environ[{MARK!r}] = sys.argv[1]; subprocess.run({SLEEP!r})"
    outer = subprocess.Popen(
        [sys.executable, "-c", code, f"{JOB}-inner"], env={**os.environ, MARK: JOB}, stdout=subprocess.PIPE
    )
    assert outer.stdout
    outer.stdout.readline()
    try:
        (inner,) = psutil.Process(outer.pid).children()
        assert [process.pid for process in marked_processes(JOB)] == [outer.pid]
        assert [process.pid for process in marked_processes(f"{JOB}-inner")] == [inner.pid]
    finally:
        end_job(f"{JOB}-inner")
        end_job(JOB)
        outer.communicate()


def test_a_process_that_was_started_this_moment_has_its_mark() -> None:
    # The system shows the environment a moment after Popen has returned: without care some of these are missed.
    for _ in range(500):
        process = subprocess.Popen(["sleep", "600"], env={MARK: JOB})
        try:
            assert environment_of(psutil.Process(process.pid)) == {MARK: JOB}
        finally:
            process.kill()
            process.wait()


def test_a_process_may_have_no_environment() -> None:
    process = subprocess.Popen(SLEEP, env={}, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    try:
        assert MARK not in environment_of(psutil.Process(process.pid))
    finally:
        process.kill()
        process.communicate()


def test_a_process_is_its_pid_with_its_start_time(
    sleeping: dict[str, subprocess.Popen[bytes]], wait_until: Callable[[Callable[[], object]], None]
) -> None:
    process = sleeping["nobody"]
    identity = ProcessIdentity.of(process.pid)
    assert ProcessIdentity.from_row(identity.to_row()) == identity
    assert identity.alive()
    assert not ProcessIdentity(identity.pid, identity.started - 1).alive()
    process.kill()
    # Not waited for: a zombie is not alive.
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert not identity.alive()
    process.wait()
    assert not identity.alive()
    with pytest.raises(psutil.NoSuchProcess):
        ProcessIdentity.of(process.pid)


def test_a_clock_that_jumps_makes_no_process_another(monkeypatch: pytest.MonkeyPatch) -> None:
    myself = ProcessIdentity.of(os.getpid())
    # What a process's start in seconds since the epoch does when somebody sets the clock.
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 0.0)
    assert myself.alive()
    assert ProcessIdentity.of(os.getpid()) == myself


def test_a_pid_of_another_boot_or_host_says_nothing_here() -> None:
    myself = ProcessIdentity.of(os.getpid())
    assert ProcessIdentity.from_row(myself.to_row()) == myself
    assert not replace(myself, boot="another").alive()
    assert not replace(myself, host="another").alive()
    assert not replace(myself, host="another").here
