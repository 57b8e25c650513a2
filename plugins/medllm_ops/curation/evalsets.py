"""Evaluation sets as their authors publish them: csv, jsonl, json and plain text, with the usual names of fields."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import orjson

from medllm_ops.errors import UnreadableFileError

Field: TypeAlias = Literal["question", "options", "answer", "context"]
FIELDS: Final[tuple[Field, ...]] = ("question", "options", "answer", "context")

# In lower case, with single underscores.
_NAMES: Final[dict[Field, tuple[str, ...]]] = {
    "question": (
        "question", "query", "prompt", "problem", "stem", "instruction", "input", "text", "content", "sentence",
        "ctx", "题目", "问题", "题干",
    ),
    "options": (
        "options", "option", "choices", "endings", "a", "b", "c", "d", "e", "f", "g", "opa", "opb", "opc", "opd",
        "ope", "选项",
    ),
    "answer": (
        "answer", "answers", "long_answer", "output", "response", "target", "solution", "rationale", "exp",
        "explanation", "reference", "答案", "解析",
    ),
    "context": ("context", "contexts", "passage", "article", "document", "background", "abstract", "材料"),
}  # fmt: skip
_FIELD_OF: Final[dict[str, Field]] = {name: field for field, names in _NAMES.items() for name in names}
_ID_NAMES: Final = ("id", "pubid", "pmid", "qid", "question_id", "uid", "idx", "")
# Chapters of PubMedQA's contexts and the like: text in lists or mappings is taken, but not these.
_NO_TEXT: Final = ("label", "labels", "meshes", "meta_info", "answer_idx")
_PARAGRAPHS: Final = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True)
class Item:
    """A question of an evaluation set: where it stands, and its texts by field."""

    file: str
    name: str
    """Its own id, or ``line 7``, ``row 7``, ``item 7``, ``paragraph 7``."""
    texts: tuple[tuple[Field, str], ...]


def read_items(path: Path) -> Iterator[Item]:
    """The items of an evaluation set.

    By the end of its name, a file is csv (with a head, or MMLU's columns without one), tsv, jsonl, json (a list, a
    mapping of ids to items, or one item), or text whose paragraphs are items.

    :raises UnreadableFileError: if it is missing, not of its format, or an item has no field that we know.
    """
    if not path.is_file():
        raise UnreadableFileError(path, "the evaluation set is missing")
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _json_lines, ".json": _json, ".txt": _paragraphs}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UnreadableFileError(path, f"an evaluation set is one of {', '.join(readers)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(path, f"the evaluation set is not UTF-8 ({error.reason})") from error
    found = False
    for name, values in reader(path, text):
        found = True
        yield _item(path, name, values)
    if not found:
        raise UnreadableFileError(path, "the evaluation set has no items")


def _csv(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        lines = [row for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UnreadableFileError(path, f"line {rows.line_num} is no csv ({error})") from error
    if not lines:
        return
    head = [_plain(cell) for cell in lines[0]]
    if not any(_FIELD_OF.get(name) == "question" for name in head):
        # MMLU: question, four options, the letter of the answer.
        head = ["question", *[chr(ord("a") + number) for number in range(len(lines[0]) - 2)], "answer"]
        lines = [[], *lines]
    for number, row in enumerate(lines[1:], start=1):
        yield f"row {number}", dict(zip(head, row, strict=False))


def _json_lines(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", _loads(path, line, f"line {number}")


def _json(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    value = _loads(path, text, "it")
    if isinstance(value, Mapping) and not any(_FIELD_OF.get(_plain(name)) == "question" for name in value):
        lists = [one for one in value.values() if isinstance(one, list)]
        if len(lists) == 1:
            value = lists[0]
        else:
            yield from value.items()
            return
    for number, item in enumerate(value if isinstance(value, list) else [value], start=1):
        yield f"item {number}", item


def _paragraphs(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    paragraphs = [part for part in _PARAGRAPHS.split(text) if part.strip()]
    for number, paragraph in enumerate(paragraphs, start=1):
        yield f"paragraph {number}", {"text": paragraph}


def _loads(path: Path, text: str, where: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UnreadableFileError(path, f"{where} is no JSON ({error})") from error


def _item(path: Path, name: str, values: Any) -> Item:
    if isinstance(values, str):
        values = {"text": values}
    if not isinstance(values, Mapping):
        raise UnreadableFileError(path, f"{name} is no item but {type(values).__name__}")
    fields = {_plain(key): value for key, value in values.items()}
    for key in _ID_NAMES:
        if isinstance(fields.get(key), (str, int)) and str(fields[key]).strip():
            name = str(fields[key])
            break
    texts = [(_FIELD_OF[key], text) for key, value in fields.items() if key in _FIELD_OF for text in _texts(value)]
    if "messages" in fields:
        texts += [("question", text) for turn in fields["messages"] for text in _texts(turn)]
    if not texts:
        known = ", ".join(_NAMES["question"][:6])
        raise UnreadableFileError(path, f"{name} has no field that we know ({known}, …), but {', '.join(fields)}")
    return Item(path.name, name, tuple(texts))


def _plain(name: object) -> str:
    return re.sub(r"[\s_-]+", "_", str(name).strip().lower())


def _texts(value: Any) -> Iterator[str]:
    """All texts of a value, whatever it is."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            if _plain(key) not in (*_NO_TEXT, "role"):
                yield from _texts(one)
    elif isinstance(value, Sequence):
        for one in value:
            yield from _texts(one)
