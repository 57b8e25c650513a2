import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from medllm_ops.compute.job import Job
from medllm_ops.compute.processes import MARK, marked_processes
from medllm_ops.files import read_json

MakeJob = Callable[..., Job]
WaitUntil = Callable[[Callable[[], object]], None]

SLEEP = "open('ready', 'w').close(); import time; time.sleep(600)"
SLOW_TO_END = f"""
import signal, sys, time
def end(*_):
    open("asked", "w").close()
    time.sleep(0.3)
    sys.exit()
signal.signal(signal.SIGTERM, end)
{SLEEP}
"""
# The launcher ends at once, the rank it started in a session of its own does not.
LAUNCHER = """
import subprocess, sys
rank = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open("rank.txt", "w").write(str(rank.pid))
"""


def start(job: Job) -> subprocess.Popen[bytes]:
    job.write()
    command = [sys.executable, "-m", "medllm_ops.compute.supervisor", str(job.directory)]
    return subprocess.Popen(command, env={**os.environ, MARK: job.id}, stderr=subprocess.PIPE)


def test_sigterm_ends_the_job_and_the_result_says_so(make_job: MakeJob, wait_until: WaitUntil) -> None:
    job = make_job(SLEEP)
    supervisor = start(job)
    wait_until(lambda: (job.directory / "ready").exists() and (job.directory / "process.json").exists())
    pid = read_json(job.directory / "process.json")["pid"]
    assert psutil.Process(pid).ppid() == supervisor.pid
    supervisor.send_signal(signal.SIGTERM)
    _, errors = supervisor.communicate(timeout=30)
    assert errors == b""
    assert supervisor.returncode != 0
    assert not psutil.pid_exists(pid)
    result = job.result()
    assert result
    assert (result.key, result.stopped) == ("key", True)
    assert result.exit_code != 0


def test_a_second_sigterm_does_not_cost_the_result(make_job: MakeJob, wait_until: WaitUntil) -> None:
    job = make_job(SLOW_TO_END)
    supervisor = start(job)
    wait_until((job.directory / "ready").exists)
    supervisor.send_signal(signal.SIGTERM)
    wait_until((job.directory / "asked").exists)
    supervisor.send_signal(signal.SIGTERM)
    _, errors = supervisor.communicate(timeout=30)
    assert errors == b""
    result = job.result()
    assert result
    assert result.stopped


def test_a_rank_that_outlives_its_launcher_is_ended(make_job: MakeJob) -> None:
    job = make_job(LAUNCHER)
    supervisor = start(job)
    supervisor.communicate(timeout=60)
    assert supervisor.returncode == 0
    assert not psutil.pid_exists(int((job.directory / "rank.txt").read_text()))
    result = job.result()
    assert result
    assert (result.exit_code, result.stopped) == (0, False)


def test_a_result_that_cannot_be_written_is_told_and_not_tried_for_ever(make_job: MakeJob) -> None:
    job = make_job("print('done')")
    job.result_file.mkdir(parents=True)
    supervisor = start(job)
    try:
        supervisor.communicate(timeout=30)
    finally:
        supervisor.kill()
    assert supervisor.returncode != 0
    assert "cannot write the result of exit code 0: [Errno 21] Is a directory" in job.log_tail(1)


def test_the_mark_reaches_every_process_of_the_job(make_job: MakeJob, directory: Path) -> None:
    job = make_job(f"import os; print(os.environ[{MARK!r}])")
    start(job).communicate(timeout=60)
    assert job.log_tail(1) == job.id
    assert list(marked_processes(job.id)) == []
