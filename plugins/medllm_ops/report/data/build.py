"""Write the report of a dataset, in a folder of its own within the dataset."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from medllm_ops.datasets.store import REPORT
from medllm_ops.files import write_json, write_whole
from medllm_ops.report.data.changes import compare
from medllm_ops.report.data.contents import read_contents
from medllm_ops.report.data.dataset import DatasetFiles
from medllm_ops.report.data.funnel import accounts, funnels, reasons_of
from medllm_ops.report.data.html import render
from medllm_ops.report.data.known import Known
from medllm_ops.report.data.model import DataReport
from medllm_ops.report.data.verdict import judge, worst

REPORT_FILE: Final = "data_report.json"
PAGE_FILE: Final = "data_report.html"
# Shown in sections of their own.
_ELSEWHERE: Final = ("settings", "sources", "evalsets", "files", "ledger")


def build_data_report(dataset_dir: Path, previous: Path | None = None) -> Path:
    """Write ``report/data_report.json`` and ``report/data_report.html`` into a dataset, and return the page's path.

    No other file of the dataset is touched, and its manifest hashes none of these two: they say what is in the dataset,
    and are no part of it.

    :param previous: the dataset before this one, for the drift.
    :raises MedllmError: if one of the two is no dataset, or a file in it is not what curation writes.
    """
    report = data_report(dataset_dir, previous)
    page = render(report)
    folder = dataset_dir.resolve() / REPORT
    write_json(folder / REPORT_FILE, report.to_row())
    with write_whole(folder / PAGE_FILE) as file:
        file.write(page.encode("utf-8"))
    return folder / PAGE_FILE


def data_report(dataset_dir: Path, previous: Path | None = None) -> DataReport:
    """The report itself; nothing is written."""
    dataset = DatasetFiles(dataset_dir)
    contents = read_contents(dataset)
    removed = dataset.removed()
    sources = funnels(dataset)
    known = Known(
        sources=sources,
        accounts=accounts(sources, removed, contents),
        reasons=reasons_of(sources, removed, dataset.samples()),
        licences=dataset.licences(),
        marks=dataset.marks(),
        decontamination=dataset.decontamination(),
        comparison=None if previous is None else compare(DatasetFiles(previous), dataset, contents, removed),
        contents=contents,
        settings=dict(dataset.manifest.get("settings") or {}),
        incomplete=[],
    )
    lengths, clusters, review = dataset.lengths(), dataset.clusters(), dataset.review()
    # By now, every file was asked for.
    known = dataclasses.replace(known, incomplete=list(dict.fromkeys(dataset.incomplete)))
    findings = judge(known)
    return DataReport(
        dataset=dataset.folder.name,
        level=worst(findings),
        findings=findings,
        read=sum(funnel.read for funnel in sources),
        train=sum(funnel.train for funnel in sources),
        val=sum(funnel.val for funnel in sources),
        removed=sum(sum(funnel.dropped.values()) for funnel in sources),
        sources=sources,
        accounts=known.accounts,
        reasons=known.reasons,
        kept=contents.kept,
        lengths=lengths,
        languages=dataset.languages(),
        clusters=clusters,
        review=review,
        scripts=contents.scripts,
        marks=known.marks,
        decontamination=known.decontamination,
        licences=known.licences,
        comparison=known.comparison,
        files=contents.files,
        settings=known.settings,
        manifest={key: value for key, value in dataset.manifest.items() if key not in _ELSEWHERE},
        incomplete=known.incomplete,
    )
