"""``medllm-ops curate``: from rows to a dataset. ``curate explain`` is in ``datasets``: it knows the corpus, too."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

console = Console(highlight=False, markup=False)

_DEFAULT = "files"
_EVALSET = "--evalset"


class _FilesOrCommand(TyperGroup):
    """``curate FILE…`` is ``curate files FILE…``; a file that is named as a command is written ``./explain``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args if named else [_DEFAULT, *_each_by_its_option(args)])


def _each_by_its_option(args: Sequence[str]) -> list[str]:
    """``FILE… --evalset A B`` as ``FILE… --evalset A --evalset B``.

    Else B would be curated: an evaluation set among the records, and nothing compared with it.
    """
    told: list[str] = []
    files = awaits_value = is_evalset = False
    for number, arg in enumerate(args):
        if arg == "--":
            return [*told, *args[number:]]
        if awaits_value:
            awaits_value = False
        elif arg.startswith("--"):
            awaits_value = "=" not in arg and arg != "--help"
            is_evalset = arg.partition("=")[0] == _EVALSET
        elif files and is_evalset:
            told.append(_EVALSET)
        else:
            files, is_evalset = True, False
        told.append(arg)
    return told


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


@curate_app.command(_DEFAULT, epilog="What becomes of one record: medllm-ops curate explain ID [FILE…]")
def curate_files(
    files: Files,
    out: Annotated[Path, typer.Option(help="The folder to make, whole or not at all.")],
    settings: Settings = None,
    evalset: Annotated[
        list[Path] | None,
        typer.Option(_EVALSET, metavar="FILE", help="What the model will be evaluated on; several behind the FILEs."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, or cores of the Ray cluster; by default those that pay.")
    ] = None,
    runner: Annotated[RunnerName, typer.Option(help="This machine, or Ray (RAY_ADDRESS).")] = RunnerName.local,
) -> None:
    """Make a dataset of records: clean, scrubbed, without duplicates and evaluation sets, split, in ms-swift's format.

    The same records and settings give the same bytes, whatever their order and the number of workers.
    """
    from medllm_ops.curation.curate import curate
    from medllm_ops.curation.funnel import read_ledger, tables
    from medllm_ops.curation.settings import read_settings
    from medllm_ops.curation.workers import cores, cores_for
    from medllm_ops.files import read_json

    made = curate(
        files,
        out,
        read_settings(settings),
        evalsets=evalset or (),
        worker_count=workers or (cores() if runner is RunnerName.ray else cores_for(files)),
        runner=runner.value,
    )
    for table in tables(read_ledger(out), read_json(out / "manifest.json")["sources"]):
        console.print(table)
        console.print()
    console.print(f"{'made' if made else 'nothing to do, as made before'}: {out}", soft_wrap=True)
