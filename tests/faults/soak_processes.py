"""Kills around a job: of the worker that watches, the trainer, the supervisor, the job, its rank, at a random moment.

The job is a tiny real child, or a training of the tiny model by ms-swift itself.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from faults.soak_files import Done
from faults.world import (
    HERE,
    STEPS,
    assert_clear,
    difference,
    leave_nothing,
    losses,
    make_request,
    trainers_of,
    wait_for,
)
from medllm_ops.compute.job import job_id
from medllm_ops.compute.processes import marked_processes
from medllm_ops.compute.spool import Spool
from medllm_ops.files import read_json, write_json

CHILD_STEPS = 20
# Goes on behind the last line that it finds, and has a rank in a session of its own, as torch has.
CHILD = f"""
import os, subprocess, sys, time
from pathlib import Path
rank = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)", "rank"], start_new_session=True)
file = Path("steps.txt")
done = len(file.read_text().splitlines()) if file.is_file() else 0
for number in range(done + 1, {CHILD_STEPS + 1}):
    time.sleep(0.05)
    with file.open("a") as out:
        out.write(f"{{number}}\\n")
    if rank.poll() is not None:
        sys.exit(3)
"""
CHILD_WORKER = """
import sys
from pathlib import Path
from medllm_ops.compute.job import Job, job_id
from medllm_ops.compute.local import LocalPlace
folder = Path(sys.argv[1])
LocalPlace().run(Job(job_id(folder), "key", (sys.executable, "-c", sys.argv[2]), folder, gpus=1))
"""
SWIFT_WORKER = """
import sys
from pathlib import Path
from medllm_ops.compute.local import LocalPlace
from medllm_ops.files import read_json
from medllm_ops.swift.request import TrainRequest
from medllm_ops.swift.train import train
train(TrainRequest.from_row(read_json(Path(sys.argv[1]))), LocalPlace())
"""
WORDS = {
    "supervisor": "medllm_ops.compute.supervisor",
    "attempts": "medllm_ops.swift.attempts",
    "ms-swift": "swift.cli.sft",
    "child": CHILD,
    "rank": "rank",
}
TOLERANCE = 1e-5


def kill_child(work: Path, source: random.Random) -> Done:
    """Kill something around a tiny real child, and let a worker ask for it again."""
    home, folder = work / "home", work / "home" / "work" / "job"
    leave_nothing(home)
    _remove(home)
    command = [sys.executable, "-c", CHILD_WORKER, str(folder), CHILD]
    role, number = source.choice(["worker", "trainer", "supervisor", "child", "rank"]), _signal(source)
    killed, where = _strike(command, home, job_id(folder), role, number, source.uniform(0.0, 2.5))
    again = _run(command, home)
    steps = (folder / "steps.txt").read_text().split()
    right = again == 0 and steps == [str(step) for step in range(1, CHILD_STEPS + 1)]
    return _clear(
        Done(f"{number.name} of the {role}", where, killed, right, f"exit code {again}, {len(steps)} steps"),
        home,
        folder,
    )


def kill_swift(work: Path, source: random.Random, model: Callable[[], Path]) -> Done:
    """Kill something around a training by ms-swift, and let a worker ask for it again."""
    kept = work / "unbroken.json"
    if not kept.is_file():
        _remove(work)
        request = make_request(work / "unbroken", model())
        write_json(work / "unbroken" / "request.json", request.to_row())
        started = time.monotonic()
        assert _run([sys.executable, "-c", SWIFT_WORKER, str(work / "unbroken" / "request.json")], work / "home") == 0
        course = {str(step): loss for step, loss in losses(request.output_dir).items()}
        write_json(kept, {"losses": course, "seconds": time.monotonic() - started})
    unbroken = {int(step): loss for step, loss in read_json(kept)["losses"].items()}
    home, folder = work / "home", work / "killed"
    leave_nothing(home)
    _remove(home)
    _remove(folder)
    request = make_request(folder, model())
    write_json(folder / "request.json", request.to_row())
    command = [sys.executable, "-c", SWIFT_WORKER, str(folder / "request.json")]
    role = source.choice(["worker", "trainer", "supervisor", "attempts", "ms-swift"])
    number, seconds = _signal(source), source.uniform(0.0, read_json(kept)["seconds"])
    line = source.choice([0, source.randint(1, STEPS + 3)])
    log = request.output_dir / "logging.jsonl"
    # Half of them while it trains, which is the shorter part.
    ready = (lambda: log.is_file() and log.read_bytes().count(b"\n") >= line) if line else None
    job = job_id(request.directory / "job")
    killed, where = _strike(command, home, job, role, number, source.uniform(0, 0.2) if line else seconds, ready)
    again = _run(command, home)
    far = difference(losses(request.output_dir), unbroken) if again == 0 else float("inf")
    where += f", at line {line} of its log" if line else ""
    done = Done(
        f"{number.name} of the {role}", where, killed, far <= TOLERANCE, f"exit code {again}, losses {far:.1e} apart"
    )
    return _clear(done, home, request.directory / "job")


def _signal(source: random.Random) -> signal.Signals:
    return source.choice([signal.SIGTERM, signal.SIGKILL])


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "MEDLLM_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}


def _run(command: list[str], home: Path) -> int:
    return subprocess.run(
        command, env=_environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=900
    ).returncode


def _strike(
    command: list[str],
    home: Path,
    job: str,
    role: str,
    number: signal.Signals,
    seconds: float,
    ready: Callable[[], bool] | None = None,
) -> tuple[bool, str]:
    """Start a worker, and send a signal so many seconds later, or after ``ready``; whether it met one, and when."""
    worker = subprocess.Popen(
        command, env=_environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    if ready:
        wait_for(lambda: ready() or worker.poll() is not None, 900)
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        time.sleep(0.01)
    # Where it is not there yet, as soon as it is.
    met = wait_for(lambda: _send(role, number, worker, home, job) or (worker.poll() is not None and "nobody"), 900)
    after = time.monotonic() - started
    worker.wait(900)
    return met == "met", f"after {after:.2f} s" if met == "met" else "it had ended"


def _send(role: str, number: signal.Signals, worker: subprocess.Popen[bytes], home: Path, job: str) -> str:
    with contextlib.suppress(psutil.Error):
        for process in _living(role, worker, home, job):
            process.send_signal(number)
            return "met"
    return ""


def _living(role: str, worker: subprocess.Popen[bytes], home: Path, job: str) -> Iterator[psutil.Process]:
    if role == "worker":
        yield from [psutil.Process(worker.pid)] if worker.poll() is None else []
    elif role == "trainer":
        yield from trainers_of(home)
    else:
        yield from (process for process in marked_processes(job) if WORDS[role] in process.cmdline())


def _clear(done: Done, home: Path, folder: Path) -> Done:
    """Look whether anything is left; if so, it was not right."""
    try:
        assert_clear(job_id(folder), Spool(home / "trainer"))
        wait_for(lambda: not list(trainers_of(home)), 60)
    except AssertionError as error:
        return Done(done.what, done.where, done.killed, False, f"{done.again}; something is left: {error}")
    return done


def _remove(folder: Path) -> None:
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    assert HERE not in folder.parents
