"""``medllm-ops dataset report``: what is in a dataset, and whether something is wrong with it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

console = Console(highlight=False, markup=False)

EXIT_WRONG = 1


def report(
    dataset: Annotated[
        str,
        typer.Argument(metavar="NAME[@VERSION]", help="Or the folder that curate made.", show_default=False),
    ],
    previous: Annotated[
        str | None,
        typer.Option(metavar="NAME[@VERSION]", help="The dataset before it: what is new, and what drifted."),
    ] = None,
) -> None:
    """Write report/data_report.html and .json into a dataset: its funnel, distributions, duplicates, drift, verdict.

    Exit code 1 when something is wrong: then do not train on it.
    """
    from medllm_ops.datasets.store import dataset_of
    from medllm_ops.report.data.build import REPORT_FILE, build_data_report
    from medllm_ops.report.data.model import DataReport
    from medllm_ops.report.data.text import visible

    page = build_data_report(dataset_of(dataset), dataset_of(previous) if previous else None)
    made = DataReport.read_file(page.with_name(REPORT_FILE))
    for finding in made.findings:
        if finding.level != "good":
            words = {"wrong": "wrong:     ", "look": "to look at:", "note": "note:      "}
            console.print(f"{words[finding.level]} {visible(finding.sentence)}", markup=False, soft_wrap=True)
    good = sum(finding.level == "good" for finding in made.findings)
    console.print(f"{good} of {len(made.findings)} findings are good: {page}", markup=False, soft_wrap=True)
    if made.level == "wrong":
        raise typer.Exit(EXIT_WRONG)
