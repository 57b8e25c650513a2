"""``medllm-ops curate``: from rows to a dataset, and what becomes of one row."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

console = Console(highlight=False)

_DEFAULT = "files"


class _FilesOrCommand(TyperGroup):
    """``curate FILE…`` is ``curate files FILE…``; a file that is named as a command is written ``./explain``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args if named else [_DEFAULT, *args])


class RunnerName(StrEnum):
    """Where the work is done."""

    local = "local"
    ray = "ray"


curate_app = typer.Typer(
    cls=_FilesOrCommand, help="Make a dataset of records: clean, scrubbed, without duplicates, split."
)

Files = Annotated[
    list[Path], typer.Argument(metavar="FILE…", help="Records as `convert` writes them.", show_default=False)
]
Settings = Annotated[
    Path | None, typer.Option(metavar="YAML", help="See include/datasets/curation.yaml; its defaults if left out.")
]


@curate_app.command(_DEFAULT, epilog="What becomes of one record: medllm-ops curate explain ID FILE…")
def curate_files(
    files: Files,
    out: Annotated[Path, typer.Option(help="The folder to make, whole or not at all.")],
    settings: Settings = None,
    evalset: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="What the model will be evaluated on; may be repeated.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, or cores of the Ray cluster; all of this machine by default.")
    ] = None,
    runner: Annotated[RunnerName, typer.Option(help="This machine, or Ray (RAY_ADDRESS).")] = RunnerName.local,
) -> None:
    """Make a dataset of records: clean, scrubbed, without duplicates and evaluation sets, split, in ms-swift's format.

    The same records and settings give the same bytes, whatever their order and the number of workers.
    """
    from medllm_ops.curation.curate import curate
    from medllm_ops.curation.funnel import read_ledger, tables
    from medllm_ops.curation.settings import read_settings
    from medllm_ops.curation.workers import cores
    from medllm_ops.files import read_json

    made = curate(
        files,
        out,
        read_settings(settings),
        evalsets=evalset or (),
        worker_count=workers or cores(),
        runner=runner.value,
    )
    for table in tables(read_ledger(out), read_json(out / "manifest.json")["sources"]):
        console.print(table)
        console.print()
    console.print(f"{'made' if made else 'nothing to do, as made before'}: {out}", soft_wrap=True)


@curate_app.command("explain")
def explain_record(
    record_id: Annotated[str, typer.Argument(metavar="ID", help="As in removed.jsonl or in a dataset.")],
    files: Files,
    settings: Settings = None,
    dataset: Annotated[
        Path | None, typer.Option(metavar="DIR", help="What `curate` made of the files: what became of it there.")
    ] = None,
) -> None:
    """Show a record before and after, and which rule did what. Personal data are shown as marks."""
    from medllm_ops.curation.explain import explain, fate
    from medllm_ops.curation.settings import read_settings

    for story in explain(record_id, files, read_settings(settings)):
        _print(f"{record_id} in {story.place}")
        for title, lines in (("before", story.before), ("what was done", story.told), ("after", story.after)):
            _print(f"\n{title}" if lines else f"\n{title}: nothing is left")
            for line in lines:
                _print("    " + line.replace("\n", "\n    "))
        _print("")
    for sentence in fate(record_id, dataset) if dataset else ():
        _print(sentence)


def _print(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
