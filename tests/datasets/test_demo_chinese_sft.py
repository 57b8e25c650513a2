"""The Chinese demo dialogues: in the formats that are published, with their oddities, and no two alike."""

import csv
import io
import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from medllm_ops.records import Dialogue, Reject
from medllm_ops.sources import get_source, sniff
from medllm_ops.sources.base import Parsed

SHINGLE_CHARACTERS = 5
JACCARD_LIMIT = 0.5
CHARACTER_LIMIT = 130
"""Below 300 of the 450 tokens of a demo training row: a dialogue here has at most 2.2 SmolLM2 tokens a character."""

FILES = {"alpaca": "alpaca_zh.csv", "deepctrl": "deepctrl_zh.jsonl", "disc_medllm": "disc_medllm.jsonl"}
WHO = re.compile(r"谁.*了.+？")
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "include" / "datasets" / "demo" / "sft"


@pytest.fixture(scope="module")
def parsed(folder: Path) -> dict[str, list[Parsed]]:
    return {name: list(get_source(name).parse(folder / file)) for name, file in FILES.items()}


@pytest.fixture(scope="module")
def dialogues(parsed: dict[str, list[Parsed]]) -> dict[str, list[Dialogue]]:
    return {name: [item for item in items if isinstance(item, Dialogue)] for name, items in parsed.items()}


@pytest.fixture(scope="module")
def table(folder: Path) -> list[dict[str, str]]:
    text = (folder / FILES["alpaca"]).read_bytes().decode("gb18030")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _text(dialogue: Dialogue) -> str:
    return "\n".join(message.content for message in dialogue.messages)


def _shingles(text: str) -> frozenset[str]:
    return frozenset(text[at : at + SHINGLE_CHARACTERS] for at in range(max(1, len(text) - SHINGLE_CHARACTERS + 1)))


def _alike(texts: list[str]) -> list[tuple[str, str, float]]:
    found = []
    for (one, left), (other, right) in combinations([(text, _shingles(text)) for text in dict.fromkeys(texts)], 2):
        common = len(left & right)
        share = common / (len(left) + len(right) - common)
        if share > JACCARD_LIMIT:
            found.append((one, other, round(share, 2)))
    return found


def _rejects(items: list[Parsed]) -> list[tuple[str, str]]:
    return [(item.position, item.reason) for item in items if isinstance(item, Reject)]


def test_each_file_is_recognised_by_what_its_rows_look_like(folder: Path) -> None:
    recognised = {file: sniff(folder / file) for file in FILES.values()}
    assert {file: source and source.name for file, source in recognised.items()} == {
        file: name for name, file in FILES.items()
    }


def test_only_the_planted_rows_are_rejected(parsed: dict[str, list[Parsed]]) -> None:
    assert {name: _rejects(items) for name, items in parsed.items()} == {
        "alpaca": [],
        "deepctrl": [("line 21", "not JSON")],
        "disc_medllm": [("line 13", "ends on the user's turn"), ("line 26", "empty turn")],
    }


def test_there_is_enough_to_learn_from_and_all_of_it_is_chinese(dialogues: dict[str, list[Dialogue]]) -> None:
    ids = {name: {dialogue.id for dialogue in found} for name, found in dialogues.items()}
    assert len(ids["alpaca"]) >= 60
    assert len(ids["deepctrl"]) >= 36
    assert len(ids["disc_medllm"]) >= 38
    every = [dialogue for found in dialogues.values() for dialogue in found]
    assert {dialogue.language for dialogue in every} == {"zh"}
    assert [dialogue.id for dialogue in every if not HAN.search(dialogue.messages[0].content)] == []


def test_no_two_dialogues_are_alike(dialogues: dict[str, list[Dialogue]]) -> None:
    texts = [_text(dialogue) for found in dialogues.values() for dialogue in found]
    assert len(texts) > 130
    assert _alike(texts) == []


def test_the_measure_sees_a_dialogue_with_two_characters_changed(dialogues: dict[str, list[Dialogue]]) -> None:
    text = max((_text(dialogue) for dialogue in dialogues["disc_medllm"]), key=len)
    assert _alike([text, f"{text[:9]}某某{text[11:]}"])


def test_no_question_is_asked_twice(dialogues: dict[str, list[Dialogue]]) -> None:
    asked = {dialogue.id: dialogue.messages[-2].content for found in dialogues.values() for dialogue in found}
    assert [question for question, times in Counter(asked.values()).items() if times > 1] == []


def test_every_dialogue_fits_a_training_row(dialogues: dict[str, list[Dialogue]]) -> None:
    lengths = {dialogue.id: len(_text(dialogue)) for found in dialogues.values() for dialogue in found}
    assert {id_: length for id_, length in lengths.items() if length > CHARACTER_LIMIT} == {}


def test_the_table_is_in_the_encoding_of_a_chinese_spreadsheet(folder: Path) -> None:
    raw = (folder / FILES["alpaca"]).read_bytes()
    with pytest.raises(UnicodeDecodeError):
        raw.decode("utf-8")
    assert raw.decode("gbk") == raw.decode("gb18030")


def test_the_table_has_its_oddities(table: list[dict[str, str]], dialogues: dict[str, list[Dialogue]]) -> None:
    assert set(table[0]) == {"instruction", "input", "output"}
    times = Counter(tuple(row.values()) for row in table)
    assert sorted(times.values())[-2:] == [1, 2], "exactly one row comes twice"
    assert sum(any("\n" in value for value in row.values()) for row in table) == 2
    labelled = [row for row in table if row["input"].startswith("输入：")]
    assert len(labelled) == 3
    questions = [dialogue.messages[0].content for dialogue in dialogues["alpaca"]]
    for row in labelled:
        assert f"{row['instruction']}\n{row['input'].removeprefix('输入：')}" in questions
    assert len(questions) == len(table) == len(times) + 1


def test_questions_shaped_like_who_made_you_have_answers_that_are_other_people(table: list[dict[str, str]]) -> None:
    who = [row for row in table if WHO.fullmatch(row["instruction"])]
    assert len(who) >= 14
    assert len({row["output"] for row in who}) == len(who)
    assert [row for row in who if re.search("[我你您]", row["instruction"] + row["output"])] == []


def test_the_deepctrl_rows_have_their_oddities(folder: Path, dialogues: dict[str, list[Dialogue]]) -> None:
    lines = (folder / FILES["deepctrl"]).read_text("utf-8").splitlines()
    rows = [json.loads(line) for number, line in enumerate(lines, start=1) if number != 21]
    assert {row["instruction"] for row in rows} == {""}
    assert {row["language"] for row in rows} == {"chinese"}
    assert len({row["id"] for row in rows}) == len(rows)
    assert sum(bool(row["history"]) for row in rows) >= 3
    for row in rows:
        counted = (len(row["input"]), len(row["output"]), 1 + len(row["history"]))
        assert (row["input_len"], row["output_len"], row["num_utter"]) == counted
    assert [len(dialogue.messages) for dialogue in dialogues["deepctrl"]] == [2 * row["num_utter"] for row in rows]
    assert {dialogue.id for dialogue in dialogues["deepctrl"]} == {f"deepctrl:zh-{row['id']}" for row in rows}


def test_the_doctor_talks_once_or_twice_and_not_long(dialogues: dict[str, list[Dialogue]]) -> None:
    found = dialogues["disc_medllm"]
    assert Counter(len(dialogue.messages) for dialogue in found).keys() == {2, 4}
    assert len({dialogue.id for dialogue in found}) == len(found)
    for dialogue in found:
        assert 25 <= len(dialogue.messages[1].content) <= 70, dialogue.id
