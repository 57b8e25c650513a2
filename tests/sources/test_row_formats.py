"""Each format of rows: what becomes a record, what a reject."""

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from medllm_ops.records import Dialogue, Document, Preference, Reject
from medllm_ops.sources import alpaca, conversations, deepctrl, disc_medllm, messages, preference, query_response
from medllm_ops.sources.base import Parsed, Source


def parse(tmp_path: Path, source: Source, *rows: Any) -> list[Parsed]:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return list(source.parse(path))


def turns(record: Parsed) -> list[tuple[str, str]]:
    assert isinstance(record, Dialogue | Preference | Document), record
    return [(message.role, message.content) for message in record.messages]


def test_alpaca(tmp_path: Path) -> None:
    found = parse(
        tmp_path,
        alpaca.SOURCE,
        {"instruction": "回答", "input": "输入：什么是感冒？", "output": "答：输入：不变"},
        {"instruction": "Say", "input": None, "output": "a", "system": "s", "history": [["q", "r"]]},
        {"instruction": "", "input": "only input", "output": "a"},
        {"instruction": "输入：kept", "output": "a"},
    )
    assert [turns(record) for record in found] == [
        [("user", "回答\n什么是感冒？"), ("assistant", "答：输入：不变")],
        [("system", "s"), ("user", "q"), ("assistant", "r"), ("user", "Say"), ("assistant", "a")],
        [("user", "only input"), ("assistant", "a")],
        [("user", "输入：kept"), ("assistant", "a")],
    ]
    assert isinstance(found[0], Dialogue)
    assert (found[0].language, found[0].source, found[0].id.count(":")) == ("zh", "alpaca", 1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "", "input": "", "output": "a"}, "empty turn"),
        ({"instruction": "q", "output": " "}, "empty turn"),
        ({"instruction": "q"}, "empty turn"),
        ({"instruction": ["q"], "output": "a"}, "not a string"),
        ({"instruction": "q", "output": 3.3}, "not a string"),
        ({"instruction": "q", "output": True}, "not a string"),
        ({"instruction": "q", "output": "a", "history": "h"}, "not a list"),
        ({"instruction": "q", "output": "a", "history": [["q"]]}, "history is not pairs"),
        ({"instruction": "q", "output": "a", "history": [["q", None]]}, "empty turn"),
        ({"instruction": "q", "output": "a", "images": ["x.png"]}, "multimodal row"),
    ],
)
def test_alpaca_rejects(tmp_path: Path, row: dict, reason: str) -> None:
    (found,) = parse(tmp_path, alpaca.SOURCE, row)
    assert isinstance(found, Reject)
    assert (found.reason, found.position) == (reason, "line 1")
    assert found.excerpt.startswith('{"instruction"')


def test_deepctrl(tmp_path: Path) -> None:
    base = {"instruction": "", "output": "答", "history": [["甲", "乙"]], "num_utter": 2, "type_keyword": ["x"]}
    found = parse(
        tmp_path,
        deepctrl.SOURCE,
        {**base, "id": 1, "input": "问", "language": "chinese"},
        {**base, "id": 1, "input": "q", "output": "a", "language": "english", "history": []},
        {**base, "id": 2, "input": "", "language": "chinese"},
        {**base, "input": "问"},
    )
    assert turns(found[0]) == [("user", "甲"), ("assistant", "乙"), ("user", "问"), ("assistant", "答")]
    assert [item.id for item in found[:3]] == ["deepctrl:zh-1", "deepctrl:en-1", "deepctrl:zh-2"]
    assert isinstance(found[2], Reject)
    assert found[2].reason == "empty turn"
    assert found[3].id is not None
    assert len(found[3].id) == len("deepctrl:") + 16


def test_disc_medllm(tmp_path: Path) -> None:
    turn = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]
    found = parse(
        tmp_path,
        disc_medllm.SOURCE,
        {"_id": "01-7", "source": "meddial", "conversation": turn},
        {"_id": "01-8", "source": "meddial", "conversation": [*turn, turn[0]]},
        {"_id": "01-9", "conversation": [{"role": "user", "content": ["问"]}, turn[1]]},
        {"_id": "01-10", "conversation": ["问", "答"]},
        {"conversation": turn},
    )
    assert turns(found[0]) == [("user", "问"), ("assistant", "答")]
    assert [item.id for item in found[:4]] == [f"disc_medllm:01-{n}" for n in (7, 8, 9, 10)]
    reasons = [item.reason for item in found if isinstance(item, Reject)]
    assert reasons == ["ends on the user's turn", "not a string", "not an object"]
    assert isinstance(found[4], Dialogue)


def test_messages(tmp_path: Path) -> None:
    dialogue = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    found = parse(
        tmp_path,
        messages.SOURCE,
        {"messages": [{"role": "system", "content": "s"}, *dialogue]},
        {"messages": [{"role": "assistant", "content": "A text to read."}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "?"}]},
                dialogue[1],
            ]
        },
        {"messages": "q"},
        {"messages": dialogue, "videos": ["v.mp4"]},
        {"messages": dialogue, "images": []},
    )
    assert turns(found[0]) == [("system", "s"), ("user", "q"), ("assistant", "a")]
    assert isinstance(found[1], Document)
    assert [item.reason for item in found if isinstance(item, Reject)] == [
        "multimodal row",
        "not a list",
        "multimodal row",
    ]
    assert isinstance(found[5], Dialogue)


def test_conversations_in_both_shapes(tmp_path: Path) -> None:
    found = parse(
        tmp_path,
        conversations.SOURCE,
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"system": "s", "conversation": [{"human": "q", "assistant": "a"}, {"human": "r", "assistant": "b"}]},
        {"conversations": [{"from": "human", "value": ""}, {"from": "gpt", "value": "a"}]},
        {"conversations": []},
        {"conversation": [["q", "a"]]},
        {"other": "format"},
    )
    assert turns(found[0]) == [("user", "q"), ("assistant", "a")]
    assert turns(found[1])[0] == ("system", "s")
    assert len(turns(found[1])) == 5
    reasons = [item.reason for item in found if isinstance(item, Reject)]
    assert reasons == ["empty turn", "no turns", "not an object", "no turns"]


def test_query_response(tmp_path: Path) -> None:
    found = parse(
        tmp_path,
        query_response.SOURCE,
        {"system": "s", "query": "q", "response": "a", "history": [["b", "c"]]},
        {"response": "一段预训练文本。"},
        {"query": "", "response": "a"},
        {"query": "你是谁？", "response": "我是{{NAME}}。", "tag": "zh"},
        {"response": None},
    )
    assert turns(found[0]) == [("system", "s"), ("user", "b"), ("assistant", "c"), ("user", "q"), ("assistant", "a")]
    assert isinstance(found[1], Document)
    assert (found[1].text, found[1].language) == ("一段预训练文本。", "zh")
    reasons = [item.reason for item in found if isinstance(item, Reject)]
    assert reasons == ["empty turn", "unfilled placeholder", "empty turn"]


def test_preference_in_each_shape(tmp_path: Path) -> None:
    human = {"conversations": [{"from": "human", "value": "q"}]}
    dialogue = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}]
    found = parse(
        tmp_path,
        preference.SOURCE,
        {**human, "chosen": "good", "rejected": "bad"},
        {"messages": dialogue, "rejected_response": "bad"},
        {"query": "q", "response": "good", "rejected_response": "bad"},
        {**human, "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"}},
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"question": "q", "chosen": "good", "rejected": "bad"},
        {"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"},
        {**human, "chosen": "the same", "rejected": " the\tsame\n"},
        {**human, "chosen": "good", "rejected": ""},
        {**human, "chosen": "", "rejected": "bad"},
        {**human, "chosen": "good", "rejected": ["bad"]},
        {"messages": dialogue[:1], "rejected_response": "bad"},
    )
    for record in found[:7]:
        assert isinstance(record, Preference)
        assert turns(record) == [("user", "q"), ("assistant", "good")]
        assert record.rejected_response == "bad"
    assert len({record.id for record in found[:7]}) == 1
    assert [item.reason for item in found[7:] if isinstance(item, Reject)] == [
        "answers are equal",
        "empty turn",
        "empty turn",
        "not a string",
        "ends on the user's turn",
    ]


def test_equal_rows_have_equal_ids_in_any_file(tmp_path: Path) -> None:
    row = {"query": "q", "response": "a"}
    first, second = parse(tmp_path, query_response.SOURCE, row, {**row, "extra": 1})
    assert first.id == second.id
    assert not query_response.SOURCE.publisher_ids


SAMPLES: tuple[tuple[str, Source, int, dict[str, int]], ...] = (
    ("disc_medllm_test_examples.jsonl", disc_medllm.SOURCE, 160, {"ends on the user's turn": 3}),
    ("dpo_zh_500.jsonl", preference.SOURCE, 500, {}),
    ("medical_sft_1K_format.jsonl", conversations.SOURCE, 1000, {}),
    ("sft_data_zh_2rows.jsonl", deepctrl.SOURCE, 2, {}),
    ("formats/alpaca.csv", alpaca.SOURCE, 3, {}),
    ("formats/alpaca2.csv", alpaca.SOURCE, 3, {}),
    ("formats/alpaca.jsonl", alpaca.SOURCE, 3, {}),
    ("formats/chatml.jsonl", messages.SOURCE, 3, {}),
    ("formats/conversations.jsonl", conversations.SOURCE, 3, {}),
    ("formats/sharegpt.jsonl", conversations.SOURCE, 3, {}),
    ("formats/multi_modal_1.jsonl", query_response.SOURCE, 1, {"multimodal row": 2}),
    ("formats/multi_modal_2.jsonl", query_response.SOURCE, 0, {"multimodal row": 3}),
    ("formats/multi_modal_3.jsonl", query_response.SOURCE, 0, {"multimodal row": 3}),
    ("formats/swift_multi.json", query_response.SOURCE, 3, {}),
    ("formats/swift_multi.jsonl", query_response.SOURCE, 3, {}),
    ("formats/swift_pre.csv", query_response.SOURCE, 3, {}),
    ("formats/swift_pre.jsonl", query_response.SOURCE, 3, {}),
    ("formats/swift_single.csv", query_response.SOURCE, 3, {}),
    ("formats/swift_single.jsonl", query_response.SOURCE, 3, {}),
)


@pytest.mark.parametrize(("name", "source", "records", "rejects"), SAMPLES, ids=[name for name, *_ in SAMPLES])
def test_real_files(samples: Path, name: str, source: Source, records: int, rejects: dict[str, int]) -> None:
    found = list(source.parse(samples / "sft" / name))
    reasons = Counter(item.reason for item in found if isinstance(item, Reject))
    assert reasons == Counter(rejects)
    assert len(found) - reasons.total() == records
    raw = (samples / "sft" / name).read_bytes()
    rows = len(orjson.loads(raw)) if name.endswith(".json") else len(raw.splitlines()) - name.endswith(".csv")
    assert len(found) == rows
