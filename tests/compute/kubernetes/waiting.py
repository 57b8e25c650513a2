"""Somebody who waits for a job in a pod, and what such jobs do."""

from __future__ import annotations

import threading

from medllm_ops.compute.job import Job, JobResult
from medllm_ops.compute.kubernetes.place import KubernetesPlace
from medllm_ops.compute.owner import TaskOwner

# Waits until the test has made the file; says so first.
WAITS = "import pathlib, time\nprint('waits', flush=True)\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\n"


class Waiting(threading.Thread):
    """Somebody who waits for a job, in a thread; ``killed`` as a worker is: without another word."""

    def __init__(self, job: Job, owner: TaskOwner | None = None) -> None:
        super().__init__(daemon=True)
        self.job = job
        self.result: JobResult | None = None
        self.error: Exception | None = None
        self._killed = threading.Event()
        self.place = KubernetesPlace(owner, self._look)
        self.start()

    def run(self) -> None:
        try:
            self.result = self.place.run(self.job)
        except Exception as error:  # noqa: BLE001  it is the test that judges it
            self.error = error

    def _look(self) -> None:
        if self._killed.is_set():
            raise ConnectionAbortedError("the worker is gone")

    def kill(self) -> None:
        self._killed.set()
        self.join(30)

    def ended(self) -> JobResult:
        self.join(60)
        assert not self.is_alive(), "it still waits"
        if self.error:
            raise self.error
        assert self.result
        return self.result


def go(job: Job) -> None:
    """What a job of ``WAITS`` waits for."""
    (job.directory / "go").touch()
