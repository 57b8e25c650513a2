"""``medllm-ops lineage``: where a record has been, and what is withdrawn of what models have seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from medllm_ops.datasets.store import Dataset, find_dataset
from medllm_ops.errors import MedllmError
from medllm_ops.lineage.runs import find_run, run_of_model
from medllm_ops.lineage.trace import Trace, Withdrawn, trace, withdrawn

console = Console(highlight=False, markup=False)

EXIT_BEYOND = 1
_SHOWN = 20


def lineage(
    record_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Such as pubmed:31408116.")] = None,
    retracted: Annotated[
        bool, typer.Option("--retracted", help="List what was retracted or deleted since, of all datasets.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME[@VERSION]", help="With --retracted: of this dataset only.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="With --retracted: of what this run was trained on.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="With --retracted: of what the model in this folder was trained on.")
    ] = None,
    max_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exit with 1 if a larger share of the training rows is withdrawn."),
    ] = None,
    corpus: Annotated[
        str | None, typer.Option("--corpus", envvar="MEDLLM_CORPUS", help="MEDLLM_HOME/corpus by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every id.")] = False,
) -> None:
    """Tell where a record has been: corpus versions, datasets and sides, runs, models, services.

    With --retracted, tell which records that datasets and models have seen are retracted or deleted by now.
    """
    if bool(record_id) == retracted:
        raise MedllmError("give the id of a record, or --retracted")
    if record_id:
        if dataset or run or model:
            raise MedllmError("--dataset, --run and --model go with --retracted")
        found = trace(record_id, corpus)
        if as_json:
            console.print_json(data=found.to_row())
        else:
            _tell_trace(found)
        return
    reports = withdrawn(_chosen(dataset, run, model), corpus)
    if as_json:
        console.print_json(data=[report.to_row() for report in reports])
    else:
        _tell_withdrawn(reports)
    if max_share is not None and any(report.share.share > max_share for report in reports):
        raise typer.Exit(EXIT_BEYOND)


def _chosen(dataset: str | None, run: str | None, model: Path | None) -> list[Dataset] | None:
    if sum(value is not None for value in (dataset, run, model)) > 1:
        raise MedllmError("give one of --dataset, --run and --model")
    if dataset:
        return [find_dataset(dataset)]
    if run:
        return [find_run(run).seen]
    if model:
        return [run_of_model(model).seen]
    return None


def _tell_trace(found: Trace) -> None:
    where = f"corpus {found.corpus}, version {found.corpus_version}"
    if life := found.life:
        state = "alive" if life.alive else "gone"
        console.print(
            f"{found.id}: {state}{', retracted' if life.retracted else ''} in {where} ({life.source})", soft_wrap=True
        )
        spans = (f"{begin} – {'now' if end is None else end}" for begin, end in life.lived)
        console.print(f"lived in the corpus's versions {', '.join(spans) or 'none'}", soft_wrap=True)
        table = Table("corpus", "date", "event", "version", "raw file", box=None)
        for fact in life.facts:
            version = f"{'' if fact.is_first else '≤ '}{fact.corpus_version}"
            table.add_row(version, fact.date, fact.event, str(fact.version), fact.file)
        console.print(table)
    else:
        console.print(f"{found.id}: {where} never had it", soft_wrap=True)
    for place in found.places:
        if place.side:
            console.print(f"dataset {place.dataset}: {place.side} ({place.source})", soft_wrap=True)
        else:
            kept = f", {place.kept} stands for it" if place.kept else ""
            console.print(f"dataset {place.dataset}: taken out by {place.step} ({place.reason}{kept})", soft_wrap=True)
    for use in found.uses:
        models = ", ".join(use.models) or "no model has learnt it"
        console.print(f"run {use.run.name}: {use.place.side} of {use.place.dataset}; {models}", soft_wrap=True)
        for path in use.models.values():
            console.print(f"  model {path}", soft_wrap=True)
        for service in use.services:
            console.print(f"  served as {service.name} at {service.url}", soft_wrap=True)
    if not found.places:
        console.print("no dataset has it")


def _tell_withdrawn(reports: list[Withdrawn]) -> None:
    if not reports:
        console.print("there is no dataset")
        return
    table = Table("dataset", "records to train on", "withdrawn", "share", "of val", "runs", "served as", box=None)
    for report in reports:
        share = report.share
        table.add_row(
            str(report.dataset),
            f"{share.records['train']:,}",
            f"{share.count('train'):,}",
            f"{share.share:.3%}",
            f"{share.count('val'):,}",
            ", ".join(run.name for run in report.runs),
            ", ".join(service.name for service in report.services),
        )
    console.print(table)
    for report in reports:
        hits = report.share.hits
        for hit in hits[:_SHOWN]:
            console.print(f"{report.dataset}: {hit.id} ({hit.side}): {hit.reason}", soft_wrap=True)
        if len(hits) > _SHOWN:
            console.print(f"{report.dataset}: and {len(hits) - _SHOWN:,} more: --json lists them")
