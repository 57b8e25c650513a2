"""Whose SIGTERM a task got: a worker that stops leaves the job alone, a user who wants the task gone ends it.

Airflow sends the same signal for both. So the server is asked what has become of the task, in a thread of its own:
the signal may come while the task itself is asking the server something.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Context
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException

from medllm_ops.compute.job import Job
from medllm_ops.compute.owner import TaskOwner
from medllm_ops.compute.spool import Spool
from medllm_ops.operators.owner import owner_of
from medllm_ops.operators.places import task_place

log = logging.getLogger(__name__)

ASK_SECONDS = 30.0
VERDICT_SECONDS = 4.0
BACK_SECONDS = 30.0
ABSENT = "absent"
# What a task may be in that nobody has given up: another worker has it, or it will be run again by itself.
_STILL_WANTED = frozenset({"running", "queued", "scheduled", "deferred", "up_for_retry", "up_for_reschedule"})


def ask_state(instance: Any, owner: TaskOwner) -> str | None:
    """What the server says that a task is in; :data:`ABSENT` if it is no more, None if a user has cleared it."""
    states = instance.get_task_states(dag_id=owner.dag, task_ids=[owner.task], run_ids=[owner.run])
    name = owner.task if owner.map_index < 0 else f"{owner.task}_{owner.map_index}"
    state = states.get(owner.run, {}).get(name, ABSENT)
    return None if state is None else str(getattr(state, "value", state))


def given_up(state: str | None, silent_seconds: float, timeout_seconds: float) -> bool:
    """Whether a user wants the task gone.

    :param silent_seconds: since the server last said that the task runs. A task that could not say that it lives
        for longer than Airflow's timeout was failed by the scheduler, and not by a user: its job goes on.
    """
    if state == "failed":
        return silent_seconds < 0.8 * timeout_seconds
    return state not in _STILL_WANTED


class TaskWatch:
    """What a task does while it waits for its job, and when it is told to end.

    :param stop: ends the job, without waiting for it.
    """

    def __init__(self, context: Context, stop: Callable[[], None]) -> None:
        self._instance: Any = context.get("ti")
        self._owner = owner_of(context)
        self._stop = stop
        self._asked = self._seen_running = time.monotonic()
        self._told = threading.Event()
        self._decided = threading.Event()
        self._ended = False

    def look(self) -> None:
        """To be called at every look at the job.

        :raises AirflowRescheduleException: if the worker stops: the task comes back, and no retry is used up.
        :raises AirflowFailException: if a user has given the task up; its job was ended.
        """
        if self._told.is_set():
            self._decided.wait(VERDICT_SECONDS)
            if self._ended:
                raise AirflowFailException("the task was given up by a user: its job was ended")
            log.info("the worker stops; the job goes on, and the task comes back to it")
            raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=BACK_SECONDS))
        if self._instance is not None and time.monotonic() - self._asked > ASK_SECONDS:
            self._asked = time.monotonic()
            if self._ask() == "running":
                self._seen_running = time.monotonic()

    def on_kill(self) -> None:
        """To be called when the task is told to end; returns at once."""
        self._told.set()
        threading.Thread(target=self._decide, daemon=True).start()

    def _decide(self) -> None:
        try:
            state = self._ask()
            silent = time.monotonic() - self._seen_running
            timeout = conf.getint("scheduler", "task_instance_heartbeat_timeout", fallback=300)
            if state != "unknown" and given_up(state, silent, timeout):
                log.info("the task is %s: its job is ended", state or "cleared")
                self._ended = True
                self._stop()
        finally:
            self._decided.set()

    def _ask(self) -> str | None:
        if self._instance is None or self._owner is None:
            return "unknown"
        try:
            return ask_state(self._instance, self._owner)
        except Exception as error:  # noqa: BLE001  whatever the server answers: then it has not given the task up
            log.warning("the server does not say what has become of the task: %s", error)
            return "unknown"


def stop_quickly(directory: Path) -> None:
    """End the job of a directory without waiting: its supervisor does it, even if this task is killed meanwhile."""
    if job := Job.find(directory):
        task_place(job.where).ask_to_stop(job)


def stop_jobs_of(dag: str, run: str, task: str, map_index: int) -> list[str]:
    """End the jobs of a task that a user has given up while no worker watched; return their ids."""
    wanted = TaskOwner(dag, run, task, map_index, 0)
    stopped = []
    for job in _owned_jobs():
        if job.owner and job.owner.same_task(wanted):
            task_place(job.where).ask_to_stop(job)
            stopped.append(job.id)
    return stopped


def stop_deleted(context: Context) -> None:
    """End the jobs of tasks whose run was deleted while no worker watched: nothing else would ever look for them."""
    instance: Any = context.get("ti")
    if instance is None:
        return
    for job in _owned_jobs():
        if job.owner is None:
            continue
        try:
            state = ask_state(instance, job.owner)
        except Exception as error:  # noqa: BLE001  another task's job: no reason to fail this one
            log.warning("the server does not say whether %s still exists: %s", job.owner, error)
            return
        if state == ABSENT:
            log.info("ending job %s: %s was deleted", job.id, job.owner)
            task_place(job.where).ask_to_stop(job)


def _owned_jobs() -> list[Job]:
    spool = Spool()
    jobs = [Job.find(entry.directory) for entry in [*spool.queued(), *spool.running()]]
    return [job for job in jobs if job and job.owner]
