"""Runs of the DAG with the sleeping job, in an Airflow that is asked through its public API."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from medllm_ops.compute.job import Job
from medllm_ops.compute.lease import Leases
from medllm_ops.compute.processes import ProcessIdentity
from medllm_ops.ui.standalone import Login

WAIT_SECONDS = 120.0
TASK = "dags/sleeping/dagRuns/{run}/taskInstances/sleep"


def wait_for(what: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return found


@dataclass
class SleepingRuns:
    """A running Airflow with that DAG."""

    login: Login
    home: Path

    def ask(self, method: str, path: str, **body: Any) -> Any:
        token = httpx.post(
            f"{self.login.url}/auth/token",
            json={"username": self.login.user, "password": self.login.password},
            timeout=60,
        )
        assert token.is_success, token.text
        answer = httpx.request(
            method,
            f"{self.login.url}/api/v2/{path}",
            json=body or None,
            headers={"Authorization": f"Bearer {token.json()['access_token']}"},
            timeout=60,
        )
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def state(self, run: str) -> str:
        return str(self.ask("GET", TASK.format(run=run))["state"])

    def job(self, run: str) -> Path:
        return self.home / "jobs" / run / "job"

    def runs(self, run: str) -> list[list[ProcessIdentity]]:
        path = self.job(run) / "runs.txt"
        if not path.is_file():
            return []
        return [[self._identity(int(pid)) for pid in line.split()] for line in path.read_text().splitlines()]

    def _identity(self, pid: int) -> ProcessIdentity:
        try:
            return ProcessIdentity.of(pid)
        except psutil.NoSuchProcess:
            return ProcessIdentity(pid, -1)

    def start(self, run: str) -> list[ProcessIdentity]:
        """Start a run, and return the job's processes once they are there."""
        self.ask("POST", "dags/sleeping/dagRuns", dag_run_id=run, logical_date=None)
        wait_for(lambda: self.runs(run))
        wait_for(lambda: self.state(run) == "running")
        # The task has noted the job, and watches.
        time.sleep(2)
        return self.runs(run)[0]

    def wait_ended(self, run: str, processes: list[ProcessIdentity]) -> None:
        """Nothing of the job lives, its lease is given back, and its result says that it was stopped."""
        wait_for(lambda: not any(process.alive() for process in processes))
        job = Job.read(self.job(run))
        wait_for(job.result)
        result = job.result()
        assert result
        assert result.stopped
        leases = Leases(self.home / "trainer" / "leases")
        wait_for(lambda: job.id not in [lease.job for lease in leases.held().values()])

    def clear_while_it_runs(self, run: str) -> None:
        """The job of a task that is cleared ends before another one does the work."""
        processes = self.start(run)
        self.clear(run)
        wait_for(lambda: len(self.runs(run)) == 2)
        assert not any(process.alive() for process in processes)
        self.let_end(run)
        wait_for(lambda: self.state(run) == "success")

    def let_end(self, run: str) -> None:
        (self.job(run) / "end").touch()

    def clear(self, run: str) -> None:
        body = {"dag_run_id": run, "task_ids": ["sleep"], "dry_run": False, "only_failed": False}
        self.ask("POST", "dags/sleeping/clearTaskInstances", **body)

    def delete(self, run: str) -> None:
        """As a user does it: Airflow refuses to delete a run that is not over."""
        self.ask("PATCH", f"dags/sleeping/dagRuns/{run}", state="failed")
        self.ask("DELETE", f"dags/sleeping/dagRuns/{run}")

    def has_dag(self) -> bool:
        try:
            return bool(self.ask("GET", "dags/sleeping"))
        except (AssertionError, httpx.TransportError):
            return False
