"""``medllm-ops curate explain``: what curation does to one record, of files or of the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from medllm_ops.curation.cli import Settings

console = Console(highlight=False, markup=False)


def explain_record(
    record_id: Annotated[str, typer.Argument(metavar="ID", help="As in removed.jsonl or in a dataset.")],
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE…", help="Records as `convert` writes them; else the corpus.")
    ] = None,
    settings: Settings = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="DIR", help="What became of it there: a folder that `curate` made, or a name.")
    ] = None,
    corpus: Annotated[
        str | None, typer.Option("--corpus", envvar="MEDLLM_CORPUS", help="MEDLLM_HOME/corpus by default.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Of the corpus: a number or a tag; the latest by default.")
    ] = None,
) -> None:
    """Show a record before and after, and which rule did what. Personal data are shown as marks."""
    from medllm_ops.curation.explain import Story, explain, explain_line, fate
    from medllm_ops.curation.settings import read_settings
    from medllm_ops.curation.write.index import forms

    chosen = read_settings(settings)
    stories: list[Story]
    if files:
        stories = explain(record_id, files, chosen)
    else:
        place, line = _of_corpus(forms(record_id), corpus, version)
        stories = [explain_line(place, line, chosen)]
    for story in stories:
        _print(f"{record_id} in {story.place}")
        for title, lines in (("before", story.before), ("what was done", story.told), ("after", story.after)):
            _print(f"\n{title}" if lines else f"\n{title}: nothing is left")
            for text in lines:
                _print("    " + text.replace("\n", "\n    "))
        _print("")
    for sentence in fate(record_id, _folder(dataset)) if dataset else ():
        _print(sentence)


def _of_corpus(ids: Sequence[str], corpus: str | None, version: str | None) -> tuple[str, bytes]:
    """Where the first of these ids that the corpus has stands, and its line.

    :raises MedllmError: if there is none of them, or the record was deleted.
    """
    from medllm_ops.corpus.manifest import CorpusError
    from medllm_ops.corpus.reader import open_corpus
    from medllm_ops.corpus.schema import to_line
    from medllm_ops.errors import MedllmError

    snapshot = open_corpus(corpus, version)
    where = f"corpus {snapshot.storage.url}, version {snapshot.version}"
    for id_ in ids:
        try:
            source, row = snapshot.get(id_)
        except CorpusError:
            continue
        if row["deleted"] is not None:
            raise MedllmError(f"{id_} is gone from {where}: {row['deleted']}")
        return where, to_line(row, source)
    raise MedllmError(f"{where}, has no record {' or '.join(ids)}: name the files that it stands in")


def _folder(dataset: str) -> Path:
    from medllm_ops.datasets.store import dataset_of

    return Path(dataset) if Path(dataset).is_dir() else dataset_of(dataset)


def _print(text: str) -> None:
    console.print(text, soft_wrap=True)
