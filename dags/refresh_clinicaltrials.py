"""ClinicalTrials.gov's new and updated studies into the corpus."""

from __future__ import annotations

from airflow.sdk import DAG, CronPartitionTimetable, Param

from medllm_ops.operators.refresh_dag import BASE_URL, SINCE, refresh_dag

BULK = {
    "bulk": Param(
        False,
        type="boolean",
        title="All studies as one zip",
        description="2.7 GB; tells also which studies are gone. Otherwise the API's pages of what was updated.",
    )
}

dag: DAG = refresh_dag(
    "refresh_clinicaltrials",
    "clinicaltrials",
    "Refresh ClinicalTrials.gov",
    {**BASE_URL, **SINCE, **BULK},
    schedule=CronPartitionTimetable("0 4 1 * *", timezone="UTC", run_offset=-1, key_format="%Y-%m"),
    doc="""
Brings the studies that were updated since the last run, page by page, at most 50 requests a minute.
""",
)
