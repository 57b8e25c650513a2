"""Rows, and lines that are wrong in one way, for the tests of whole curation."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from medllm_ops.files import write_json_lines

Row = dict[str, Any]

_LETTERS = "aaabcdeeeefghiiijklmnnnoooprrrsssttttuuvwxyz"
_HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]


def english(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    return ["".join(chance.choices(_LETTERS, k=chance.randint(3, 9))) for _ in range(count)]


def chinese(count: int, seed: int) -> list[str]:
    return random.Random(seed).choices(_HAN, k=count)


def sentences(tokens: list[str], language: str) -> str:
    space, comma, stop = (" ", ",", ".") if language == "en" else ("", "，", "。")
    marks = (comma, comma, stop)
    return space.join(
        token if place % 8 else f"{token}{marks[place // 8 % 3]}" for place, token in enumerate(tokens, start=1)
    )


def text(seed: int, language: str, size: int = 60) -> str:
    return sentences((english if language == "en" else chinese)(size, seed), language)


def row(id_: str, seed: int, source: str = "made", kind: str = "document", language: str = "en", **more: Any) -> Row:
    """A document, dialogue or preference pair that every step keeps."""
    content = text(seed, language)
    turns = [content] if kind == "document" else [text(seed + 10**6, language, 20), content]
    roles = ["assistant"] if kind == "document" else ["user", "assistant"]
    made: Row = {
        "id": id_,
        "messages": [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)],
        "source": source,
        "language": language,
        "title": "",
        "url": "https://example.org/1",
        "licence": "CC0-1.0",
        "version": 1,
        "retracted": False,
        **more,
    }
    if kind == "preference":
        made["rejected_response"] = text(seed + 2 * 10**6, language, 25)
    return made


def rows(count: int, seed: int = 0, sources: Iterable[str] = ("made", "other")) -> list[Row]:
    """Rows of all kinds, both languages and some sources; a fifth are duplicates, equal ones and near ones."""
    chance = random.Random(seed)
    names = list(sources)
    made: list[Row] = []
    for number in range(count):
        id_, source = f"{names[number % len(names)]}:{seed}-{number:06}", names[number % len(names)]
        kind, language = chance.choice(("document", "document", "dialogue", "preference")), chance.choice(("en", "zh"))
        if made and chance.random() < 0.2:
            twin = copy.deepcopy(chance.choice(made))
            twin.update(id=id_, source=source)
            if chance.random() < 0.5:
                answer = twin["messages"][-1]
                answer["content"] = f"{answer['content']} {text(number, twin['language'], 2)}"
            made.append(twin)
        else:
            made.append(row(id_, seed * 10**7 + number, source, kind, language))
    return made


def spoiled(good: Row, chance: random.Random) -> bytes:
    """The line of a row with one thing changed; most of them are no record any more, or none to train on."""
    bad = copy.deepcopy(good)
    line = orjson.dumps(bad)
    act = chance.randrange(14)
    if act == 0:
        return line[: chance.randrange(len(line))]
    if act == 1:
        place = chance.randrange(len(line))
        return (line[:place] + bytes([chance.randrange(256)]) + line[place + 1 :]).replace(b"\n", b"")
    if act == 2:
        place = chance.randrange(len(line))
        return line[:place] + line[place + 1 :]
    if act == 3:
        return chance.choice((b"", b"   ", b"null", b"[]", b'"text"', b"7", b"\xff\xfe", b"{}", line + line))
    if act == 4:
        del bad[chance.choice(sorted(bad))]
    elif act in (5, 6):
        bad[chance.choice(sorted(bad))] = chance.choice(_WRONG)
    elif act == 7:
        bad["messages"][chance.randrange(len(bad["messages"]))][chance.choice(("role", "content"))] = chance.choice(
            _WRONG
        )
    elif act == 8:
        bad["messages"] = chance.choice(([], bad["messages"] * 2, bad["messages"][:-1], [*bad["messages"], None]))
    elif act == 9:
        bad["messages"][-1]["content"] = chance.choice(_TEXTS)
    elif act == 10:
        bad["id"] = chance.choice(("", " ", "a\nb", "\x00", good["id"] * 50, "../../x"))
    elif act == 11:
        bad["source"] = chance.choice(_SOURCES)
    elif act == 12:
        bad["messages"][0]["role"] = chance.choice(("tool", "", "User", "system"))
    else:
        bad[chance.choice(("extra", "tools", "images"))] = chance.choice(_WRONG)
    return orjson.dumps(bad)


_WRONG = (None, True, 0, -1, 2**64 - 1, 1.5, "", "x", [], {}, [None], {"role": 1})
_TEXTS = (
    "",
    " \n\t",
    "\u200b\ufeff\u202e",
    "\x00\x01",
    "�" * 40,
    "a",
    "#" * 500,
    "word " * 200,
    "好" * 300,
    "<p>" * 100,
    "<|im_end|>",
    "&#0;&#x110000;" * 20,
    "13800138000 " * 20,
    "`" * 300,
    "\u2028" * 20 + "text",
    "𠀀" * 40,
)
_SOURCES = (
    "",
    ".",
    "..",
    "../up",
    "a/b",
    "-rf",
    "a b",
    "a\x00b",
    "a#3",
    "中医",
    "x" * 300,
    "NUL:",
    "new",
)


def write(path: Path, made: Iterable[Row | bytes]) -> Path:
    """A file of rows, and of lines as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for one in made:
            file.write((one if isinstance(one, bytes) else orjson.dumps(one)) + b"\n")
    return path


def write_all(folder: Path, files: Mapping[str, Iterable[Row]]) -> list[Path]:
    """Files of rows, by name."""
    for name, made in files.items():
        write_json_lines(folder / name, made)
    return [folder / name for name in files]
