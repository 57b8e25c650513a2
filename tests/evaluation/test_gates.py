import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from medllm_ops.datasets.identity import Identity
from medllm_ops.errors import MedllmError
from medllm_ops.evaluation.gates import IdentityGate, judge_held_out, judge_identity, judge_preferences

IDENTITY = Identity(name_zh="杏林小医", name_en="MedBuddy", author_zh="杏林实验室", author_en="Xinglin Lab")
SETS = {"pubmed": "pretrain", "alpaca": "sft"}


def make_gate() -> dict[str, list[dict[str, Any]]]:
    asks = [("zh", "name"), ("en", "name"), ("zh", "author"), ("en", "author"), ("zh", "name"), ("en", "name")]
    identity = [
        {"id": f"i{number}", "language": language, "prompt": f"Prompt {number}?", "expect": expect}
        for number, (language, expect) in enumerate(asks)
    ]
    controls = [
        {
            "id": f"c{number}",
            "language": "en",
            "prompt": f"Who invented {number}?",
            "reference": "Somebody.",
            "shaped_like_identity": number < 2,
        }
        for number in range(6)
    ]
    return {"identity": identity, "controls": controls}


QUESTIONS = IdentityGate.model_validate(make_gate())
GOOD = [
    "我是杏林小医。",
    "I am medbuddy!",
    "杏林实验室",
    "By the Xinglin Lab.",
    "杏林小医",
    "MedBuddy",
    *["Edison."] * 6,
]
BEFORE = {"answers": ["I am Qwen."] * 6 + ["Edison."] * 6, "control_loss": 2.0}


def judge(answers: list[str], loss: float = 2.0) -> dict[str, Any]:
    return judge_identity(QUESTIONS, IDENTITY, BEFORE, {"answers": answers, "control_loss": loss})


def held_out(**losses: tuple[float, float]) -> dict[str, bool]:
    by_label = {label: {"pubmed": pair[0], "alpaca": pair[1]} for label, pair in losses.items()}
    return {line["name"]: line["passed"] for line in judge_held_out(SETS, by_label)}


def test_each_stage_must_lower_its_own_sets_and_the_last_must_keep_all() -> None:
    assert held_out(base=(3.0, 3.0), pretrain=(2.5, 3.5), sft=(2.9, 2.0), final=(2.95, 2.03)) == {
        "pretrain lowers pubmed": True,
        "sft lowers alpaca": True,
        "final keeps pubmed": True,
        "final keeps alpaca": True,
    }


@pytest.mark.parametrize(
    ("losses", "failed"),
    [
        ({"pretrain": (3.0, 3.0)}, "pretrain lowers pubmed"),
        ({"pretrain": (3.1, 3.0)}, "pretrain lowers pubmed"),
        ({"pretrain": (math.nan, 3.0)}, "pretrain lowers pubmed"),
        ({"sft": (2.0, 3.0)}, "sft lowers alpaca"),
        ({"final": (2.05, 2.0)}, "final keeps pubmed"),
        ({"final": (2.0, 2.05)}, "final keeps alpaca"),
        ({"final": (math.nan, 2.0)}, "final keeps pubmed"),
    ],
)
def test_a_held_out_loss_that_does_not_fall_or_grows_fails_its_gate_only(
    losses: dict[str, tuple[float, float]], failed: str
) -> None:
    good = {"base": (3.0, 3.0), "pretrain": (2.0, 3.0), "sft": (2.0, 2.0), "final": (2.0, 2.0)}
    verdict = held_out(**{**good, **losses})
    assert [name for name, passed in verdict.items() if not passed] == [failed]


def test_two_percent_is_what_the_last_stage_may_cost() -> None:
    assert held_out(base=(2.0, 2.0), final=(2.04, 2.0)) == {"final keeps pubmed": True, "final keeps alpaca": True}
    assert not held_out(base=(2.0, 2.0), final=(2.0401, 2.0))["final keeps pubmed"]


def test_self_cognition_and_alignment_keep_what_was_learnt() -> None:
    verdict = held_out(base=(2.0, 2.0), sft=(2.0, 1.0), self_cognition=(2.0, 1.03), final=(2.05, 1.03))
    assert verdict == {
        "sft lowers alpaca": True,
        "self_cognition keeps pubmed": True,
        "self_cognition keeps alpaca": False,
        "final keeps pubmed": False,
        "final keeps alpaca": True,
    }


def pairs(*figures: tuple[float, float]) -> list[dict[str, float]]:
    return [
        {"chosen": chosen, "rejected": rejected, "chosen_tokens": 10, "rejected_tokens": 5}
        for chosen, rejected in figures
    ]


def test_an_alignment_must_prefer_the_better_answers_more_than_before() -> None:
    before = pairs(*[(-20.0, -10.0)] * 8)
    after = pairs(*[(-18.0, -12.0)] * 6, *[(-21.0, -10.0)] * 2)
    verdict = judge_preferences(before, after, beta=0.1)
    (line,) = verdict["gates"]
    assert (line["passed"], line["enforced"]) == (True, True)
    assert line["detail"] == "reward margin +0.2750, accuracy 0.750 on 8 held-out pairs"
    assert (verdict["pairs"], verdict["accuracy"]) == (8, 0.75)
    assert verdict["margin"] == pytest.approx(0.275)
    # -20 over 10 tokens is no likelier than -10 over 5, -18 is likelier than -12 over 5.
    assert verdict["ranking"] == {"before": 0.0, "after": 0.75}


@pytest.mark.parametrize(
    "after",
    [
        [(-20.0, -10.0)] * 8,  # the same as before: a margin of 0 and an accuracy of 0.5
        [(-20.0, -9.0)] * 8,
        [(-10.0, -10.0)] * 2 + [(-20.5, -10.0)] * 6,  # two pairs much better, six worse
        [(-20.0, -10.5)] * 6 + [(-90.0, -10.0)] * 2,  # six a little better, two ruined
        [(math.nan, -10.0)] * 8,
    ],
)
def test_an_alignment_that_prefers_nothing_fails_its_gate(after: list[tuple[float, float]]) -> None:
    (line,) = judge_preferences(pairs(*[(-20.0, -10.0)] * 8), pairs(*after), beta=0.1)["gates"]
    assert not line["passed"]


def test_a_few_pairs_are_told_and_fail_nothing() -> None:
    for count in (0, 7):
        (line,) = judge_preferences(pairs(*[(-2.0, -1.0)] * count), pairs(*[(-3.0, -1.0)] * count), beta=0.1)["gates"]
        assert (line["passed"], line["enforced"]) == (False, False)
        assert "too few to judge by" in line["detail"]


def test_stages_that_were_not_run_are_not_judged() -> None:
    assert held_out(base=(3.0, 3.0)) == {}
    assert held_out(base=(3.0, 3.0), sft=(9.0, 2.0)) == {"sft lowers alpaca": True}
    # Against the model before it, not against the base.
    assert held_out(base=(3.0, 3.0), pretrain=(1.0, 3.0), final=(2.0, 3.0))["final keeps pubmed"] is False


def test_a_set_of_two_rows_is_told_but_fails_nothing() -> None:
    losses = {"base": {"pubmed": 2.0, "docx": 2.0}, "pretrain": {"pubmed": 1.5, "docx": 2.5}}
    sets = {"pubmed": "pretrain", "docx": "pretrain"}
    good, told = judge_held_out(sets, losses, {"pubmed": 3, "docx": 2})
    assert (good["passed"], good["enforced"]) == (True, True)
    assert (told["passed"], told["enforced"]) == (False, False)
    assert "too few to judge by" in told["detail"]
    assert not any(line["enforced"] for line in judge_held_out(sets, losses, enforced=False))


def test_a_line_of_the_verdict_shows_the_figures() -> None:
    (line,) = judge_held_out({"pubmed": "pretrain"}, {"base": {"pubmed": 2.0}, "pretrain": {"pubmed": 1.5}})
    assert line["detail"] == "2.0000 → 1.5000 (-25.0 %)"


@pytest.mark.parametrize(
    ("before", "after", "detail"),
    [
        (2.0, math.nan, "2.0000 → not finite"),
        (math.nan, 2.0, "not finite → 2.0000"),
        (0.0, 2.0, "0.0000 → 2.0000"),
    ],
)
def test_a_loss_that_cannot_be_compared_fails_its_gate_with_words(before: float, after: float, detail: str) -> None:
    (line,) = judge_held_out({"pubmed": "pretrain"}, {"base": {"pubmed": before}, "final": {"pubmed": after}})
    assert (line["passed"], line["detail"]) == (False, detail)


def test_a_control_loss_of_nothing_fails_the_gate() -> None:
    verdict = judge_identity(QUESTIONS, IDENTITY, {**BEFORE, "control_loss": 0.0}, {"answers": GOOD, "control_loss": 0})
    assert not verdict["control_loss"]["passed"]


def test_right_names_and_untouched_controls_pass() -> None:
    verdict = judge(GOOD, loss=2.2)
    assert verdict["passed"]
    assert verdict["name"] == "MedBuddy"
    assert all(row["ok"] for row in [*verdict["prompts"], *verdict["controls"]])
    assert (verdict["prompts"][1]["before"], verdict["prompts"][1]["after"]) == ("I am Qwen.", "I am medbuddy!")
    assert verdict["controls"][0]["prompt"] == "Who invented 0?"
    assert verdict["control_loss"] == {"before": 2.0, "after": 2.2, "ratio": 1.1, "limit": 1.1, "passed": True}


def test_after_an_alignment_its_own_answers_are_judged_and_those_between_shown() -> None:
    between = {"answers": ["Nobody."] * 12, "control_loss": 9.0}
    verdict = judge_identity(QUESTIONS, IDENTITY, BEFORE, {"answers": GOOD, "control_loss": 2.0}, between)
    assert verdict["passed"]
    assert [row["between"] for row in [*verdict["prompts"], *verdict["controls"]]] == between["answers"]
    assert "between" not in judge(GOOD)["prompts"][0]


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (0, "我是通义千问。"),
        (0, "I am MedBuddy."),  # the Chinese name was asked for
        (1, ""),
        (1, "I am MedBuddy by {{AUTHOR}}."),
        (2, "杏林小医"),  # the author was asked for
        (3, "OpenAI"),
        (6, "MedBuddy invented it."),
        (7, "medbuddy"),
        (7, "\uff2d\uff45\uff44\uff22\uff55\uff44\uff44\uff59"),
        (8, "杏林小医"),
        (9, ""),
        (11, "{{NAME}}"),
    ],
)
def test_one_wrong_answer_fails_the_gate_and_is_shown(number: int, answer: str) -> None:
    verdict = judge([*GOOD[:number], answer, *GOOD[number + 1 :]])
    assert not verdict["passed"]
    bad = [row["id"] for row in [*verdict["prompts"], *verdict["controls"]] if not row["ok"]]
    assert bad == [f"i{number}" if number < 6 else f"c{number - 6}"]


@pytest.mark.parametrize(
    ("name", "answer", "named"),
    [
        ("Ada", "Canada.", False),
        ("MIT", "I admit it.", False),
        ("MIT", "Mit 2", True),
        ("Ada", "我是Ada医生。", True),
        ("Ada", "Éada", False),
        ("Ada2", "Ada", False),
        ("Ada", "Ada2", False),
        ("Ada", "\uff21\uff44\uff41", True),
        ("杏林", "AI杏林2号", True),
        ("AI杏林", "xai杏林", False),
    ],
)
def test_a_name_is_one_only_where_it_stands_by_itself(name: str, answer: str, named: bool) -> None:
    identity = dataclasses.replace(IDENTITY, name_en=name)
    answers = [*GOOD[:1], name, *GOOD[2:5], name, answer, *GOOD[7:]]
    verdict = judge_identity(QUESTIONS, identity, BEFORE, {"answers": answers, "control_loss": 2.0})
    assert verdict["controls"][0]["ok"] is not named
    assert verdict["prompts"][1]["ok"]
    answers = [GOOD[0], answer, *answers[2:]]
    verdict = judge_identity(QUESTIONS, identity, BEFORE, {"answers": answers, "control_loss": 2.0})
    assert verdict["prompts"][1]["ok"] is named


def test_a_control_may_name_the_author() -> None:
    # A lab can be the right answer to a question about anything else.
    assert judge([*GOOD[:6], "The Xinglin Lab did.", *GOOD[7:]])["passed"]


@pytest.mark.parametrize("loss", [2.21, math.nan, math.inf])
def test_controls_that_became_less_likely_fail_the_gate(loss: float) -> None:
    verdict = judge(GOOD, loss)
    assert not verdict["passed"]
    assert not verdict["control_loss"]["passed"]


def test_answers_that_are_missing_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        judge(GOOD[:-1])


def write(path: Path, gate: Any) -> Path:
    path.write_text(yaml.safe_dump(gate, allow_unicode=True), encoding="utf-8")
    return path


def test_a_gate_is_read_from_its_file(tmp_path: Path) -> None:
    assert IdentityGate.read(write(tmp_path / "gate.yaml", make_gate())) == QUESTIONS


def test_a_bad_gate_is_refused_in_one_sentence_with_file_and_field(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    gates: dict[str, Any] = {name: make_gate() for name in ("few", "fields", "language", "unshaped")}
    gates["few"]["identity"].pop()
    del gates["fields"]["controls"][3]["reference"]
    gates["language"]["identity"][2]["language"] = "fr"
    for control in gates["unshaped"]["controls"]:
        control["shaped_like_identity"] = False
    sentences = {
        "few": "identity: List should have at least 6 items",
        "fields": "controls.3.reference: Field required",
        "language": "identity.2.language: Input should be 'zh' or 'en'",
        "unshaped": "controls: Value error, At least two must be shaped like identity prompts",
    }
    for name, sentence in sentences.items():
        with pytest.raises(MedllmError) as caught:
            IdentityGate.read(write(path, gates[name]))
        assert f"identity gate {path}: {sentence}" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe", None, b"just text"])
def test_a_file_that_is_no_gate_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "gate.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MedllmError, match="identity gate") as caught:
        IdentityGate.read(path)
    assert "\n" not in str(caught.value)


def test_the_gate_that_ships_is_one(repository: Path) -> None:
    gate = IdentityGate.read(repository / "include" / "datasets" / "identity" / "gate.yaml")
    assert {prompt.language for prompt in gate.identity} == {"zh", "en"}
