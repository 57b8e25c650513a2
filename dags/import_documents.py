"""The company's own documents, and instruction and preference sets, into the corpus."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from medllm_ops.operators.params import source_names
from medllm_ops.operators.refresh_dag import refresh_dag, text_param

# They come by their publishers' own ways, each by a DAG of its own.
ELSEWHERE = ("pubmed", "clinicaltrials")
SOURCES = [name for name in source_names() if name not in ELSEWHERE]

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
