import pytest

from medllm_ops.sources.tcm_text import clean, cut, paragraphs_of

WRAPPED = "甲乙丙丁，戊己庚辛壬癸，子丑寅卯辰巳午未申酉戌亥，天地玄黄宇宙洪荒日月盈"  # 37 characters


def test_hard_wraps_are_joined_and_paragraphs_kept() -> None:
    body = f"{WRAPPED} \n昃。 \n次段。 \n人参 白术 茯苓 \n甘草（炙） \n上为末。 \n\n末段 \n"
    assert paragraphs_of(body) == [f"{WRAPPED}昃。", "次段。", "人参 白术 茯苓", "甘草（炙）", "上为末。", "末段"]


def test_a_sentence_that_breaks_off_in_a_short_line_goes_on() -> None:
    assert paragraphs_of(f"{WRAPPED} \n春夏秋冬，东 \n南西北。 \n下段。") == [
        f"{WRAPPED}春夏秋冬，东南西北。",
        "下段。",
    ]


def test_long_lines_are_paragraphs_already() -> None:
    line = "甲" * 90
    assert paragraphs_of(f"{line}\n{line}\n") == [line, line]


def test_bold_headings_stand_alone() -> None:
    body = f"{WRAPPED} \n\\x一、辨风\\x \n正文甲。 \n\\x当归\\x 味甘，温。 \n"
    assert paragraphs_of(body) == [WRAPPED, "一、辨风", "正文甲。", "当归 味甘，温。"]


def test_bold_text_in_a_wrapped_paragraph_goes_on_and_after_its_end_begins_another() -> None:
    assert paragraphs_of(f"{WRAPPED} \n\\x〔垣〕\\x昃 \n") == [f"{WRAPPED}〔垣〕昃"]
    assert paragraphs_of(f"{WRAPPED}。 \n\\x当归\\x 味甘 \n") == [f"{WRAPPED}。", "当归 味甘"]


@pytest.mark.parametrize(
    "junk",
    [
        "\\r人参\\pq1.bmp\\r",
        "\\r长 图\\pG-G1.bmp\\r",
        "\\r图\\ps11a8.bmp",
        "\\r图\\p1-b2a3.BMP\\r",
        "\\r图\n说\\pa.gif\\r",
    ],
)
def test_pictures_go_with_their_captions(junk: str) -> None:
    assert paragraphs_of(f"{junk} \n性温。 \n") == ["性温。"]
    assert paragraphs_of(f"见{junk}下文。") == ["见下文。"]
    assert paragraphs_of(junk) == []


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("其痛甚，起 于微，而后大。", "其痛甚，起于微，而后大。"),
        ("瘰 ，疮 。", "瘰，疮。"),
        ("（ ）治风", "治风"),
        ("（ 炙）", "（炙）"),
        ("人参 白术 茯苓", "人参 白术 茯苓"),
        ("黄连（去须） 好酒（五升）", "黄连（去须） 好酒（五升）"),
        ("又方 以布裹之，热熨。", "又方 以布裹之，热熨。"),
        ("水煎，用 甲 乙 丙 煮，服。", "水煎，用 甲 乙 丙 煮，服。"),
        ("盗汗， HT 夜哭，项背强KTKT 然。", "盗汗，夜哭，项背强然。"),
        ("以KT 、蜜", "以、蜜"),
        ("维生素B1 KTV", "维生素B1 KTV"),
        ("甲\ue000乙\U000f0000\ufffd丙\u200b", "甲乙丙"),
        ("\\x甲\\x乙\u3000\u3000丙", "甲乙 丙"),
        ("□阙", "□阙"),
    ],
)
def test_clean(raw: str, expected: str) -> None:
    assert clean(raw) == expected


def test_cut_at_paragraphs_then_sentences_then_clauses() -> None:
    assert cut(["一" * 6, "二" * 3, "三" * 9], 10) == ["一" * 6 + "\n" + "二" * 3, "三" * 9]
    assert cut(["甲乙丙。丁戊己。庚辛壬。"], 8) == ["甲乙丙。丁戊己。", "庚辛壬。"]
    assert cut(["甲乙，丙丁，戊己。"], 6) == ["甲乙，丙丁，", "戊己。"]
    assert cut(["甲" * 25], 10) == ["甲" * 10, "甲" * 10, "甲" * 5]
    assert cut([], 10) == []


def test_cut_loses_nothing() -> None:
    paragraphs = ["甲乙丙丁，戊己。" * n for n in range(1, 40)]
    texts = cut(paragraphs, 50)
    assert max(map(len, texts)) <= 50
    assert "".join(texts).replace("\n", "") == "".join(paragraphs)
