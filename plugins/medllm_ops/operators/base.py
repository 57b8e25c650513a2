"""What all operators share: the place of their jobs, the switch, and an end that leaves nothing running."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from medllm_ops.compute.job import job_id
from medllm_ops.compute.places import place_for


class JobOperator(BaseOperator):
    """An operator whose work is one job in a directory of its own.

    :param output_dir: the absolute folder of the step; its job lies in ``<output_dir>/job``. (templated)
    :param enabled: whether to run at all; the task is skipped otherwise. (templated)
    :param where: where the job runs: ``local``. (templated)
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

    def job_directory(self) -> Path:
        """Where the operator's job keeps its log and its result."""
        return Path(self.output_dir) / "job"

    def on_kill(self) -> None:
        """End every process of the job: a task that a user stopped must not hold the GPU."""
        place_for(self.where).stop(job_id(self.job_directory()))
