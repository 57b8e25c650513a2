"""``medllm-ops``: every step without Airflow."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from medllm_ops import chain
from medllm_ops.compute.cli import gpu, trainer
from medllm_ops.compute.places import place_for
from medllm_ops.curation.cli import curate_app
from medllm_ops.datasets.cli import dataset_app
from medllm_ops.datasets.explain import explain_record
from medllm_ops.errors import MedllmError
from medllm_ops.lineage.cli import lineage
from medllm_ops.parameters import Parameters
from medllm_ops.plan import start
from medllm_ops.progress import follow_log
from medllm_ops.refresh.cli import corpus_app
from medllm_ops.report.data.cli import report as data_report
from medllm_ops.run import Run
from medllm_ops.serving.cli import serve_app
from medllm_ops.swift.job_cli import job_app
from medllm_ops.swift.preflight.cli import preflight
from medllm_ops.swift.recipe_cli import recipe_app
from medllm_ops.yaml_file import read_setting

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(corpus_app, name="corpus")
curate_app.command("explain")(explain_record)
app.add_typer(curate_app, name="curate")
dataset_app.command(name="report")(data_report)
app.add_typer(dataset_app, name="dataset")
app.command()(lineage)
app.command()(gpu)
app.add_typer(job_app, name="job")
app.command()(preflight)
app.add_typer(recipe_app, name="recipe")
app.add_typer(serve_app, name="serve")
app.command()(trainer)
console = Console(highlight=False, markup=False)

EXIT_ERROR = 1
EXIT_UNREADABLE = 3


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="The source's name; see `medllm-ops sources`.")],
    files: Annotated[list[Path], typer.Argument(help="Its raw files, in order.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The folder to make, whole or not at all.")],
    sample: Annotated[int, typer.Option(min=0, help="Keep at most so many records, drawn by a stable hash.")] = 0,
) -> None:
    """Convert raw files to records in the ms-swift format, with rejects and a ledger.

    Exit code 0 when the ledger balances, even with rejects; 3 when a file could not be read at all.
    """
    from medllm_ops.datasets.convert import convert as convert_files
    from medllm_ops.sources import get_source

    conversion = convert_files(get_source(source), files, out, sample)
    ledger = conversion.ledger
    console.print(
        f"{ledger.rows_in} in, {ledger.rows_out} out, {ledger.dropped.total()} dropped → {out}", soft_wrap=True
    )
    for reason, rows in sorted(ledger.dropped.items()):
        console.print(f"  {rows} × {reason}")
    for sentence in conversion.unreadable:
        typer.echo(f"error: {sentence}", err=True)
    if conversion.unreadable:
        raise typer.Exit(EXIT_UNREADABLE)


@app.command()
def sources() -> None:
    """List the sources."""
    from medllm_ops.sources import catalogue

    table = Table("name", "what", "trains", "folder", "files")
    for entry in catalogue():
        source = entry.source
        table.add_row(source.name, entry.title, source.stage, source.folder, " ".join(source.patterns))
    console.print(table)


@app.command()
def run(
    raw: Annotated[Path | None, typer.Option(help="Folder of raw files; the shipped demo inputs by default.")] = None,
    recipe: Annotated[str, typer.Option(help="A recipe's name or file.")] = "demo",
    model: Annotated[str | None, typer.Option(help="A folder or name; the recipe's own by default.")] = None,
    name: Annotated[str | None, typer.Option(help="The run's name; made of the parameters by default.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other field of the form; may be repeated."),
    ] = None,
) -> None:
    """Run the whole chain; repeated, it goes on where it stopped."""
    values: dict[str, Any] = {"raw": str(raw) if raw else None, "recipe": recipe, "model": model}
    values |= dict(read_setting(item, Parameters) for item in setting or [])
    the_run = start(name, Parameters.check(values))
    console.print(f"run {the_run.name}, everything of it in {the_run.directory}", soft_wrap=True)
    _run_chain(the_run)


@app.command()
def step(
    name: Annotated[str, typer.Argument(help="; ".join(f"{item.name}: {item.title}" for item in chain.STEPS))],
    run: Annotated[Path, typer.Option(help="The run's folder.")],
) -> None:
    """Run one step of a run alone."""
    the_run = Run.open(run)
    # Before it is timed: a failed task stays in the verdict on the run.
    chain.check_step(name, the_run.parameters)
    with follow_log(the_run.log_file, console) as progress, progress.step(name, None), the_run.timed(name):
        result = chain.execute(name, str(run))
    console.print_json(data=result)


def _run_chain(the_run: Run) -> None:
    """Run every wanted step in order, telling which, how long, and what is next."""
    steps = [item for item in chain.STEPS if item.wanted(the_run.parameters)]
    place = place_for(the_run.parameters.where)
    console.print(f"logs: {the_run.log_file} and the job.log of each step\n", soft_wrap=True)
    with follow_log(the_run.log_file, console) as progress:
        started = time.monotonic()
        for number, item in enumerate(steps, start=1):
            after = steps[number].name if number < len(steps) else None
            try:
                with (
                    progress.step(f"[{number}/{len(steps)}] {item.name}: {item.title}", after),
                    the_run.timed(item.name),
                ):
                    item.execute(the_run, place)
            except (MedllmError, OSError):
                if item.name != "report":
                    _report_what_there_is(the_run)
                raise
    minutes, seconds = divmod(time.monotonic() - started, 60)
    console.print(f"\nall {len(steps)} steps passed in {minutes:.0f} min {seconds:.0f} s")
    console.print(f"report: {the_run.directory / 'report.html'}", soft_wrap=True)
    console.print(f"model:  {the_run.final_model}", soft_wrap=True)


def _report_what_there_is(the_run: Run) -> None:
    from medllm_ops.report.build import build_report

    try:
        build_report(the_run.directory)
    except (MedllmError, OSError) as error:  # why the run failed is what the command ends with
        console.print(f"no report could be made: {error}", soft_wrap=True)
        return
    console.print(f"report of what there is: {the_run.directory / 'report.html'}", soft_wrap=True)


def main() -> None:
    """The console script: what a user can act on becomes one line and an exit code."""
    try:
        app()
    except (MedllmError, OSError) as error:  # an OSError is a full disk, a folder that cannot be written
        typer.echo(f"error: {error}", err=True)
        sys.exit(EXIT_ERROR)


if __name__ == "__main__":
    main()
