"""``ChainStepOperator``: a step of the chain that has no operator of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context

from medllm_ops.operators.places import task_place
from medllm_ops.operators.timings import record_timings
from medllm_ops.operators.watching import TaskWatch, stop_quickly
from medllm_ops.run import Run


class ChainStepOperator(BaseOperator):
    """Runs one step of :mod:`medllm_ops.chain` on a run that was planned; returns its small JSON.

    :param step: the step's name, such as ``curate`` or ``evaluate``.
    :param run_dir: the run's folder. (templated)
    """

    template_fields: Sequence[str] = ("run_dir",)
    _watch: TaskWatch | None = None

    def __init__(self, *, step: str, run_dir: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.run_dir = run_dir

    def execute(self, context: Context) -> Any:
        """Run the step."""
        from medllm_ops import chain

        if self.step == "report":
            record_timings(context, self.run_dir)
        run = Run.open(Path(self.run_dir))
        self._watch = TaskWatch(context, lambda: stop_quickly(run.evaluation / "job"))
        where = run.parameters.where
        return chain.execute(self.step, self.run_dir, task_place(where, context, self._watch.look))

    def on_kill(self) -> None:
        """The task is to end; its job, the evaluation's, only if a user wants that."""
        if self._watch:
            self._watch.on_kill()
