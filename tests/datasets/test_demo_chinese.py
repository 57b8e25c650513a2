"""The demo's classics and company documents: in the published shapes, with their oddities, and no two texts alike."""

import re
import zipfile
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from lxml import etree

from medllm_ops.records import Dialogue, Document, Reject
from medllm_ops.sources import get_source
from medllm_ops.sources.base import Parsed

SHINGLE = 5
JACCARD_LIMIT = 0.5
HAN_LIMIT = 160
"""Below the 440 tokens that a demo text may have: a text here has at most 2.64 SmolLM2 tokens a Han character."""
WORD_LIMIT = 160

READERS = [("tcm_books/*.txt", "tcm_books"), ("docx/*.docx", "docx")]
"""Pattern below the demo folder, and the source that reads the files it matches."""
REJECTS = {"001-杏圃草木小识.txt": [("section 16", "empty section")]}

BOOKS = {"001-杏圃草木小识.txt": "gbk", "002-简效方辑.txt": "gb18030", "003-临诊琐言.txt": "gbk"}
HAN = re.compile(r"[\u3400-\u9fff]")
PICTURE = re.compile(r"^(?:内容|属性)：\\r(\w+)\\p(G-G\d)\.bmp\\r $", re.MULTILINE)
LABELLED = re.compile(r"(?:内容|属性)：")
MISSING_GLYPH = re.compile(r"[\u4e00-\u9fff] [\u4e00-\u9fff]")
PRIVATE_USE = re.compile(r"[\ue000-\uf8ff]")
WIDTH = 40
W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"


@pytest.fixture(scope="module")
def demo(repository: Path) -> Path:
    return repository / "include" / "datasets" / "demo"


@pytest.fixture(scope="module")
def parsed(demo: Path) -> dict[str, list[Parsed]]:
    return {
        path.name: list(get_source(name).parse(path))
        for pattern, name in READERS
        for path in sorted(demo.glob(pattern))
    }


@pytest.fixture(scope="module")
def documents(parsed: dict[str, list[Parsed]]) -> list[Document]:
    return [item for items in parsed.values() for item in items if isinstance(item, Document)]


@pytest.fixture(scope="module")
def company(parsed: dict[str, list[Parsed]]) -> dict[str, Document]:
    return {
        name: item
        for name, items in parsed.items()
        for item in items
        if isinstance(item, Document) and item.source == "docx"
    }


@pytest.fixture(scope="module")
def dumps(demo: Path) -> dict[str, str]:
    return {name: (demo / "tcm_books" / name).read_bytes().decode(encoding) for name, encoding in BOOKS.items()}


def _shingles(text: str, language: str) -> frozenset[tuple[str, ...]]:
    units = [*text] if language == "zh" else text.lower().split()
    return frozenset(tuple(units[at : at + SHINGLE]) for at in range(max(1, len(units) - SHINGLE + 1)))


def _alike(texts: list[tuple[str, str]]) -> list[tuple[str, str, float]]:
    found = []
    sets = [(text, _shingles(text, language)) for text, language in texts]
    for (one, left), (other, right) in combinations(sets, 2):
        common = len(left & right)
        share = common / (len(left) + len(right) - common)
        if share > JACCARD_LIMIT:
            found.append((one, other, round(share, 2)))
    return found


def _text(record: Document | Dialogue) -> str:
    return record.text if isinstance(record, Document) else "\n".join(turn.content for turn in record.messages)


def _part(path: Path, name: str = "word/document.xml") -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def _text_of_part(path: Path, name: str) -> str:
    return "".join(map(str, etree.fromstring(_part(path, name)).itertext()))


def test_no_two_texts_are_alike(parsed: dict[str, list[Parsed]]) -> None:
    records = [item for items in parsed.values() for item in items if isinstance(item, Document | Dialogue)]
    texts = list(dict.fromkeys((_text(record), record.language) for record in records))
    assert len(texts) >= 57
    assert _alike(texts) == []


def test_the_measure_sees_a_text_with_a_little_changed(documents: list[Document]) -> None:
    classic = documents[0].text
    leaflet = next(document.text for document in documents if document.language == "en")
    assert _alike([(classic, "zh"), (f"{classic[:30]}某某{classic[32:]}", "zh")])
    assert _alike([(leaflet, "en"), (leaflet.replace("watches", "bracelets", 1), "en")])


def test_only_the_planted_records_are_rejected(parsed: dict[str, list[Parsed]]) -> None:
    rejects = {name: [item for item in items if isinstance(item, Reject)] for name, items in parsed.items()}
    assert {
        name: [(reject.position, reject.reason) for reject in found] for name, found in rejects.items() if found
    } == REJECTS


def test_there_is_enough_to_learn_from(parsed: dict[str, list[Parsed]], company: dict[str, Document]) -> None:
    assert {name: len(parsed[name]) for name in BOOKS} == dict.fromkeys(BOOKS, 16)
    assert Counter(document.language for document in company.values()) == {"zh": 5, "en": 5}
    assert len({item.id for items in parsed.values() for item in items if isinstance(item, Document)}) == 57


def test_every_text_fits_a_training_row_and_says_something(documents: list[Document]) -> None:
    for document in documents:
        han, words = len(HAN.findall(document.text)), len(document.text.split())
        if document.language == "en":
            assert 90 <= words <= WORD_LIMIT, document.title
        else:
            assert (70 if document.source == "tcm_books" else 100) <= han <= HAN_LIMIT, document.title


def test_the_classics_are_in_the_encodings_of_the_dumps(demo: Path, dumps: dict[str, str]) -> None:
    assert {path.name for path in (demo / "tcm_books").iterdir()} == BOOKS.keys()
    for name in BOOKS:
        with pytest.raises(UnicodeDecodeError):
            (demo / "tcm_books" / name).read_bytes().decode("utf-8")
    with pytest.raises(UnicodeDecodeError):
        (demo / "tcm_books" / "002-简效方辑.txt").read_bytes().decode("gbk")
    line_ends = {name: (text.count("\r\n"), text.count("\n")) for name, text in dumps.items()}
    assert [name for name, (both, feeds) in line_ends.items() if both] == ["003-临诊琐言.txt"]
    assert line_ends["003-临诊琐言.txt"][0] == line_ends["003-临诊琐言.txt"][1]


def test_the_classics_have_head_and_sections_like_the_dumps(dumps: dict[str, str]) -> None:
    for name, text in dumps.items():
        title = name[4:-4]
        lines = text.replace("\r\n", "\n").split("\n")
        assert lines[:3] == ["", f"<篇名>{title}", f"书名：{title}"]
        assert [line[:3] for line in lines[3:6]] == ["作者：", "朝代：", "年份："]
        assert lines[6:9] == ["", "", ""]
        assert sum(line.startswith("<目录>") for line in lines) == 16
        assert sum(line.startswith("<篇名>") for line in lines) == 17
        assert sum(bool(LABELLED.match(line)) for line in lines) == 16
    assert {match for text in dumps.values() for match in LABELLED.findall(text)} == {"内容：", "属性："}
    assert "<目录>卷上\\山草类\n" in dumps["001-杏圃草木小识.txt"]


def test_hard_wrapped_lines_end_in_a_space_and_are_joined(dumps: dict[str, str], documents: list[Document]) -> None:
    for text in dumps.values():
        wrapped = [line for line in text.replace("\r\n", "\n").split("\n") if line.endswith(" ")]
        assert sum(len(line.rstrip("\r\n")) in range(WIDTH, WIDTH + 5) for line in wrapped) >= 16
    for document in documents:
        if document.source == "tcm_books":
            assert document.text.count("\n") == 1, document.title


def test_pictures_missing_glyphs_and_private_characters_are_there_and_leave_no_trace(
    dumps: dict[str, str], documents: list[Document]
) -> None:
    pictures = [found for text in dumps.values() for found in PICTURE.findall(text.replace("\r\n", "\n"))]
    assert pictures == [("甘草", "G-G1"), ("菊花", "G-G2"), ("头痛分部", "G-G3")]
    bodies = {name: text[text.index("<目录>") :] for name, text in dumps.items()}
    gaps = {name: len(re.findall(r"，以 汤", body)) for name, body in bodies.items()}
    assert gaps == {"001-杏圃草木小识.txt": 0, "002-简效方辑.txt": 1, "003-临诊琐言.txt": 0}
    assert {name: len(PRIVATE_USE.findall(text)) for name, text in dumps.items()} == gaps
    classics = [document.text for document in documents if document.source == "tcm_books"]
    for mark in ("\\", "bmp", "\r", "\ufffd"):
        assert [text for text in classics if mark in text] == [], mark
    assert [text for text in classics if PRIVATE_USE.search(text) or MISSING_GLYPH.search(text)] == []
    assert sum("，以汤送下" in text for text in classics) == 1
    assert sum("收于瓷罐" in text for text in classics) == 1


def test_the_character_outside_gbk_stays(documents: list[Document]) -> None:
    with pytest.raises(UnicodeEncodeError):
        "䓖".encode("gbk")
    assert [document.text.split("\n")[0] for document in documents if "䓖" in document.text] == [
        "《简效方辑》归地养血膏"
    ]


def test_a_table_inside_a_table_is_read_row_by_row(demo: Path, company: dict[str, Document]) -> None:
    root = etree.fromstring(_part(demo / "docx" / "01-hand-hygiene.docx"))
    assert len(root.findall(f".//{W}tbl//{W}tbl")) == 1
    assert "soap and water | of which\nwetting | 5\nlathering | 20\n" in company["01-hand-hygiene.docx"].text


def test_notes_are_read_below_the_text(demo: Path, company: dict[str, Document]) -> None:
    for name, part in (("02-warfarin-leaflet.docx", "footnotes"), ("03-cold-chain.docx", "endnotes")):
        note = _text_of_part(demo / "docx" / name, f"word/{part}.xml")
        assert company[name].text.split("\n")[-1] == f"[1] {note}"


def test_header_footer_and_comment_are_there_and_are_no_text(demo: Path, company: dict[str, Document]) -> None:
    for name, part in (
        ("04-discharge.docx", "word/header1.xml"),
        ("04-discharge.docx", "word/footer1.xml"),
        ("05-inhaler.docx", "word/comments.xml"),
    ):
        hidden = _text_of_part(demo / "docx" / name, part)
        assert len(hidden) > 4
        assert hidden not in company[name].text


def test_link_and_text_box_are_text(demo: Path, company: dict[str, Document]) -> None:
    link = etree.fromstring(_part(demo / "docx" / "05-inhaler.docx")).find(f".//{W}hyperlink")
    assert link is not None
    assert f"on our {''.join(map(str, link.itertext()))}.\n" in company["05-inhaler.docx"].text
    assert "example.org" not in company["05-inhaler.docx"].text
    box = etree.fromstring(_part(demo / "docx" / "06-falls.docx")).find(f".//{W}txbxContent")
    assert box is not None
    assert "".join(map(str, box.itertext())) in company["06-falls.docx"].text.split("\n")


def test_one_document_is_strict_and_one_begins_with_a_byte_order_mark(demo: Path) -> None:
    raw = {path.name: _part(path) for path in (demo / "docx").iterdir()}
    strict = [name for name, part in raw.items() if etree.QName(etree.fromstring(part)).namespace == STRICT]
    assert strict == ["07-lab-samples.docx"]
    assert [name for name, part in raw.items() if part.startswith(b"\xef\xbb\xbf")] == ["08-fasting.docx"]


def test_the_documents_carry_no_time_of_their_making(demo: Path) -> None:
    times = set()
    for path in (demo / "docx").iterdir():
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            times |= {entry.date_time for entry in archive.infolist()}
    assert times == {(2024, 2, 5, 0, 0, 0)}
