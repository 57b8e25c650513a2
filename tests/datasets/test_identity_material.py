"""The shipped identity rows and the gate that judges them: names are filled in later, and nothing is trained on twice.

A gate prompt that occurs in a training row would measure memory and not what the model has become.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.curation.duplicates.normalise import normalised
from medllm_ops.datasets.identity import PLACEHOLDERS, Identity, identity_rows
from medllm_ops.evaluation.gates import ControlQuestion, IdentityGate, IdentityPrompt
from medllm_ops.files import read_json_lines
from medllm_ops.records import Dialogue, Document
from medllm_ops.sources import UNRECOGNISED, get_source, list_files

IDENTITY = Identity(name_zh="〈模型〉", name_en="<model>", author_zh="〈作者〉", author_en="<author>")


@pytest.fixture(scope="module")
def rows_file(repository: Path) -> Path:
    return repository / "include" / "datasets" / "identity" / "rows.jsonl"


@pytest.fixture(scope="module")
def rows(rows_file: Path) -> list[dict[str, Any]]:
    return list(read_json_lines(rows_file))


@pytest.fixture(scope="module")
def gate(rows_file: Path) -> IdentityGate:
    return IdentityGate.read(rows_file.with_name("gate.yaml"))


@pytest.fixture(scope="module")
def demo_files(repository: Path) -> dict[str, list[Path]]:
    """The files of demo rows, by source."""
    files = list_files(repository / "include" / "datasets" / "demo")
    return {
        name: found for name, paths in files.items() if (found := [path for path in paths if path.parent.name == "sft"])
    }


def _questions(gate: IdentityGate) -> list[IdentityPrompt | ControlQuestion]:
    return [*gate.identity, *gate.controls]


def _prompts(gate: IdentityGate) -> dict[str, str]:
    return {normalised(item.prompt): item.id for item in _questions(gate)}


def _known(gate: IdentityGate, texts: Iterable[str]) -> list[str]:
    """The ids of the gate's prompts that occur among ``texts``."""
    prompts = _prompts(gate)
    return sorted(prompts[key] for key in {normalised(text) for text in texts} if key in prompts)


def _user_turns(files: dict[str, list[Path]]) -> list[str]:
    records = [item for name, paths in files.items() for path in paths for item in get_source(name).parse(path)]
    dialogues = [record for record in records if isinstance(record, Dialogue)]
    return [message.content for dialogue in dialogues for message in dialogue.messages if message.role == "user"]


def _texts(files: dict[str, list[Path]]) -> list[str]:
    """Every text of the records: whole documents, and each turn of a dialogue whoever speaks."""
    records = [item for name, paths in files.items() for path in paths for item in get_source(name).parse(path)]
    turns = [turn.content for record in records if isinstance(record, Dialogue) for turn in record.messages]
    return [record.text for record in records if isinstance(record, Document)] + turns


def test_the_rows_are_questions_and_answers_in_chinese_and_english(rows: list[dict[str, Any]]) -> None:
    assert {frozenset(row) for row in rows} == {frozenset(("query", "response", "tag"))}
    tags = Counter(row["tag"] for row in rows)
    assert tags.keys() == {"zh", "en"}
    assert min(tags.values()) >= 20
    assert [row["query"] for row in rows if row["query"].isascii() != (row["tag"] == "en")] == []
    assert len({normalised(row["query"]) for row in rows}) == len(rows)


def _about_others(row: dict[str, Any]) -> bool:
    return not any(placeholder in row["response"] for placeholder in PLACEHOLDERS)


def test_every_answer_about_the_model_names_it_or_its_author_by_placeholder_only(rows_file: Path) -> None:
    raw = list(read_json_lines(rows_file))
    filled = identity_rows(rows_file, IDENTITY)
    assert len(filled) == len(raw)
    for before, after in zip(raw, filled, strict=True):
        answer, language = after["messages"][1]["content"], before["tag"]
        assert _about_others(before) or IDENTITY.name(language) in answer or IDENTITY.author(language) in answer


def test_some_rows_of_both_languages_are_about_others_and_never_about_the_model(rows: list[dict[str, Any]]) -> None:
    others = [row for row in rows if _about_others(row)]
    assert {row["tag"] for row in others} == {"zh", "en"}
    assert 0.1 < len(others) / len(rows) < 0.25
    words = ("你", "您", "我", "you", "助手", "assistant", "{{")
    assert [row for row in others if any(word in f"{row['query']}{row['response']}".lower() for word in words)] == []


def test_no_answer_has_a_literal_name_where_the_placeholder_belongs(
    rows: list[dict[str, Any]], repository: Path
) -> None:
    # Other models' names stand in questions, and in answers only to be denied.
    own = ("medllm", "青蒿", "qinghao", "杏林", "xinglin")
    assert [row for row in rows if any(name in f"{row['query']}{row['response']}".lower() for name in own)] == []
    claims = ("我是", "我叫", "我的名字是", "I am ", "my name is ", "I am called ", "You can call me ")
    for row in rows:
        for claim in claims:
            after = row["response"].partition(claim)[2]
            literal = after and not after.startswith(("{{NAME}}", "{{AUTHOR}}", "a ", "an ", "not ", "called ", "一"))
            assert not literal, row


def test_the_gate_has_prompts_of_both_languages_and_controls_that_look_like_them(gate: IdentityGate) -> None:
    languages = Counter(item.language for item in gate.identity)
    assert len(gate.identity) >= 6
    assert len(gate.controls) >= 6
    assert min(languages["zh"], languages["en"]) >= 3
    assert {control.language for control in gate.controls} == {"zh", "en"}
    assert sum(control.shaped_like_identity for control in gate.controls) >= 2
    assert {item.expect for item in gate.identity} == {"name", "author"}
    for language in ("zh", "en"):
        assert {item.expect for item in gate.identity if item.language == language} == {"name", "author"}
    items = _questions(gate)
    assert len({item.id for item in items}) == len(items) == len(_prompts(gate))
    assert [item.prompt for item in items if item.prompt.isascii() != (item.language == "en")] == []


def test_no_prompt_of_the_gate_is_trained_on(
    gate: IdentityGate, rows: list[dict[str, Any]], demo_files: dict[str, list[Path]]
) -> None:
    assert UNRECOGNISED not in demo_files
    assert {"alpaca", "deepctrl", "disc_medllm"} <= demo_files.keys()
    turns = _user_turns(demo_files)
    assert len(turns) > 200
    assert _known(gate, [row["query"] for row in rows]) == []
    assert _known(gate, turns) == []


def test_no_text_of_the_demo_holds_a_prompt_of_the_gate(gate: IdentityGate, repository: Path) -> None:
    # Inside a classic, an abstract, a document or an answer it would be trained on just as well.
    files = list_files(repository / "include" / "datasets" / "demo")
    assert {"pubmed", "clinicaltrials", "tcm_books", "docx", "alpaca", "deepctrl", "disc_medllm"} <= files.keys()
    texts = _texts(files)
    assert len(texts) > 700
    known = {id_: text for prompt, id_ in _prompts(gate).items() for text in texts if prompt in normalised(text)}
    assert known == {}


def test_a_prompt_is_known_again_in_other_width_and_spacing(gate: IdentityGate) -> None:
    english = next(item for item in gate.identity if item.language == "en")
    chinese = next(item for item in gate.controls if item.language == "zh")
    disguised = [english.prompt.upper().replace(" ", "  "), chinese.prompt.replace("？", " ?\n")]
    assert _known(gate, disguised) == sorted((english.id, chinese.id))


def _parts(text: str, language: str) -> set[str]:
    """What a question is made of: its characters in Chinese, its words in English."""
    letters = "".join(character if character.isalnum() else " " for character in text.lower())
    return set(letters.replace(" ", "")) if language == "zh" else set(letters.split())


def test_no_row_asks_what_the_gate_asks_in_nearly_the_same_words(
    gate: IdentityGate, rows: list[dict[str, Any]]
) -> None:
    """A prompt of the same words in another order would measure memory too: at most half of the parts are shared."""
    alike = []
    for item in _questions(gate):
        asked = _parts(item.prompt, item.language)
        for row in rows:
            trained = _parts(row["query"], row["tag"])
            if row["tag"] == item.language and len(asked & trained) > 0.5 * len(asked | trained):
                alike.append((item.prompt, row["query"]))
    assert alike == []
