import pytest

from medllm_ops.sources.dialogues import build_dialogue, build_messages, content_id, is_blank, language_of
from medllm_ops.sources.row import RowError

QUESTION, ANSWER = ("user", "What helps?"), ("assistant", "Rest.")


def reason(turns: list[tuple[str, str]], system: str = "") -> str:
    with pytest.raises(RowError) as error:
        build_messages(turns, system)
    return error.value.reason


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([], "no turns"),
        ([("system", "s")], "no turns"),
        ([QUESTION], "ends on the user's turn"),
        ([QUESTION, ANSWER, QUESTION], "ends on the user's turn"),
        ([ANSWER], "does not begin with the user"),
        ([QUESTION, ANSWER, ANSWER], "roles do not alternate"),
        ([QUESTION, QUESTION, ANSWER], "roles do not alternate"),
        ([QUESTION, ("system", "s"), ANSWER], "roles do not alternate"),
        ([("system", "s"), ("system", "s"), QUESTION, ANSWER], "does not begin with the user"),
        ([("user", " \n"), ANSWER], "empty turn"),
        ([QUESTION, ("assistant", "\u200b\ufeff ")], "empty turn"),
        ([QUESTION, ("tool", "x")], "unknown role"),
        ([("user", "<img>a.png</img> what is it?"), ANSWER], "multimodal row"),
        ([("user", "<image>?"), ANSWER], "multimodal row"),
        ([QUESTION, ("assistant", "I am {{NAME}}.")], "unfilled placeholder"),
    ],
)
def test_what_is_no_dialogue(turns: list[tuple[str, str]], expected: str) -> None:
    assert reason(turns) == expected


def test_roles_of_other_formats_and_an_empty_system_turn() -> None:
    messages = build_messages([("system", ""), ("Human", "a"), ("gpt", "b"), ("user", "c"), ("assistant", "d")], " ")
    assert [(m.role, m.content) for m in messages] == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d"),
    ]


def test_text_is_kept_as_it_is() -> None:
    text = ' &lt;b&gt; <img src="x.gif"> BP &gt; 140\r\n  '
    assert build_messages([("user", text), ANSWER], "system\ttext")[1].content == text


def test_ids_are_made_of_the_content_alone() -> None:
    first = build_dialogue("alpaca", [QUESTION, ANSWER])
    assert first.id == build_dialogue("alpaca", [QUESTION, ANSWER]).id
    assert first.id != build_dialogue("alpaca", [QUESTION, ANSWER], system="s").id
    assert first.id != build_dialogue("alpaca", [QUESTION, ("assistant", "Rest")]).id
    # Frozen: an id that changes with a release would move records between train and validation.
    assert content_id("docx", "text") == "docx:989e9eb40de369b5"
    assert build_dialogue("alpaca", [QUESTION, ANSWER], identifier="alpaca:7").id == "alpaca:7"


@pytest.mark.parametrize(
    ("text", "named", "expected"),
    [
        ("阿司匹林 (aspirin) 每日一次", None, "zh"),
        ("Take aspirin once a day (阿司匹林)", None, "en"),
        ("123", None, "en"),
        ("no Chinese at all", "Chinese", "zh"),
        ("中文", "english", "en"),
        ("中文", "klingon", "zh"),
        ("中文", 7, "zh"),
    ],
)
def test_language(text: str, named: object, expected: str) -> None:
    assert language_of([text], named) == expected


def test_blank() -> None:
    assert is_blank("\u3000\u00a0\u200b\n")
    assert not is_blank("。")
