"""The e-books of 中医世家 into the corpus."""

from __future__ import annotations

from airflow.sdk import DAG

from medllm_ops.operators.refresh_dag import BASE_URL, refresh_dag

dag: DAG = refresh_dag(
    "refresh_tcm",
    "tcm_books",
    "Refresh 中医世家",
    BASE_URL,
    doc="""
Crawls the site's lists of books and the books that are not here yet, one page every 3 to 7 seconds, as its robots.txt
allows. There is no schedule: books do not change, and a crawl takes days.
""",
)
