"""Work on several cores or machines: Daft hands jobs to processes here, or to a Ray cluster; the jobs are the same."""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import orjson

from medllm_ops.errors import MedllmError

Runner: TypeAlias = Literal["local", "ray"]
Job: TypeAlias = dict[str, Any]
Run: TypeAlias = Callable[[Callable[[Job], Any], Sequence[Job]], list[Any]]
"""Calls a function of a module for each job; jobs and results are JSON. Results come in the order of the jobs."""

# Starting a worker for each of the steps costs 4 CPU seconds in all, in which one process curates so much.
_BYTES_A_WORKER: Final = 16 << 20
_LETTING_GO_SECONDS: Final = 0.5


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_for(files: Iterable[Path]) -> int:
    """The cores that it pays to use for the rows of files."""
    size = sum(path.stat().st_size for path in files if path.is_file())
    return min(cores(), 1 + size // _BYTES_A_WORKER)


@contextmanager
def workers(count: int, runner: Runner = "local") -> Iterator[Run]:
    """Open ``count`` workers for the time of the block.

    ``local``: processes on this machine; one worker, or one job, is done in this process. ``ray``: actors on the
    cluster that ``RAY_ADDRESS`` names, which must see the same files under the same names, or on one of ``count``
    cores that is started here, and ends with this process: Daft never leaves the first cluster that it saw.

    :raises MedllmError: if Ray is not installed, or Daft was bound to the other runner in this process.
    """
    if runner == "ray":
        _join_ray(count)
        yield lambda function, jobs: _by_daft(function, jobs, count, runner)
    else:
        yield (
            lambda function, jobs: (
                [function(job) for job in jobs]
                if count == 1 or len(jobs) == 1
                else _by_daft(function, jobs, count, runner)
            )
        )


def import_daft() -> Any:
    """The Daft module, which then reports to nobody, draws nothing and logs nothing."""
    os.environ.update({"DO_NOT_TRACK": "1", "DAFT_ANALYTICS_ENABLED": "0", "DAFT_PROGRESS_BAR": "0"})
    import daft

    _calm()
    return daft


@cache
def _calm() -> None:
    """Keep Daft's threads away from Python while the interpreter ends: that would crash it, with all work done."""
    import daft

    # They log through Python, from the level on that the root has now.
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    daft.refresh_logger()
    root.setLevel(level)
    # For a moment after its end they let go of what their work held.
    atexit.register(time.sleep, _LETTING_GO_SECONDS)


def _join_ray(count: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    daft = import_daft()
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise MedllmError("the runner ray needs Ray: pip install 'daft[ray]', or choose the runner local") from error
    if not ray.is_initialized():
        own = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": count, "include_dashboard": False}
        ray.init(log_to_driver=False, **own)
    try:
        daft.set_runner_ray(noop_if_initialized=True)
    except Exception as error:
        raise MedllmError(
            "Daft cannot change from this machine to Ray within a process: start the step in a new one"
        ) from error


def _by_daft(function: Callable[[Job], Any], jobs: Sequence[Job], count: int, runner: Runner) -> list[Any]:
    daft = import_daft()
    if not jobs:
        return []
    module, name = function.__module__, function.__qualname__

    @daft.cls(max_concurrency=count, use_process=True)
    class Worker:
        def __init__(self) -> None:
            self._function = getattr(importlib.import_module(module), name)

        @daft.method(return_dtype=daft.DataType.string())  # type: ignore[untyped-decorator]
        def work(self, number: int, job: str) -> str:
            try:
                answer = {"number": number, "result": self._function(orjson.loads(job))}
            except MedllmError as error:
                answer = {"number": number, "error": str(error)}
            return orjson.dumps(answer).decode()

    frame = daft.from_pydict({"number": list(range(len(jobs))), "job": [orjson.dumps(job).decode() for job in jobs]})
    frame = frame.into_partitions(min(len(jobs), 4 * count)) if runner == "ray" else frame.into_batches(1)
    answers = frame.select(Worker().work(frame["number"], frame["job"]).alias("answer")).to_pydict()["answer"]
    results = sorted((orjson.loads(answer) for answer in answers), key=lambda answer: answer["number"])
    for result in results:
        if "error" in result:
            raise MedllmError(result["error"])
    return [result["result"] for result in results]
