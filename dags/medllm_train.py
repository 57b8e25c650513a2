"""Sources in, a proven and served model out: the whole chain, in the order of ``medllm_ops.chain``."""

from __future__ import annotations

import os
from datetime import timedelta
from itertools import groupby
from typing import Any

from airflow.sdk import DAG, TaskGroup, XComArg, chain, get_current_context, task

from medllm_ops.chain import STEPS, Step
from medllm_ops.operators import (
    ChainStepOperator,
    DatasetConvertOperator,
    MergeLoraOperator,
    ServeOperator,
    SwiftSftOperator,
)
from medllm_ops.operators.params import form
from medllm_ops.operators.refresh import assets_of, newest_of

# What a person sees of the graph and of the grid before opening a group.
GROUPS = {
    "data": "Sources to dataset",
    "stage_pretrain": "Continued pretraining",
    "stage_sft": "Instruction tuning",
    "stage_self_cognition": "Self-cognition",
    "stage_dpo": "Alignment",
    "proof": "Evaluate and serve",
}


# A refresh of one of these sources (such as "pubmed,clinicaltrials") starts a run on the latest version of the corpus,
# a new version of "dataset:medical" one on that.
FOLLOWS = os.environ.get("MEDLLM_TRAIN_FOLLOWS", "")


@task(task_id="plan", task_display_name="Check the parameters, fetch the model")
def make_plan() -> list[dict[str, Any]]:
    """Check the form and freeze what was decided; return what the conversion of each source takes.

    The arguments of the later tasks are under the key ``tasks``: only a return value can be mapped over.
    """
    from medllm_ops.chain import task_arguments
    from medllm_ops.operators.params import check
    from medllm_ops.plan import start
    from medllm_ops.run import run_name

    context = get_current_context()
    params = dict(context["params"])
    run = start(params.get("run_name") or run_name(context["run_id"]), check(params))
    tasks = task_arguments(run)
    context["ti"].xcom_push("tasks", tasks)
    return tasks["convert"]


def planned(*keys: str) -> str:
    """A template that reads one of the plan's arguments."""
    path = "".join(f"['{key}']" for key in keys)
    return f"{{{{ ti.xcom_pull(task_ids='plan', key='tasks'){path} }}}}"


def group_of(step: Step) -> str:
    """The group that shows the step."""
    if step.stage:
        return f"stage_{step.stage}"
    return "proof" if step.name in ("evaluate", "serve", "report") else "data"


def make_task(step: Step, plan: XComArg) -> Any:
    """The task of a step: one of the four operators, or the step itself."""
    title = step.title[0].upper() + step.title[1:]
    common: dict[str, Any] = {"task_id": step.name, "task_display_name": title, "trigger_rule": "none_failed"}
    if step.name == "convert":
        return DatasetConvertOperator.partial(**common, map_index_template="{{ task.source }}").expand_kwargs(plan)
    if step.stage or step.name == "serve":
        training = SwiftSftOperator if step.name == step.stage else MergeLoraOperator
        operator = ServeOperator if step.name == "serve" else training
        fields = {field: planned(step.name, field) for field in operator.template_fields}
        return operator(**common, **fields, retries=1, retry_delay=timedelta(seconds=30))
    if step.name == "report":
        # A run that failed has a report too; as the last task it then fails the run.
        common["trigger_rule"] = "all_done"
    return ChainStepOperator(**common, step=step.name, run_dir=planned("run_dir"))


with DAG(
    dag_id="medllm_train",
    dag_display_name="Train a medical model",
    description=__doc__,
    schedule=assets_of(FOLLOWS),
    catchup=False,
    max_active_runs=1,
    params=form(**newest_of(FOLLOWS)),
    tags=["medllm-ops"],
    doc_md="""
Raw files of the sources become records, records become a frozen dataset, and up to four stages of training
(continued pretraining, instruction tuning, self-cognition, alignment with preference pairs), each merged with proof,
become a model that is evaluated, served and asked. The run's folder, with `report.html`, is in the last task's log.
""",
):
    plan = make_plan()
    tasks = []
    for name, steps in groupby(STEPS[1:], key=group_of):
        # Tasks keep the names of their steps: `airflow tasks test medllm_train evaluate`.
        with TaskGroup(name, prefix_group_id=False, group_display_name=GROUPS[name]):
            tasks += [make_task(step, plan) for step in steps]
    chain(plan, *tasks)
