"""What the refresh DAGs share: one task, one run at a time, and a form."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param

from medllm_ops.operators.refresh import CorpusRefreshOperator

_OPTIONAL_TEXT = ["null", "string"]


def text_param(title: str, description: str, **more: Any) -> Param:
    """A text that may stay empty."""
    return Param(None, type=_OPTIONAL_TEXT, title=title, description=description, **more)


BASE_URL = {"base_url": text_param("Address", "Of a mirror or a test server. Empty: the publisher's own.")}
SINCE = {
    "since": text_param(
        "Since", "Only what changed on or after this day (2026-01-31). Empty: everything that is not here yet."
    )
}
COMMON = {
    "max_files": Param(
        0,
        type="integer",
        minimum=0,
        title="Raw files",
        description="The most new raw files to bring this time; the next run goes on. 0 brings all.",
    ),
    "keep_raw": Param(
        None,
        type=["null", "boolean"],
        title="Keep raw files",
        description="So that the corpus can be made anew from them. Empty: as the catalogue entry says.",
    ),
    "corpus": text_param("Corpus", "A folder, or s3://bucket/prefix. Empty: MEDLLM_HOME/corpus."),
}


def _first_sentence(text: str) -> str:
    """A text as far as its first full stop, on one line."""
    return re.split(r"(?<=\.) ", " ".join(text.split()), maxsplit=1)[0]


def refresh_dag(
    dag_id: str, source: str, title: str, form: dict[str, Param], schedule: Any = None, doc: str | None = None
) -> DAG:
    """A DAG that refreshes one source; ``source`` may be a template that reads the form.

    Runs never overlap, and a run brings everything that is new: one that was missed, or that is run twice, changes
    nothing about the result.

    :param form: the Params that are settings of the source's fetcher, by the setting's name.
    """
    settings = {name: f"{{{{ params.{name} }}}}" for name in [*form, "max_files"] if name != "source"}
    with DAG(
        dag_id=dag_id,
        dag_display_name=title,
        description=_first_sentence(doc or ""),
        doc_md=doc,
        schedule=schedule,
        start_date=datetime(2026, 1, 1),
        catchup=False,
        max_active_runs=1,
        params={**form, **COMMON},
        render_template_as_native_obj=True,
        tags=["medllm-ops"],
    ) as dag:
        CorpusRefreshOperator(
            task_id="refresh",
            task_display_name="What is new into the corpus",
            source=source,
            settings=settings,
            corpus="{{ params.corpus }}",
            keep_raw="{{ params.keep_raw }}",  # type: ignore[arg-type]
            retries=3,
            retry_delay=timedelta(minutes=5),
            retry_exponential_backoff=True,
            max_retry_delay=timedelta(hours=2),
        )
    return dag
