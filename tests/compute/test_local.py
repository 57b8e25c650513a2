import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from medllm_ops.compute.job import Job, JobError
from medllm_ops.compute.local import LocalPlace
from medllm_ops.compute.processes import ProcessIdentity, marked_processes
from medllm_ops.files import read_json

MakeJob = Callable[..., Job]
Submit = Callable[[Job], ProcessIdentity]
WaitUntil = Callable[[Callable[[], object]], None]

# Notes that it runs, then waits until it may end.
COUNTED = """
import os, time
with open("runs.txt", "a") as file:
    file.write(f"{os.getpid()}\\n")
while not os.path.exists("end"):
    time.sleep(0.02)
"""
# A child in a session of its own, one with an empty environment, and one of the same session.
FAMILY = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
children = [
    subprocess.Popen(sleep, start_new_session=True),
    subprocess.Popen(sleep, env={}),
    subprocess.Popen(sleep),
]
open("family.txt", "w").write(" ".join(str(child.pid) for child in children))
time.sleep(600)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("ready", "w").close()
time.sleep(600)
"""
WORKER = """
import sys
from pathlib import Path
from medllm_ops.compute.job import Job
from medllm_ops.compute.local import LocalPlace
LocalPlace().run(Job(sys.argv[1], "key", (sys.executable, "-c", sys.argv[2]), Path(sys.argv[3])))
"""


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def supervisors(job: Job) -> list[psutil.Process]:
    return [process for process in marked_processes(job.id) if "medllm_ops.compute.supervisor" in process.cmdline()]


def test_a_job_that_ends_well_leaves_its_whole_story(place: LocalPlace, make_job: MakeJob) -> None:
    job = make_job("import os; print(os.environ['COLOUR'], os.getcwd())", COLOUR="green")
    polls: list[None] = []
    result = place.run(job, lambda: polls.append(None))
    assert (result.key, result.exit_code, result.stopped) == ("key", 0, False)
    assert result.seconds > 0
    assert polls
    assert job.result() == result
    assert job.log_tail().splitlines()[-1] == f"green {job.directory}"
    assert Job.read(job.directory) == job
    assert not place.running(job.directory, "key")


def test_a_job_that_ended_well_is_not_run_again(place: LocalPlace, make_job: MakeJob) -> None:
    job = make_job("print('once', file=open('runs.txt', 'a'))")
    assert place.run(job) == place.run(job)
    assert lines(job.directory / "runs.txt") == ["once"]
    place.run(make_job("print('once', file=open('runs.txt', 'a'))", key="other"))
    assert len(lines(job.directory / "runs.txt")) == 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit(2)", "exit code 2: an argument that ms-swift does not accept"),
        ("1 / 0", "exit code 1: an exception"),
        ("import os; os.kill(os.getpid(), 9)", "exit code -9: it was killed (SIGKILL: often the kernel, out of memory"),
        ("raise SystemExit(77)", "exit code 77: unknown"),
    ],
)
def test_a_job_that_fails_says_how_and_shows_the_end_of_its_log(
    place: LocalPlace, make_job: MakeJob, code: str, reason: str
) -> None:
    job = make_job(f"print('first line'); print('last words', flush=True); {code}")
    with pytest.raises(JobError, match=re.escape(reason)) as caught:
        place.run(job)
    assert str(job.log) in str(caught.value)
    assert "last words" in str(caught.value)
    result = job.result()
    assert result
    assert not result.stopped


def test_a_job_that_failed_is_tried_again_and_its_log_goes_on(place: LocalPlace, make_job: MakeJob) -> None:
    job = make_job("import os, sys; print('try'); sys.exit(0 if os.path.exists('fixed') else 1)")
    with pytest.raises(JobError):
        place.run(job)
    (job.directory / "fixed").touch()
    assert place.run(job).exit_code == 0
    assert lines(job.log).count("try") == 2


def test_a_command_that_cannot_be_started_is_named(place: LocalPlace, directory: Path, make_job: MakeJob) -> None:
    job = Job(make_job("").id, "key", ("/no/such/swift", "sft"), directory)
    with pytest.raises(JobError, match=r"could not be started(?s:.*)cannot start /no/such/swift: .*No such file"):
        place.run(job)


def test_stop_ends_the_whole_tree(submit: Submit, place: LocalPlace, make_job: MakeJob, wait_until: WaitUntil) -> None:
    job = make_job(FAMILY)
    supervisor = submit(job)
    family = job.directory / "family.txt"
    wait_until(lambda: len(family.read_text().split()) == 3 if family.is_file() else False)
    members = [ProcessIdentity.of(int(pid)) for pid in family.read_text().split()]
    assert all(member.alive() for member in members)
    place.stop(job.directory)
    assert not any(member.alive() for member in [supervisor, *members])
    result = job.result()
    assert result
    assert result.stopped
    assert result.exit_code != 0
    place.stop(job.directory)


def test_a_stopped_job_is_no_success_even_if_it_ends_with_exit_code_0(
    place: LocalPlace, make_job: MakeJob, wait_until: WaitUntil
) -> None:
    code = f"import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n{COUNTED}"
    job = make_job(code)
    timer = threading.Thread(
        target=lambda: (wait_until(lambda: lines(job.directory / "runs.txt")), place.stop(job.directory)), daemon=True
    )
    timer.start()
    with pytest.raises(JobError, match="it was stopped"):
        place.run(job)
    timer.join()
    (job.directory / "end").touch()
    assert place.run(job).exit_code == 0
    assert len(lines(job.directory / "runs.txt")) == 2


def test_a_process_that_does_not_listen_is_killed(
    place: LocalPlace, make_job: MakeJob, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medllm_ops.compute import processes

    job = make_job(STUBBORN)
    place.submit(job)
    wait_until((job.directory / "ready").exists)
    processes.end_job(job.id, grace_seconds=0.3)
    assert list(marked_processes(job.id)) == []


def test_a_worker_that_is_interrupted_ends_its_job(place: LocalPlace, make_job: MakeJob, wait_until: WaitUntil) -> None:
    job = make_job(COUNTED)

    def interrupt() -> None:
        if lines(job.directory / "runs.txt"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.run(job, interrupt)
    assert list(marked_processes(job.id)) == []


def test_a_job_outlives_its_worker_and_is_found_again(
    submit: Submit, place: LocalPlace, make_job: MakeJob, wait_until: WaitUntil
) -> None:
    job = make_job(COUNTED)
    worker = subprocess.Popen([sys.executable, "-c", WORKER, job.id, COUNTED, str(job.directory)])
    wait_until(lambda: lines(job.directory / "runs.txt"))
    worker.kill()
    worker.wait()
    assert place.running(job.directory, "key")
    (supervisor,) = supervisors(job)
    found = submit(job)
    assert found.pid == supervisor.pid
    (job.directory / "end").touch()
    assert place.run(job).exit_code == 0
    assert len(lines(job.directory / "runs.txt")) == 1


def test_two_workers_at_once_share_one_job(place: LocalPlace, make_job: MakeJob, wait_until: WaitUntil) -> None:
    job = make_job(COUNTED)
    results = []
    workers = [threading.Thread(target=lambda: results.append(LocalPlace().run(job))) for _ in range(4)]
    for worker in workers:
        worker.start()
    wait_until(lambda: lines(job.directory / "runs.txt"))
    (job.directory / "end").touch()
    for worker in workers:
        worker.join()
    assert len(lines(job.directory / "runs.txt")) == 1
    assert [result.exit_code for result in results] == [0, 0, 0, 0]


def test_what_a_killed_supervisor_left_is_ended_before_the_job_starts_again(
    submit: Submit, place: LocalPlace, make_job: MakeJob, wait_until: WaitUntil
) -> None:
    job = make_job(COUNTED)
    supervisor = submit(job)
    wait_until(lambda: lines(job.directory / "runs.txt"))
    os.kill(supervisor.pid, signal.SIGKILL)
    wait_until(lambda: not supervisor.alive())
    orphan = ProcessIdentity.of(int(lines(job.directory / "runs.txt")[0]))
    assert orphan.alive()
    second = submit(job)
    assert second != supervisor
    assert not orphan.alive()
    wait_until(lambda: len(lines(job.directory / "runs.txt")) == 2)
    (job.directory / "end").touch()
    assert place.run(job).exit_code == 0
    assert len(lines(job.directory / "runs.txt")) == 2


def test_a_supervisor_that_is_killed_while_a_worker_waits_is_an_error_and_leaves_nothing(
    place: LocalPlace, make_job: MakeJob
) -> None:
    job = make_job(COUNTED)

    def kill() -> None:
        if lines(job.directory / "runs.txt") and (supervisor := job.supervisor()) and supervisor.alive():
            os.kill(supervisor.pid, signal.SIGKILL)

    with pytest.raises(JobError, match="its supervisor was killed"):
        place.run(job, kill)
    assert list(marked_processes(job.id)) == []


def test_another_key_ends_the_old_job(
    submit: Submit, place: LocalPlace, make_job: MakeJob, wait_until: WaitUntil
) -> None:
    old = make_job(COUNTED)
    supervisor = submit(old)
    wait_until(lambda: lines(old.directory / "runs.txt"))
    assert not place.running(old.directory, "new")
    process = ProcessIdentity.of(int(lines(old.directory / "runs.txt")[0]))
    assert place.run(make_job("print('new')", key="new")).key == "new"
    assert not supervisor.alive()
    assert not process.alive()


def test_a_pid_that_now_belongs_to_another_process_is_not_the_supervisor(place: LocalPlace, make_job: MakeJob) -> None:
    job = make_job("print('ran')")
    job.directory.mkdir(parents=True)
    job.write()
    myself = ProcessIdentity.of(os.getpid())
    place.spool.submit(job)
    (entry,) = place.spool.queued()
    assert place.spool.take(entry)
    place.spool.started(entry, myself)
    assert place.running(job.directory, "key")
    place.spool.started(entry, replace(myself, started=myself.started - 60))
    assert not place.running(job.directory, "key")
    place.spool.started(entry, replace(myself, boot="another"))
    assert not place.running(job.directory, "key")
    assert place.run(job).exit_code == 0
    assert read_json(job.directory / "supervisor.json")["pid"] != myself.pid
