"""Whose end it is, with the services of docker-compose.yaml: CeleryExecutor, Redis, Postgres and tini, as processes."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from medllm_ops.compute.processes import ProcessIdentity, end_job
from medllm_ops.compute.spool import Spool
from medllm_ops.ui.standalone import Login
from ui.compose_services import SECRETS, Services, missing_program, postgres
from ui.ports import free_ports
from ui.sleeping_runs import TASK, SleepingRuns, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing_program() is not None, reason=f"{missing_program()}: apt install it"),
]

VISIBILITY_SECONDS = 15
QUEUED_SECONDS = 20
# Times that a test can wait for; the rest is as in the file.
FASTER = {
    "TEST_WHERE": "local",
    "MEDLLM_SLOTS": "8",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": str(QUEUED_SECONDS),
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": str(VISIBILITY_SECONDS),
    # Every tenth time, what was not acknowledged is handed out again: so, every ten seconds.
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_INTERVAL": "1",
}


@dataclass
class Airflow(SleepingRuns):
    """The services of the file, with one login."""

    services: Services

    def tries(self, run: str) -> int:
        return int(self.ask("GET", TASK.format(run=run))["try_number"])


@pytest.fixture(scope="module")
def airflow(repository: Path) -> Iterator[Airflow]:
    # Not below pytest's folder: the database's user may not enter that.
    folder = Path(tempfile.mkdtemp(prefix="medllm-compose-"))
    folder.chmod(0o755)
    (folder / "dags").mkdir()
    shutil.copy(Path(__file__).with_name("sleeping_dag.py"), folder / "dags")
    services = Services(repository, folder, free_ports(6), folder / "dags", FASTER)
    try:
        with postgres(folder / "postgres", services.ports["postgres"]):
            try:
                services.start_healthy("redis")
                services.migrate()
                services.start_healthy("api-server")
                services.start_healthy("trainer", "worker", "dag-processor", "scheduler")
                login = Login(f"http://127.0.0.1:{services.ports['api']}", "admin", SECRETS["AIRFLOW_PASSWORD"])
                airflow = Airflow(login, services.home, services)
                wait_for(airflow.has_dag)
                yield airflow
            finally:
                services.end()
                for entry in Spool(services.home / "trainer").entries():
                    end_job(entry.id, grace_seconds=1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def alive(processes: list[ProcessIdentity]) -> bool:
    return all(process.alive() for process in processes)


def test_a_worker_that_is_stopped_leaves_the_job_and_uses_up_no_retry(airflow: Airflow) -> None:
    processes = airflow.start("stopped")
    # The file gives it minutes; it needs seconds.
    assert airflow.services.stop("worker", seconds=60) < 30
    assert airflow.state("stopped") == "up_for_reschedule"
    assert alive(processes)
    airflow.services.start_healthy("worker")
    wait_for(lambda: airflow.state("stopped") == "running")
    airflow.let_end("stopped")
    wait_for(lambda: airflow.state("stopped") == "success")
    assert len(airflow.runs("stopped")) == 1
    assert airflow.tries("stopped") == 1


def test_a_worker_that_is_killed_leaves_the_job_and_the_retry_returns_its_result(airflow: Airflow) -> None:
    processes = airflow.start("killed")
    airflow.services.kill("worker")
    assert alive(processes)
    airflow.services.start_healthy("worker")
    wait_for(lambda: airflow.tries("killed") == 2)
    wait_for(lambda: airflow.state("killed") == "running")
    airflow.let_end("killed")
    wait_for(lambda: airflow.state("killed") == "success")
    assert len(airflow.runs("killed")) == 1
    value = airflow.ask("GET", f"{TASK.format(run='killed')}/xcomEntries/return_value")["value"]
    assert "seconds" in str(value)


def test_marked_as_failed(airflow: Airflow) -> None:
    processes = airflow.start("failed")
    airflow.ask("PATCH", TASK.format(run="failed"), new_state="failed")
    airflow.wait_ended("failed", processes)
    assert airflow.state("failed") == "failed"


def test_cleared_while_it_runs(airflow: Airflow) -> None:
    airflow.clear_while_it_runs("cleared")


def test_its_run_was_deleted_while_the_worker_was_away(airflow: Airflow) -> None:
    processes = airflow.start("deleted")
    airflow.services.kill("worker")
    airflow.delete("deleted")
    wait_for(lambda: not any(process.alive() for process in processes))
    airflow.services.start_healthy("worker")


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_scheduler_that_is_restarted_does_not_touch_the_task(airflow: Airflow, killed: bool) -> None:
    run = f"scheduler-{killed}"
    processes = airflow.start(run)
    pid = airflow.ask("GET", TASK.format(run=run))["pid"]
    if killed:
        airflow.services.kill("scheduler")
    else:
        airflow.services.stop("scheduler", seconds=60)
    airflow.services.start_healthy("scheduler")
    # Longer than orphans are looked for and a silent task is failed.
    for _ in range(35):
        time.sleep(2)
        assert airflow.state(run) == "running"
    assert alive(processes)
    assert airflow.ask("GET", TASK.format(run=run))["pid"] == pid
    airflow.let_end(run)
    wait_for(lambda: airflow.state(run) == "success")
    assert len(airflow.runs(run)) == 1
    assert airflow.tries(run) == 1


def test_no_task_is_handed_out_twice_and_a_broker_that_is_restarted_is_found_again(airflow: Airflow) -> None:
    processes = airflow.start("broker")
    pid = airflow.ask("GET", TASK.format(run="broker"))["pid"]
    # Longer than the broker holds what was not acknowledged, and than a token in it is valid.
    time.sleep(3 * max(VISIBILITY_SECONDS, QUEUED_SECONDS))
    assert airflow.state("broker") == "running"
    airflow.services.stop("redis", seconds=60)
    assert not airflow.services.healthy("worker")
    airflow.services.start_healthy("redis")
    wait_for(lambda: airflow.services.healthy("worker"))
    airflow.start("after-broker")
    assert airflow.ask("GET", TASK.format(run="broker"))["pid"] == pid
    assert alive(processes)
    for run in ("broker", "after-broker"):
        airflow.let_end(run)
        wait_for(lambda run=run: airflow.state(run) == "success")
        assert len(airflow.runs(run)) == 1
        assert airflow.tries(run) == 1


def test_tasks_that_wait_for_a_worker_are_queued_again(airflow: Airflow) -> None:
    airflow.services.kill("worker")
    airflow.ask("POST", "dags/sleeping/dagRuns", dag_run_id="waited", logical_date=None)
    wait_for(lambda: airflow.state("waited") == "queued")
    # Airflow would fail it after the third time.
    time.sleep(5 * QUEUED_SECONDS)
    assert airflow.state("waited") in ("queued", "scheduled")
    airflow.services.start_healthy("worker")
    wait_for(lambda: airflow.runs("waited"))
    airflow.let_end("waited")
    wait_for(lambda: airflow.state("waited") == "success")
    assert len(airflow.runs("waited")) == 1
