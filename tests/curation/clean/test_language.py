from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.clean.filters import Measured
from medllm_ops.curation.clean.letters import count_letters


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The effect of the drug on mortality was not significant in this trial.", "en"),
        ("二甲双胍（metformin）是治疗2型糖尿病的首选药物，常用剂量0.5 g。", "zh"),
        ("PD-L1 (CD274)、CTLA-4、LAG-3 抑制剂联合 chemotherapy 治疗", "zh"),
        ("夫血者水谷之精也和调五脏洒陈六腑", "zh"),
        ("治傷寒頭痛。桂枝去皮、芍藥、甘草炙", "zh"),
        ("𠀀𠀁𠀂㐀㐁", "zh"),
        ("これは日本語の文章です。血圧が高い患者に投与した。", "ja"),
        ("이 연구는 고혈압 환자를 대상으로 하였다.", "ko"),
        ("Пациенты получали препарат в течение двух недель.", "und"),
        ("Τα αποτελέσματα της μελέτης ήταν θετικά.", "el"),
        ("Die Patienten wurden mit dem Medikament behandelt und die Therapie ist nicht von der Dosis abhängig.", "de"),
        ("Les patients ont été traités par la chirurgie dans une étude sur le cancer du sein.", "fr"),
        ("Los pacientes con la enfermedad fueron tratados por una dosis de los fármacos en el estudio.", "es"),
        ("Aspirin 100 mg qd; heparin 5000 IU bid; insulin 10 IU", ""),
        ("TNF-α, IL-6, IFN-γ and CRP of patients", "en"),
        ("5 × 10⁹/L", ""),
        ("", ""),
        ("12.5 %", ""),
    ],
)
def test_zh_en_and_what_is_plainly_neither(text: str, language: str) -> None:
    assert Measured(text).language(0.2) == language


def test_an_abstract_with_names_in_another_language_is_english() -> None:
    text = "The Hôpital de la Pitié and the Centre des maladies of Paris took part in the study with the others."
    assert Measured(text).language(0.2) == "en"


def test_letters_are_counted_by_kind() -> None:
    letters = count_letters("Ab1 é α ж 甲乙 㐀 𠀀 あ 가 。，！😀\n".encode())
    assert (letters.latin, letters.digits, letters.han, letters.kana) == (3, 1, 4, 1)
    assert (letters.hangul, letters.greek, letters.other) == (1, 1, 1)
    assert letters.letters_and_digits == 12
    assert letters.visible == 16


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_parts_are_never_more_than_the_whole(text: str) -> None:
    letters = count_letters(text.encode())
    assert letters.visible <= len(text)
    assert min(letters.latin, letters.han, letters.kana, letters.other, letters.digits) >= 0
    assert letters.letters_and_digits <= len(text)
