"""What a process and all that it starts cost."""

from __future__ import annotations

import resource
import subprocess
import threading
import time
from collections.abc import Iterator

import psutil


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def measured(command: list[str], environment: dict[str, str] | None = None) -> tuple[str, dict[str, float]]:
    """Run a command; its output, and CPU seconds, wall seconds and peak GB of all its processes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    peak = [0]
    watching = threading.Event()

    def watch() -> None:
        while not watching.wait(0.2):
            peak[0] = max(peak[0], sum(private_bytes(one) for one in family(process.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, errors = process.communicate()
    watching.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{command[:3]} failed:\n{errors[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    wall = time.perf_counter() - start
    return output, {"cpu s": round(cpu, 2), "wall s": round(wall, 2), "peak GB": round(peak[0] / 2**30, 2)}


def family(pid: int) -> Iterator[psutil.Process]:
    """A process and its descendants."""
    try:
        parent = psutil.Process(pid)
        yield parent
        yield from parent.children(recursive=True)
    except psutil.NoSuchProcess:
        return


def private_bytes(process: psutil.Process) -> int:
    """What a process holds for itself: mapped files are the system's."""
    try:
        memory = process.memory_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return int(memory.rss - memory.shared)
