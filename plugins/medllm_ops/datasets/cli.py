"""``medllm-ops dataset …``: build frozen datasets, look into them, compare and verify them."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from medllm_ops.curation.cli import RunnerName
from medllm_ops.datasets import store
from medllm_ops.datasets.diff import KINDS, Diff, diff, differing_ids
from medllm_ops.datasets.ids import records_of
from medllm_ops.datasets.store import SIDES, find_dataset
from medllm_ops.datasets.verify import verify

dataset_app = typer.Typer(no_args_is_help=True, help=__doc__)
console = Console(highlight=False, markup=False)

EXIT_WRONG = 1

Which = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The latest version by default; or a folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataset_app.command()
def build(
    name: Annotated[str, typer.Argument()],
    corpus: Annotated[
        str | None,
        typer.Option("--corpus", envvar="MEDLLM_CORPUS", help="A folder or s3://…; MEDLLM_HOME/corpus by default."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Of the corpus: a number or a tag; the latest by default.")
    ] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only this source; may be repeated.")] = None,
    settings: Annotated[
        Path | None, typer.Option(metavar="YAML", help="See include/datasets/curation.yaml; its defaults if left out.")
    ] = None,
    evalset: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="What the model will be evaluated on; may be repeated.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, or cores of the Ray cluster; all of this machine by default.")
    ] = None,
    runner: Annotated[RunnerName, typer.Option(help="This machine, or Ray (RAY_ADDRESS).")] = RunnerName.local,
    allow_licence: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE", help="Use this source whatever its licence is; may be repeated."),
    ] = None,
) -> None:
    """Build a dataset of the corpus; of the same as before, it is the same version again."""
    from medllm_ops.curation.settings import read_settings
    from medllm_ops.curation.workers import cores
    from medllm_ops.datasets.build import build_dataset

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    before = store.versions(name)
    dataset = build_dataset(
        name,
        corpus=corpus,
        version=version,
        sources=source,
        settings=read_settings(settings),
        evalsets=evalset or (),
        workers=workers or cores(),
        runner=runner.value,
        allow_licences=allow_licence or (),
    )
    _tell(dataset)
    known = " (as built before)" if dataset.version in before else ""
    console.print(f"{dataset}{known}: {dataset.directory}", soft_wrap=True)


@dataset_app.command("list")
def list_() -> None:
    """List the datasets and their versions."""
    table = Table("dataset", "version", "corpus", "train", "val", box=None)
    for dataset in store.every_dataset():
        manifest = dataset.manifest
        counts = (sum(figures.get(side, 0) for figures in manifest["sources"].values()) for side in SIDES)
        version = manifest.get("corpus", {}).get("version", "")
        table.add_row(dataset.name, str(dataset.version), str(version), *(f"{count:,}" for count in counts))
    console.print(table if table.row_count else "there is no dataset")


@dataset_app.command()
def show(dataset: Which, as_json: AsJson = False) -> None:
    """Show what a dataset holds, under which licences, and what it was made of."""
    found = find_dataset(dataset)
    if as_json:
        console.print_json(data={"dataset": str(found), "directory": str(found.directory), **found.manifest})
        return
    _tell(found)
    manifest = found.manifest
    if corpus := manifest.get("corpus"):
        console.print(f"corpus {corpus['url']}, version {corpus['version']}", soft_wrap=True)
        for name, taken in corpus.get("unfinished", {}).items():
            console.print(f"  a refresh of {name} went on: it is there as of version {taken}")
    for item in manifest.get("evalsets", []):
        console.print(f"evaluation set {item['name']}: {item['items']:,} items", soft_wrap=True)
    # What `curate` made has a hash of each file, and none of all.
    content = f"content {manifest['content']}, in" if "content" in manifest else "in"
    console.print(f"{content} {found.directory}", soft_wrap=True)


def _tell(dataset: store.Dataset) -> None:
    """Rows and records by source, and licences."""
    manifest = dataset.manifest
    table = Table("source", "train", "val", "records", box=None)
    table.add_column("licences", overflow="fold")
    for name, figures in manifest["sources"].items():
        licences = figures.get("licences", {}).items()
        told = ", ".join(f"{licence or 'unknown'}: {rows:,}" for licence, rows in licences)
        records = sum(records_of(dataset, name).values())
        table.add_row(name, *(f"{figures.get(side, 0):,}" for side in SIDES), f"{records:,}", told)
    console.print(table)


@dataset_app.command(name="diff")
def diff_(
    old: Which,
    new: Which,
    as_json: AsJson = False,
    ids: Annotated[bool, typer.Option("--ids", help="Write each record that differs as a JSON line.")] = False,
) -> None:
    """Compare two datasets: records, licences, settings. No text is read, unless --ids is given."""
    one, other = find_dataset(old), find_dataset(new)
    if ids:
        for row in differing_ids(one, other):
            sys.stdout.buffer.write(orjson.dumps(row) + b"\n")
        return
    found = diff(one, other)
    if as_json:
        console.print_json(data=found.to_row())
    else:
        _tell_diff(found)


def _tell_diff(found: Diff) -> None:
    table = Table("source", "side", *KINDS, box=None)
    for (source, side), counts in found.records.items():
        table.add_row(source, side, *(f"{counts[kind]:,}" for kind in KINDS))
    console.print(table)
    for title in ("licences", "settings", "other"):
        for key, (before, after) in getattr(found, title).items():
            console.print(f"{title}: {key}: {_short(before)} → {_short(after)}", soft_wrap=True)


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 200 else f"{text[:200]}…"


@dataset_app.command(name="verify")
def verify_(dataset: Which) -> None:
    """Read a dataset whole and say what is wrong with it; exit code 1 if anything is."""
    found = find_dataset(dataset)
    wrong = 0
    for wrong, sentence in enumerate(verify(found), start=1):  # noqa: B007
        typer.echo(f"error: {sentence}", err=True)
    if wrong:
        raise typer.Exit(EXIT_WRONG)
    console.print(f"{found} is as it was built", soft_wrap=True)
