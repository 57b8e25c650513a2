from __future__ import annotations

import random
from typing import Any

import pytest

from medllm_ops.curation.clean import CleanSettings, clean
from medllm_ops.curation.outcome import Outcome

DEFAULTS = CleanSettings()
CHANCE = random.Random(0)
HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 1500)]
WORDS = ["".join(CHANCE.choices("aeioubcdfgmnprst", k=CHANCE.randint(3, 9))) for _ in range(800)]
ENGLISH = "The drug was given to the patients in the trial and it is safe. "


def chinese(count: int) -> str:
    return "，".join("".join(CHANCE.choices(HAN, k=9)) for _ in range(count // 10 + 1))


def english(count: int) -> str:
    return ENGLISH + " ".join(CHANCE.choices(WORDS, k=count))


def document(text: str, language: str = "en", settings: CleanSettings = DEFAULTS) -> Outcome:
    return clean({"id": "a", "messages": [{"role": "assistant", "content": text}], "language": language}, settings)


def settings(section: str, **values: Any) -> CleanSettings:
    return CleanSettings.model_validate({section: values})


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Aspirin reduced mortality in patients with an acute infarction (p < 0.001).", "en"),
        ("治头痛方：川芎三钱，白芷二钱，水煎服。", "zh"),
        ("《歌诀》四君子汤\n四君子汤中和义，\n参术茯苓甘草比。\n益以夏陈名六君，\n祛痰补气阳虚饵。", "zh"),
        ("夫血者水谷之精也和调五脏洒陈六腑脉者血之府也" * 1 + chinese(300), "zh"),
        ("Drug\tDose\tRoute\n" + "\n".join(f"{word}\t{n} mg\tbid" for n, word in enumerate(WORDS[:60], 5)), "en"),
        ("药名 | 剂量\n" + "\n".join(f"{''.join(HAN[n : n + 3])} | {n + 5} mg" for n in range(0, 120, 4)), "zh"),
        ("Genes: " + ", ".join(f"{word.upper()}{n}" for n, word in enumerate(WORDS[:80])), "en"),
        (
            "Results.\n"
            + "\n".join(f"* {word}: HR 0.{n}, 95% CI 0.{n}-1.{n}, p=0.0{n}" for n, word in enumerate(WORDS[:40], 10)),
            "en",
        ),
        (
            "Outcomes:\n" + "\n".join(f"* Change from baseline in {word} [Time frame: week 12]" for word in WORDS[:30]),
            "en",
        ),
    ],
)
def test_what_medicine_is_written_in_stays(text: str, language: str) -> None:
    outcome = document(text, language)
    assert outcome.row is not None, (outcome.reason, outcome.detail)
    assert outcome.row["messages"][0]["content"] == text
    assert outcome.row["language"] == language


@pytest.mark.parametrize(
    ("text", "language", "reason"),
    [
        ("Nine words are a title and not a text", "en", "too short"),
        ("【一】、", "zh", "too short"),
        (
            "Los pacientes con la enfermedad fueron tratados por una dosis de los fármacos en el estudio.",
            "es",
            "language is not kept",
        ),
        ("これは日本語の文章です。血圧が高い患者に投与した。", "zh", "language is not kept"),
        (ENGLISH + "the drug works " * 100, "en", "repeats itself"),
        ("Seven words are said ten times over. " * 10, "en", "repeats itself"),
        ((chinese(50) + "。") * 12, "zh", "repeats itself"),
        (
            "\n".join([*(f"line {word}" for word in WORDS[:30]), *["The same line stands here again"] * 20]),
            "en",
            "repeats itself",
        ),
        (english(60) + " # # #" * 10, "en", "too many symbols"),
        (chinese(250) + "……" * 30, "zh", "too many symbols"),
        (english(60) + " +/-*" * 400, "en", "too few letters"),
        (chinese(200) + "─┼" * 150, "zh", "too few letters"),
        (ENGLISH + " ".join(f"{n}" for n in range(1000, 1200)), "en", "too few letters"),
        (chinese(220) + " ".join(WORDS[:150]), "zh", "too few Han characters"),
        ("\n".join(f"{word} and the {word[::-1]} of it to be..." for word in WORDS[:30]), "en", "too many symbols"),
        ("\n".join(f"{english(10)}…" for _ in range(12)), "en", "too many ellipses"),
        (
            ENGLISH + "x" * 3000 + " a" * 2 + " ".join(["y" * 90] * 1) + " ".join(WORDS[:45]),
            "en",
            "words of odd length",
        ),
        ("It was given 5 \ufffdg of the drug in the trial, and to all of the patients.", "en", "lost characters"),
        (ENGLISH + "\ufffd" * 3, "en", "lost characters"),
        (ENGLISH + "<|im_end|>\n<|im_start|>system", "en", "marks of a chat template"),
    ],
)
def test_what_is_no_text_is_dropped_with_its_reason(text: str, language: str, reason: str) -> None:
    outcome = document(text, language)
    assert (outcome.row, outcome.reason) == (None, reason), outcome.detail


def test_each_limit_can_be_set() -> None:
    text = english(100)
    assert document(text).kept
    assert document(text, settings=settings("english", max_words=50)).reason == "too long"
    assert document(text, settings=settings("english", min_words=500)).reason == "too short"
    assert document(text, settings=settings("english", max_mean_word_length=4)).reason == "words of odd length"
    assert document(text, settings=settings("english", min_words_with_letter=1.0)).kept
    assert document(f"{text} 12", settings=settings("english", min_words_with_letter=1.0)).reason == "too few letters"
    assert document(" ".join(WORDS[:99]), settings=settings("english", min_stop_words=2)).reason == "too few stop words"
    assert document(f"the {text} of", settings=settings("english", min_stop_words=2)).kept
    bullets = "\n".join(f"* {word} and {word[::-1]}" for word in WORDS[:30])
    assert document(bullets).kept
    assert document(bullets, settings=settings("english", max_bullet_lines=0.9)).reason == "too many bullets"
    verses = "\n".join("".join(HAN[n : n + 7]) for n in range(0, 400, 7))
    assert document(verses, "zh").kept
    assert document(verses, "zh", settings("chinese", min_mean_line=10)).reason == "lines too short"
    assert document(verses, "zh", settings("chinese", max_characters=50)).reason == "too long"
    assert document(verses, "zh", settings("chinese", min_characters=500)).reason == "too short"


def test_shares_of_short_texts_are_chance_and_not_looked_at() -> None:
    short = "500 510 515 520 525 530 535 540 545 550 mg"
    assert document(short).kept
    assert document(short, settings=settings("english", shares_from_words=5)).reason == "too few letters"


def test_lost_characters_may_be_allowed() -> None:
    text = english(200) + " 5 \ufffdg"
    assert document(text).reason == "lost characters"
    assert document(text, settings=settings("lost", beside_number=False)).kept
    assert document(f"{ENGLISH}<|im_end|>", settings=CleanSettings(chat_marks=False)).kept


def test_the_language_is_corrected_where_the_text_is_plain() -> None:
    outcome = document("治头痛方：川芎三钱，白芷二钱，水煎服。", "en")
    assert outcome.row is not None
    assert outcome.row["language"] == "zh"
    assert outcome.marks == {"language.corrected": 1}
    kept = document("治头痛方：川芎三钱，白芷二钱，水煎服。", "en", settings("language", correct=False))
    assert kept.row is not None
    assert kept.row["language"] == "en"


def test_a_text_that_shows_no_language_has_that_of_its_row() -> None:
    numbers = "Aspirin 100 mg qd; heparin 5000 IU bid; insulin 10 IU tid; digoxin 0.25 mg"
    assert document(numbers, "en").kept
    assert document(numbers, "").kept
    assert document(numbers, "fr").reason == "language is not kept"
    assert document(numbers, "fr", settings("language", keep=["fr"])).kept


def test_an_answer_that_repeats_itself_is_dropped_and_code_is_not() -> None:
    loop = "您好，建议您多休息，多喝水，按时服药，如有不适请及时就医。" * 12
    code = "\n".join(f"    x[{n}] = y[{n}]\n    }}" for n in range(60))
    for answer, reason in ((loop, "repeats itself"), (f"```\n{code}\n```", ""), ("好", "")):
        row = {"id": "a", "messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": answer}]}
        assert clean(row, DEFAULTS).reason == reason


def test_a_translation_is_judged_by_its_answer() -> None:
    question = "翻译：この新しいアップデートで、ツイッターは投稿とアカウントを撤回することが出来る。"
    for answer, kept in (("此次更新后，可以撤回帖子和账户。", True), ("これは日本語の文章です。", False)):
        row = {"id": "a", "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        assert clean(row, DEFAULTS).kept is kept


def test_a_dialogue_has_a_limit() -> None:
    row = {"id": "a", "messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": chinese(300)}]}
    assert clean(row, settings("dialogues", max_characters=100)).reason == "too long"
