"""PubMed's new, corrected, deleted and retracted citations into the corpus, every month."""

from __future__ import annotations

from airflow.sdk import DAG, CronPartitionTimetable

from medllm_ops.operators.refresh_dag import BASE_URL, SINCE, refresh_dag, text_param

QUERY = {"query": text_param("Query", "Of E-utilities, instead of the files of the whole PubMed. Empty: the files.")}

# A run on the 1st is the month before's partition.
MONTHLY = CronPartitionTimetable("0 3 1 * *", timezone="UTC", run_offset=-1, key_format="%Y-%m")

dag: DAG = refresh_dag(
    "refresh_pubmed",
    "pubmed",
    "Refresh PubMed",
    {**BASE_URL, **SINCE, **QUERY},
    schedule=MONTHLY,
    doc="""
Brings what NLM published since the last run: the baseline, if it is not here or a new year's has come, then the
update files in order. Each file is applied once and whole; a run that was ended goes on where it stopped.
""",
)
