"""``medllm-ops corpus …``: look into the corpus, and keep it right."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
import yaml
from rich.console import Console
from rich.table import Table

from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.maintenance import KEPT_VERSIONS, verify
from medllm_ops.corpus.maintenance import compact as compact_corpus
from medllm_ops.corpus.reader import Snapshot, corpus_url
from medllm_ops.corpus.storage import open_storage
from medllm_ops.errors import MedllmError

corpus_app = typer.Typer(no_args_is_help=True, help=__doc__)
console = Console(highlight=False)

Corpus = Annotated[
    str | None,
    typer.Option("--corpus", envvar="MEDLLM_CORPUS", help="A folder or s3://…; MEDLLM_HOME/corpus by default."),
]
Version = Annotated[str | None, typer.Option(help="A version's number or tag; the latest by default.")]

EXIT_WRONG = 1


def _snapshot(corpus: str | None, version: str | None) -> Snapshot:
    return Snapshot(open_storage(corpus_url(corpus)), version)


@corpus_app.command()
def show(corpus: Corpus = None, version: Version = None) -> None:
    """Show what the corpus has of each source, and its tags."""
    snapshot = _snapshot(corpus, version)
    console.print(
        f"corpus {snapshot.storage.url}, version {snapshot.version} of {snapshot.manifest.created or 'never'}"
    )
    columns = ("alive", "retracted", "deleted", "rejects", "files")
    table = Table("source", *columns, "generation", box=None)
    for column in table.columns[1:-1]:
        column.justify = "right"
    notes = []
    for source in snapshot.sources:
        counts = snapshot.counts(source)
        state = snapshot.manifest.source(source)
        table.add_row(source, *(f"{counts[name]:,}" for name in columns), state.generation)
        last = snapshot.files(source)[-1]
        notes.append(f"{source}: last {last['name']}, applied {last['date']}")
        if state.staging:
            notes.append(f"{source}: {state.staging.generation} is on its way in, and visible once it is whole")
    console.print(table)
    for note in notes:
        console.print(note, soft_wrap=True)
    for name, number in manifests.tags(snapshot.storage).items():
        console.print(f"tag {name}: version {number}")


@corpus_app.command()
def get(
    record_id: Annotated[str, typer.Argument(metavar="ID", help="Such as pubmed:31408116.")],
    corpus: Corpus = None,
    version: Version = None,
) -> None:
    """Print a record as JSON, deleted and retracted ones too."""
    source, row = _snapshot(corpus, version).get(record_id)
    row = {key: value for key, value in row.items() if value is not None}
    if digest := row.pop("hash", None):
        row["hash"] = digest.hex()
    console.print_json(data={"source": source, **row})


@corpus_app.command()
def history(
    record_id: Annotated[str, typer.Argument(metavar="ID")], corpus: Corpus = None, version: Version = None
) -> None:
    """Print what happened to a record, oldest first."""
    table = Table("date", "event", "version", "raw file")
    for row in _snapshot(corpus, version).history(record_id):
        table.add_row(row["date"], row["event"], str(row["version"]), row["file"])
    console.print(table)


@corpus_app.command()
def rejects(source: Annotated[str, typer.Argument()], corpus: Corpus = None, version: Version = None) -> None:
    """Write what could not become a record as JSON lines, with file, position and reason."""
    for row in _snapshot(corpus, version).rejects(source):
        sys.stdout.buffer.write(orjson.dumps(row) + b"\n")


@corpus_app.command()
def export(
    out: Annotated[Path, typer.Option(help="The file to write, whole or not at all.")],
    source: Annotated[list[str] | None, typer.Option(help="Only this source; may be repeated.")] = None,
    retracted: Annotated[bool, typer.Option("--retracted", help="Retracted records too, marked.")] = False,
    corpus: Corpus = None,
    version: Version = None,
) -> None:
    """Write the living records as JSON lines, sorted by id; the same version gives the same bytes."""
    snapshot = _snapshot(corpus, version)
    counts = snapshot.export(out, source, retracted)
    rows = ", ".join(f"{name}: {count:,}" for name, count in sorted(counts.items())) or "no records"
    console.print(f"version {snapshot.version} → {out} ({rows})", soft_wrap=True)


@corpus_app.command()
def tag(
    name: Annotated[str, typer.Argument()],
    version: Annotated[int | None, typer.Option(help="The latest by default.")] = None,
    move: Annotated[bool, typer.Option("--move", help="Take the name from the version that has it.")] = False,
    corpus: Corpus = None,
) -> None:
    """Give a version a name; it is then never cleaned away."""
    storage = open_storage(corpus_url(corpus))
    number = manifests.read(storage).version if version is None else version
    manifests.tag(storage, name, number, move)
    console.print(f"{name}: version {number}")


@corpus_app.command()
def compact(
    keep: Annotated[int, typer.Option(min=1, help="How many of the latest versions stay readable.")] = KEPT_VERSIONS,
    corpus: Corpus = None,
) -> None:
    """Join small files and clean away old versions without a tag."""
    freed = compact_corpus(open_storage(corpus_url(corpus)), keep)
    console.print(f"{freed / 1e6:,.1f} MB freed")


@corpus_app.command(name="verify")
def verify_corpus(corpus: Corpus = None, version: Version = None) -> None:
    """Read a version whole and say what is wrong with it; exit code 1 if anything is."""
    snapshot = _snapshot(corpus, version)
    wrong = 0
    for wrong, sentence in enumerate(verify(snapshot), start=1):  # noqa: B007
        typer.echo(f"error: {sentence}", err=True)
    if wrong:
        raise typer.Exit(EXIT_WRONG)
    console.print(f"version {snapshot.version} of {snapshot.storage.url} is sound", soft_wrap=True)


@corpus_app.command()
def refresh(
    source: Annotated[str, typer.Argument(help="See `medllm-ops sources`.")],
    base_url: Annotated[
        str | None, typer.Option(help="Another address than the publisher's own, such as a mirror.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only what changed on or after this date.")] = None,
    max_files: Annotated[int | None, typer.Option(min=0, help="At most so many new raw files; 0: all.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; may be repeated.")
    ] = None,
    keep_raw: Annotated[bool | None, typer.Option(help="Keep the raw files; as the catalogue says by default.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for another refresh to end.")] = 0,
    corpus: Corpus = None,
) -> None:
    """Bring what is new at a source's publisher into the corpus; repeated, it goes on where it stopped."""
    from medllm_ops.refresh.refresh import refresh_source
    from medllm_ops.sources import get_entry

    values: dict[str, Any] = {"base_url": base_url, "since": since, "max_files": max_files}
    values = {key: value for key, value in values.items() if value is not None}
    fields = get_entry(source).source.settings.model_fields
    for item in setting or []:
        key, equals, text = item.partition("=")
        if not equals:
            raise MedllmError(f"--set {item}: it must be NAME=VALUE")
        # A text is taken as it is: a query such as "lung cancer"[title] is no YAML.
        is_text = key in fields and fields[key].annotation is str
        values[key] = text if is_text else _yaml(item, text)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    began = time.monotonic()
    refreshed = refresh_source(source, values, corpus=corpus, keep_raw=keep_raw, wait=wait)
    _tell(refreshed.summary(), time.monotonic() - began)


def _yaml(item: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise MedllmError(f"--set {item}: {' '.join(str(error).split())}") from error


def _tell(summary: dict[str, Any], seconds: float) -> None:
    if not summary["files"]:
        console.print(f"{summary['source']}: nothing new ({seconds:.1f} s)")
        return
    console.print(
        f"{summary['source']}: {summary['files']} raw files, {summary['in']:,} items, "
        f"corpus version {summary['version']} ({seconds:.1f} s)"
    )
    for event, count in summary["events"].items():
        console.print(f"  {count:,} {event}")
    for reason, count in summary["dropped"].items():
        console.print(f"  {count:,} × {reason}")


@corpus_app.command()
def rebuild(
    source: Annotated[str, typer.Argument()],
    out: Annotated[str, typer.Option(help="The new corpus: a folder or s3://…")],
    corpus: Corpus = None,
) -> None:
    """Make a source anew in another corpus, from the raw files that were kept; it comes out identical."""
    from medllm_ops.refresh.refresh import rebuild as rebuild_source
    from medllm_ops.sources import get_source

    refreshed = rebuild_source(get_source(source), open_storage(corpus_url(corpus)), open_storage(out))
    _tell(refreshed.summary(), refreshed.seconds)
