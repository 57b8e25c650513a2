"""``medllm-ops corpus …``: look into the corpus, and keep it right."""

from __future__ import annotations

import logging
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.maintenance import KEPT_VERSIONS, verify, verify_raw
from medllm_ops.corpus.maintenance import compact as compact_corpus
from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.reader import Snapshot, corpus_url
from medllm_ops.corpus.storage import Storage, open_storage
from medllm_ops.yaml_file import read_setting

if TYPE_CHECKING:
    from medllm_ops.refresh.summary import Refreshed

corpus_app = typer.Typer(no_args_is_help=True, help=__doc__)
console = Console(highlight=False, markup=False)

Corpus = Annotated[
    str | None,
    typer.Option("--corpus", envvar="MEDLLM_CORPUS", help="A folder or s3://…; MEDLLM_HOME/corpus by default."),
]
Version = Annotated[str | None, typer.Option(help="A version's number, a tag, or latest, which is the default.")]

EXIT_WRONG = 1


def _storage(corpus: str | None) -> Storage:
    """The corpus at this address.

    :raises CorpusError: if the user named it and nothing is there: a slip of the pen is no empty corpus.
    """
    storage = open_storage(corpus_url(corpus))
    if corpus and not manifests.versions(storage) and not storage.keys(""):
        raise CorpusError(f"{storage.url}: there is no corpus; the first refresh makes it")
    return storage


def _snapshot(corpus: str | None, version: str | None) -> Snapshot:
    return Snapshot(_storage(corpus), version)


@corpus_app.command()
def show(corpus: Corpus = None, version: Version = None) -> None:
    """Show what the corpus has of each source, and its tags."""
    snapshot = _snapshot(corpus, version)
    console.print(
        f"corpus {snapshot.storage.url}, version {snapshot.version} of {snapshot.manifest.created or 'never'}",
        soft_wrap=True,
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
    facts = _snapshot(corpus, version).history(record_id)
    console.print(f"{'date':20}  {'event':10}  version  raw file")
    for row in facts:
        line = f"{row['date']:20}  {row['event']:10}  {row['version']:7}  {row['file']}"
        console.print(line, markup=False, soft_wrap=True)


@corpus_app.command()
def rejects(source: Annotated[str, typer.Argument()], corpus: Corpus = None, version: Version = None) -> None:
    """Write what could not become a record as JSON lines, with file, position and reason."""
    snapshot = _snapshot(corpus, version)
    snapshot.check_sources([source])
    for row in snapshot.rejects(source):
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
    storage = _storage(corpus)
    number = manifests.read(storage).version if version is None else version
    manifests.tag(storage, name, number, move)
    console.print(f"{name}: version {number}")


@corpus_app.command()
def compact(
    keep: Annotated[int, typer.Option(min=1, help="How many of the latest versions stay readable.")] = KEPT_VERSIONS,
    corpus: Corpus = None,
) -> None:
    """Join small files and clean away old versions without a tag."""
    freed = compact_corpus(_storage(corpus), keep)
    console.print(f"{freed / 1e6:,.1f} MB freed")


@corpus_app.command(name="verify")
def verify_corpus(
    raw: Annotated[bool, typer.Option("--raw", help="Read the raw files, too: can it be rebuilt?")] = False,
    corpus: Corpus = None,
    version: Version = None,
) -> None:
    """Read a version whole and say what is wrong with it; exit code 1 if anything is."""
    snapshot = _snapshot(corpus, version)
    wrong = 0
    found = chain(verify(snapshot), verify_raw(snapshot) if raw else ())
    for wrong, sentence in enumerate(found, start=1):  # noqa: B007
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
    fields = get_entry(source).source.settings
    values |= dict(read_setting(item, fields) for item in setting or [])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    refresh_source(source, values, corpus=corpus, keep_raw=keep_raw, wait=wait, tell=_tell)


def _tell(refreshed: Refreshed) -> None:
    if not refreshed.files:
        console.print(f"{refreshed.source}: nothing new ({refreshed.seconds:.1f} s)")
        return
    summary = refreshed.summary()
    files = "raw file" if summary["files"] == 1 else "raw files"
    console.print(
        f"{refreshed.source}: {summary['files']:,} {files}, {summary['in']:,} items, "
        f"corpus version {summary['version']} ({refreshed.seconds:.1f} s)",
        soft_wrap=True,
    )
    for line in refreshed.lines():
        console.print(f"  {line}", markup=False, soft_wrap=True)


@corpus_app.command()
def rebuild(
    source: Annotated[str, typer.Argument()],
    out: Annotated[str, typer.Option(help="The new corpus: a folder or s3://…")],
    corpus: Corpus = None,
) -> None:
    """Make a source anew in another corpus, from the raw files that were kept; it comes out identical."""
    from medllm_ops.refresh.refresh import rebuild as rebuild_source
    from medllm_ops.sources import get_source

    _tell(rebuild_source(get_source(source), _storage(corpus), open_storage(out)))
