"""What curation does to one record of a file: the logic of ``medllm-ops curate explain``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm_ops.curation.clean import explain as explain_cleaning
from medllm_ops.curation.lines import Fault, read_line
from medllm_ops.curation.parts import lines_of
from medllm_ops.curation.prepare import by_name
from medllm_ops.curation.scrub import scrub_for_review
from medllm_ops.curation.segment import READ, RETRACTED
from medllm_ops.curation.settings import CurationSettings
from medllm_ops.curation.shown import shown
from medllm_ops.curation.write.index import forms
from medllm_ops.errors import MedllmError, UnreadableFileError
from medllm_ops.files import read_json_lines, to_json_line


@dataclass(frozen=True, slots=True)
class Story:
    """What becomes of one line: where it stands, what it says, what is done to it, and what is left.

    No text of it holds personal data: they are marked in what is shown of the line before, too.
    """

    place: str
    before: Sequence[str]
    told: Sequence[str]
    after: Sequence[str]
    """Empty if it is dropped."""


def explain(record_id: str, files: Sequence[Path], settings: CurationSettings) -> list[Story]:
    """The stories of all lines that have an id.

    :param record_id: as in ``removed.jsonl`` or a dataset; the number of a chunk or a repetition does not matter.
    :raises MedllmError: if no line has it.
    """
    named = by_name(files)
    for name, path in named.items():
        if not path.is_file():
            raise UnreadableFileError(path, f"the rows of {name} are missing")
    stories = []
    for wanted in forms(record_id):
        stories = [
            explain_line(f"{name}, byte {position}", line, settings) for name, position, line in _find(wanted, named)
        ]
        if stories:
            return stories
    raise MedllmError(f"no record {record_id} in {', '.join(map(str, files))}")


def _find(id_: str, named: Mapping[str, Path]) -> Iterator[tuple[str, int, bytes]]:
    quoted = to_json_line(id_).strip()
    for name, path in named.items():
        place, _, position = id_.rpartition(":")
        at = int(position) if place == name and position.isdecimal() else -1
        for begin, line in lines_of({"file": path, "begin": 0, "end": path.stat().st_size}):
            # A line may write an id with escapes: then there is a backslash in it.
            if begin == at or ((quoted in line or b"\\" in line) and read_line(line, Counter())[0].get("id") == id_):
                yield name, begin, line


def explain_line(place: str, line: bytes, settings: CurationSettings) -> Story:
    """The story of one line.

    :param place: where it stands.
    """
    marks: Counter[str] = Counter()
    row, fault = read_line(line, marks)
    if fault:
        return Story(place, [shown(line.decode("utf-8", "replace").rstrip("\n"))], [_dropped(READ, fault)], ())
    told = [f"read: {mark}" for mark in marks]
    before = _texts(row)
    if row["retracted"]:
        return Story(place, before, [*told, _dropped(READ, Fault(RETRACTED))], ())
    if settings.clean.enabled:
        explanation = explain_cleaning(row, settings.clean)
        told += [f"clean: {shown(line)}" for line in explanation.lines()]
        if explanation.outcome.row is None:
            return Story(place, before, told, ())
        row = explanation.outcome.row
    if settings.scrub.enabled:
        outcome, findings = scrub_for_review(row, settings.scrub)
        told += [f"scrub: {one.field}: {one.kind} by {one.rule} ({one.shape}): …{one.context}…" for one in findings]
        if outcome.row is None:
            return Story(place, before, [*told, _dropped("scrub", Fault(outcome.reason, outcome.detail))], ())
        row = outcome.row
    return Story(place, before, told, _texts(row))


def _texts(row: Mapping[str, Any]) -> list[str]:
    texts = [f"{message['role']}: {message['content']}" for message in row["messages"]]
    if "rejected_response" in row:
        texts.append(f"rejected: {row['rejected_response']}")
    return [shown(text) for text in texts]


def _dropped(step: str, fault: Fault) -> str:
    return f"{step}: dropped: {fault.reason}" + (f" ({fault.detail})" if fault.detail else "")


def fate(record_id: str, dataset: Path) -> list[str]:
    """What became of a record in a dataset: a sentence for each of its lines there.

    :raises UnreadableFileError: if the folder is no dataset.
    """
    if not (dataset / "removed.jsonl").is_file():
        raise UnreadableFileError(dataset, "it is no folder that curate made: it has no removed.jsonl")
    for wanted in forms(record_id):
        if told := list(_lines_of(wanted, dataset)):
            return told
    return [f"{record_id}: not in {dataset}"]


def _lines_of(id_: str, dataset: Path) -> Iterator[str]:
    for row in _rows_of(id_, [dataset / "removed.jsonl"]):
        kept = f"; {row['kept']} stands for it" if row.get("kept") else ""
        yield f"{row['id']}: removed by {row['step']}: {row['reason']}{kept}"
    for side in ("train", "val"):
        for row in _rows_of(id_, sorted((dataset / side).glob("*.jsonl"))):
            yield f"{row['id']}: in {side}"


def _rows_of(id_: str, files: Iterable[Path]) -> Iterator[Any]:
    for path in files:
        yield from (row for row in read_json_lines(path) if id_ in forms(row["id"]))
