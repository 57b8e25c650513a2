"""The company's own documents, and instruction and preference sets, into the corpus."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from medllm_ops.operators.refresh_dag import refresh_dag, text_param

SOURCES = [
    "docx",
    "tcm_books",
    "alpaca",
    "deepctrl",
    "disc_medllm",
    "messages",
    "conversations",
    "query_response",
    "preference",
]

FORM = {
    "source": Param("docx", enum=SOURCES, title="Source", description="What kind of files they are."),
    "location": text_param(
        "Where they lie",
        "A folder, a file, s3://bucket/prefix, modelscope:owner/name, huggingface:owner/name. Empty: the entry's own.",
        examples=["/data/docx", "s3://company/handbooks", "modelscope:deepctrl/deepctrl-sft-data"],
    ),
}

dag: DAG = refresh_dag(
    "import_documents",
    "{{ params.source }}",
    "Import documents and sets",
    FORM,
    doc="""
Brings new and changed files; records of files that were removed are taken out, and it is noted when and why.
""",
)
