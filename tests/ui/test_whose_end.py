"""Rule: who stops a worker leaves its job alone; who gives a task up ends its job. Through Airflow's own states.

Once with jobs as processes of this host, and once with jobs in pods of a process-backed cluster.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from medllm_ops.compute.job import Job
from medllm_ops.compute.kubernetes.manifests import name_of
from medllm_ops.compute.processes import ProcessIdentity, end_job
from medllm_ops.compute.spool import Spool
from medllm_ops.ui.standalone import airflow_standalone
from servers.cluster import ClusterServer
from servers.cluster_login import make_cluster, write_settings
from ui.ports import free_ports
from ui.sleeping_runs import TASK, SleepingRuns, wait_for

pytestmark = pytest.mark.slow


@dataclass
class Airflow(SleepingRuns):
    """Airflow as `make up` starts it, with LocalExecutor."""

    cluster: ClusterServer

    def standalone(self) -> psutil.Process:
        """The process that has started all of this Airflow."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get("AIRFLOW_HOME") == str(self.home / "airflow")
                if ours and process.cmdline()[-2:] == ["airflow", "standalone"]:
                    return process
        raise AssertionError("no airflow standalone")

    def schedulers(self) -> list[psutil.Process]:
        """The scheduler; what runs its tasks is below it."""
        found = []
        for process in self.standalone().children():
            with contextlib.suppress(psutil.Error):
                if "scheduler" in " ".join(process.cmdline()):
                    found.append(process)
        assert found, "no scheduler"
        return found

    def workers(self, whole: bool = True) -> list[psutil.Process]:
        """The processes that have a task: the worker, and (``whole``) the child in which the task itself runs."""
        titles = {}
        # Those that have renamed themselves have overwritten their environment: look below the one that has not.
        for process in self.standalone().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                titles[process] = " ".join(process.cmdline())
        found = [
            process
            for process, title in titles.items()
            if title.startswith("airflow worker -- ") and "<idle>" not in title and (whole or "LocalExecutor" in title)
        ]
        assert found, "no worker has a task"
        return found


Start = Callable[[], contextlib.AbstractContextManager[Airflow]]


@contextlib.contextmanager
def home_for(where: str, factory: pytest.TempPathFactory, repository: Path) -> Iterator[Start]:
    """A home of its own, in which Airflow may be started again and again."""
    home = factory.mktemp("whose")
    (home / "dags").mkdir()
    shutil.copy(Path(__file__).with_name("sleeping_dag.py"), home / "dags")
    with pytest.MonkeyPatch.context() as patch, make_cluster(home, gpus=8) as cluster:
        patch.setenv("TEST_WHERE", where)
        patch.setenv("MEDLLM_KUBERNETES", str(write_settings(factory.mktemp("cluster"), cluster, home)))
        patch.setenv("MEDLLM_HOME", str(home))
        patch.setenv("MEDLLM_SLOTS", "8")
        patch.setenv("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "20")
        patch.setenv("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL", "5")

        @contextlib.contextmanager
        def start() -> Iterator[Airflow]:
            with airflow_standalone(home / "airflow", free_ports(), home / "dags", repository / "plugins") as login:
                airflow = Airflow(login, home, cluster)
                wait_for(airflow.has_dag)
                yield airflow

        try:
            yield start
        finally:
            for entry in Spool(home / "trainer").entries():
                end_job(entry.id, grace_seconds=1)


@pytest.fixture(scope="module", params=["local", "kubernetes"])
def where(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def airflow(where: str, tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Airflow]:
    with home_for(where, tmp_path_factory, repository) as start, start() as airflow:
        yield airflow


@pytest.fixture
def start_airflow(where: str, tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Start]:
    with home_for(where, tmp_path_factory, repository) as start:
        yield start


def assert_ended(airflow: Airflow, run: str, processes: list[ProcessIdentity]) -> None:
    """See ``wait_ended``; and no pod of the job is left."""
    airflow.wait_ended(run, processes)
    wait_for(lambda: name_of(Job.read(airflow.job(run)).id) not in airflow.cluster.pods)


def test_marked_as_failed(airflow: Airflow) -> None:
    processes = airflow.start("failed")
    airflow.ask("PATCH", TASK.format(run="failed"), new_state="failed")
    assert_ended(airflow, "failed", processes)
    assert airflow.state("failed") == "failed"


def test_marked_as_a_success(airflow: Airflow) -> None:
    processes = airflow.start("success")
    airflow.ask("PATCH", TASK.format(run="success"), new_state="success")
    assert_ended(airflow, "success", processes)
    assert airflow.state("success") == "success"


def test_cleared_while_it_runs(airflow: Airflow) -> None:
    airflow.clear_while_it_runs("cleared")


def test_its_run_was_deleted(airflow: Airflow) -> None:
    processes = airflow.start("deleted")
    job = Job.read(airflow.job("deleted"))
    airflow.delete("deleted")
    wait_for(lambda: not any(process.alive() for process in processes))
    wait_for(job.result)


def test_a_worker_that_is_asked_to_stop_leaves_the_job_and_uses_up_no_retry(airflow: Airflow) -> None:
    processes = airflow.start("stopped-worker")
    for worker in airflow.workers(whole=False):
        worker.send_signal(signal.SIGTERM)
    wait_for(lambda: airflow.state("stopped-worker") == "up_for_reschedule")
    assert all(process.alive() for process in processes)
    wait_for(lambda: airflow.state("stopped-worker") == "running")
    airflow.let_end("stopped-worker")
    wait_for(lambda: airflow.state("stopped-worker") == "success")
    assert len(airflow.runs("stopped-worker")) == 1
    assert airflow.ask("GET", TASK.format(run="stopped-worker"))["try_number"] == 1


def test_a_worker_that_is_killed_leaves_the_job_and_the_retry_returns_its_result(airflow: Airflow) -> None:
    processes = airflow.start("killed-worker")
    kill_workers(airflow)
    assert all(process.alive() for process in processes)
    wait_for(lambda: airflow.ask("GET", TASK.format(run="killed-worker"))["try_number"] == 2)
    airflow.let_end("killed-worker")
    wait_for(lambda: airflow.state("killed-worker") == "success")
    assert len(airflow.runs("killed-worker")) == 1
    seconds = airflow.ask("GET", f"{TASK.format(run='killed-worker')}/xcomEntries/return_value")["value"]
    assert "seconds" in str(seconds)


def kill_workers(airflow: Airflow) -> None:
    for worker in airflow.workers():
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(worker.pid, signal.SIGKILL)


def test_marked_as_failed_while_no_worker_watches(airflow: Airflow) -> None:
    processes = airflow.start("failed-alone")
    kill_workers(airflow)
    airflow.ask("PATCH", TASK.format(run="failed-alone"), new_state="failed")
    assert_ended(airflow, "failed-alone", processes)


def test_its_run_was_deleted_while_no_worker_watched(airflow: Airflow) -> None:
    processes = airflow.start("deleted-alone")
    kill_workers(airflow)
    airflow.delete("deleted-alone")
    wait_for(lambda: not any(process.alive() for process in processes))


def test_an_airflow_that_is_restarted_finds_the_job(start_airflow: Start) -> None:
    with start_airflow() as airflow:
        processes = airflow.start("restarted")
    assert all(process.alive() for process in processes)
    with start_airflow() as airflow:
        wait_for(lambda: airflow.state("restarted") == "running", 300)
        airflow.let_end("restarted")
        wait_for(lambda: airflow.state("restarted") == "success", 300)
        assert len(airflow.runs("restarted")) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_scheduler_that_is_ended_leaves_the_job_to_the_next(start_airflow: Start, number: signal.Signals) -> None:
    run = f"scheduler-{number.name}"
    with start_airflow() as airflow:
        processes = airflow.start(run)
        for scheduler in airflow.schedulers():
            scheduler.send_signal(number)
        assert all(process.alive() for process in processes)
    assert all(process.alive() for process in processes)
    with start_airflow() as airflow:
        airflow.let_end(run)
        wait_for(lambda: airflow.state(run) == "success", 300)
        assert len(airflow.runs(run)) == 1
