"""What the operators share: the switch, and a job that is watched and not owned by the task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from airflow.sdk import BaseOperator, Context, ResumableJobMixin
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout

from medllm_ops.compute.job import Job, JobError, Place
from medllm_ops.compute.spool import Spool
from medllm_ops.operators.owner import owner_of
from medllm_ops.operators.places import task_place
from medllm_ops.operators.watching import TaskWatch, stop_deleted, stop_quickly


class Work(Protocol):
    """Something that was begun under a job."""

    def finish(self, place: Place) -> Any:
        """Wait for its end and prove it."""
        ...

    @property
    def job(self) -> Job | None:
        """Its job; None if it was finished before."""
        ...


class StepOperator(BaseOperator):
    """An operator with a folder of its own and a switch.

    :param output_dir: the absolute folder of the step. (templated)
    :param enabled: whether to run at all; the task is skipped otherwise. (templated)
    :param where: where its job runs: ``local`` or ``kubernetes``. (templated)
    """

    template_fields: Sequence[str] = ("output_dir", "enabled", "where")

    def __init__(self, *, output_dir: str, enabled: bool | str = True, where: str = "local", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_dir = output_dir
        self.enabled = enabled
        self.where = where

    def skip_unless_enabled(self) -> None:
        """Skip the task if it is switched off."""
        if str(self.enabled).lower() not in ("true", "1"):
            raise AirflowSkipException(f"{self.task_id} is switched off for this run")


class JobOperator(ResumableJobMixin, StepOperator):
    """An operator whose work is one job in a directory of its own, which outlives the task.

    The task watches. A worker that dies or stops leaves the job alone, and the next try finds it again; a task that a
    user clears, marks or whose run is deleted ends it, and so does an execution timeout.
    """

    external_id_key = "medllm_job"
    _watch: TaskWatch | None = None
    _work: Work | None = None

    def begin(self, place: Place) -> Work:
        """Submit the job, or find it or its result again."""
        raise AssertionError(f"{type(self).__name__} does not say how its work is begun")

    def figures(self, result: Any) -> Any:
        """What the task returns of what its work has found: small JSON."""
        return result

    def job_directory(self) -> Path:
        """Where the operator's job keeps its log and its result."""
        return Path(self.output_dir) / "job"

    def execute(self, context: Context) -> Any:
        """Do the work, and return its figures."""
        self.skip_unless_enabled()
        self._watch = TaskWatch(context, lambda: stop_quickly(self.job_directory()))
        stop_deleted(context)
        try:
            return self.figures(self.execute_resumable(context))
        except JobError as error:
            if error.retry:
                raise
            raise AirflowFailException(str(error)) from error
        except AirflowTaskTimeout:
            stop_quickly(self.job_directory())
            raise

    def on_kill(self) -> None:
        """The task is to end; whether its job is, depends on who wants that."""
        if self._watch:
            self._watch.on_kill()

    def submit_job(self, context: Context) -> str:
        """Get or create the job, and return its id."""
        place = self._place(context)
        self._work = self.begin(place)
        return self._work.job.id if self._work.job else "finished"

    def get_job_status(self, external_id: Any, context: Context) -> str:
        """Where the job of an earlier try stands: queued, running, succeeded, failed, cleared or unknown."""
        job, owner = Job.find(self.job_directory()), owner_of(context)
        if job is None or job.id != external_id:
            return "unknown"
        if owner and owner.cleared_since(job.owner):
            return "cleared"
        result = job.result()
        if result:
            return "succeeded" if result.exit_code == 0 else "failed"
        entry = Spool().find(job.id)
        return entry.state if entry and entry.state != "ended" else "unknown"

    def is_job_active(self, status: str) -> bool:
        """Whether it can be waited for."""
        return status in ("queued", "running")

    def is_job_succeeded(self, status: str) -> bool:
        """Whether it has ended well; its proof is still to come."""
        return status == "succeeded"

    def poll_until_complete(self, external_id: Any, context: Context) -> Any:
        """Wait for the job and prove its result, which is returned here, too: a reconnect asks for nothing else."""
        place = self._place(context)
        self._work = self._work or self.begin(place)
        self._result = self._work.finish(place)
        return self._result

    def get_job_result(self, external_id: Any, context: Context) -> Any:
        """What the proof found."""
        if not hasattr(self, "_result"):
            self.poll_until_complete(external_id, context)
        return self._result

    def _place(self, context: Context) -> Place:
        return task_place(self.where, context, self._watch.look if self._watch else None)
