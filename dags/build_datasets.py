"""The corpus into a frozen dataset, with a report on what is in it."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, Param, chain, get_current_context, task

from medllm_ops.operators.dataset import DataReportOperator, DatasetBuildOperator
from medllm_ops.operators.params import source_names
from medllm_ops.operators.refresh import assets_of
from medllm_ops.operators.refresh_dag import text_param

# A refresh of one of these sources starts a build; empty: builds are started by hand only.
FOLLOWS = os.environ.get("MEDLLM_DATASETS_FOLLOW", "pubmed,clinicaltrials,tcm_books,docx")

_LIST = ["array", "null"]

FORM = {
    "name": Param(
        "medical",
        type="string",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$",
        title="Dataset",
        description="Its versions lie in datasets/<name>/; medllm_train takes it by that name.",
        section="Dataset",
    ),
    "corpus": text_param("Corpus", "A folder, or s3://bucket/prefix. Empty: MEDLLM_HOME/corpus.", section="Dataset"),
    "version": text_param("Corpus version", "A number or a tag. Empty: the latest.", section="Dataset"),
    "sources": Param(
        [],
        type=_LIST,
        items={"type": "string"},
        title="Sources",
        description="Which to take; none named means all that the corpus has.",
        examples=source_names(),
        section="Dataset",
    ),
    "curation": text_param(
        "Curation settings",
        "A YAML file with what differs from include/datasets/curation.yaml. Empty: nothing does.",
        section="Curation",
    ),
    "evalsets": Param(
        [],
        type=_LIST,
        items={"type": "string"},
        title="Evaluation sets",
        description="Files of what models will be evaluated on, one a line: rows that overlap are left out.",
        section="Curation",
    ),
    "allow_licences": Param(
        [],
        type=_LIST,
        items={"type": "string"},
        title="Allowed licences",
        description="Sources that are used whatever the licences of their records are, unknown ones too.",
        examples=source_names(),
        section="Curation",
    ),
}


@task(task_id="plan", task_display_name="Which sources")
def plan() -> list[dict[str, Any]]:
    """The sources that the dataset takes, and how far its last version took each in."""
    from medllm_ops.datasets.news import taken_until

    params = get_current_context()["params"]
    return taken_until(params["name"], params["corpus"], params["version"], params["sources"])


@task(task_id="changes", task_display_name="What is new", map_index_template="{{ task.op_kwargs['source'] }}")
def changes(source: str, corpus: str, version: int, since: int, facts: int) -> dict[str, Any]:
    """How many records of a source changed since then."""
    from medllm_ops.datasets.news import changes_since

    return changes_since(source, corpus, version, since, facts)


with DAG(
    dag_id="build_datasets",
    dag_display_name="Build a dataset",
    description=__doc__,
    schedule=assets_of(FOLLOWS),
    catchup=False,
    max_active_runs=1,
    params=FORM,
    render_template_as_native_obj=True,
    tags=["medllm-ops"],
    doc_md="""
What the corpus has is cleaned, scrubbed of personal data, deduplicated, kept apart from evaluation sets and split, each
record on the side it was first given. The dataset's folder has its manifest, its ledger and `report/data_report.html`.
Nothing new in the corpus, nothing new here.
""",
):
    sources = plan()
    built = DatasetBuildOperator(
        task_id="build",
        task_display_name="Curate and freeze",
        **{name: f"{{{{ params.{name} }}}}" for name in FORM},
    )
    report = DataReportOperator(
        task_id="report",
        task_display_name="Report and verdict",
        built="{{ ti.xcom_pull(task_ids='build') }}",
    )
    chain(changes.expand_kwargs(sources), built, report)
