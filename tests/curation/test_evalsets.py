from pathlib import Path

import pytest

from medllm_ops.curation.evalsets import read_items
from medllm_ops.errors import UnreadableFileError

SETS = Path(__file__).parent / "evalsets"


def test_mmlu_has_no_head() -> None:
    items = list(read_items(SETS / "mmlu_like.csv"))
    assert [item.name for item in items] == ["row 1", "row 2", "row 3"]
    assert items[1].texts[0][0] == "question"
    assert items[1].texts[0][1].startswith("A nurse counts")
    assert items[1].texts[1:] == (
        ("options", "Three"), ("options", "Four"), ("options", "Five"), ("options", "Six"), ("answer", "C"),
    )  # fmt: skip


def test_cmmlu_has_a_head_and_numbers() -> None:
    items = list(read_items(SETS / "cmmlu_like.csv"))
    assert [item.name for item in items] == ["0", "1", "2"]
    assert [field for field, _ in items[0].texts] == ["question", *["options"] * 4, "answer"]


def test_medqa_has_options_by_letter() -> None:
    first, second = read_items(SETS / "medqa_like.jsonl")
    assert (first.file, first.name) == ("medqa_like.jsonl", "line 1")
    assert [field for field, _ in first.texts] == ["question", "answer", *["options"] * 4]
    assert ("options", "Close the tower") in first.texts
    assert len(second.texts) == 3


def test_pubmedqa_is_a_mapping_of_ids() -> None:
    (item,) = read_items(SETS / "pubmedqa_like.json")
    assert item.name == "90000001"
    assert [field for field, _ in item.texts] == ["question", "context", "context", "answer"]


def test_paragraphs_of_a_text_are_items() -> None:
    items = list(read_items(SETS / "plain.txt"))
    assert [item.name for item in items] == ["paragraph 1", "paragraph 2"]


@pytest.mark.parametrize(
    ("name", "content", "fields"),
    [
        ("a.jsonl", '{"pubid": 7, "question": "q", "context": {"contexts": ["c"], "labels": ["L"]}, "answer": "l"}',
         ["question", "context", "answer"]),
        ("a.jsonl", '{"question": "q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "A"}',
         ["question", "options", "options"]),
        ("a.jsonl", '{"question": "q", "opa": "x", "cop": 1, "exp": null}', ["question", "options"]),
        ("a.jsonl", '{"question": "q", "option": {"A": "x"}, "answer": "A", "explanation": "e"}',
         ["question", "options", "answer", "answer"]),
        ("a.json", '[{"instruction": "i", "input": "", "output": "o"}]', ["question", "answer"]),
        ("a.json", '{"version": "1", "data": [{"题目": "q", "答案": "a"}]}', ["question", "answer"]),
        ("a.json", '{"question": "q"}', ["question"]),
        ("a.json", '["one question"]', ["question"]),
        ("a.jsonl", '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}',
         ["question", "question"]),
        ("a.tsv", "Question\tAnswer\nq\ta\n", ["question", "answer"]),
        ("a.csv", "\ufeffquestion,answer\n\"q, and\nmore\",a\n", ["question", "answer"]),
    ],
)  # fmt: skip
def test_usual_shapes(tmp_path: Path, name: str, content: str, fields: list[str]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    (item,) = read_items(tmp_path / name)
    assert [field for field, _ in item.texts] == fields


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"question": "q"}\n{', "a.jsonl: line 2 is no JSON"),
        ("a.jsonl", b'{"foo": "q", "bar": "a"}', r"line 1 has no field that we know \(question, .*but foo, bar"),
        ("a.jsonl", b"7", "line 1 is no item but int"),
        ("a.jsonl", b"\n", "the evaluation set has no items"),
        ("a.csv", b"", "the evaluation set has no items"),
        ("a.json", b"[", "it is no JSON"),
        ("a.parquet", b"", r"an evaluation set is one of .csv, .tsv, .jsonl, .json, .txt"),
        ("a.txt", b"\xff\xfe\x00", "is not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableFileError, match=message):
        list(read_items(tmp_path / name))
    with pytest.raises(UnreadableFileError, match="the evaluation set is missing"):
        list(read_items(tmp_path / "none.csv"))
