import contextlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medllm_ops.errors import UnreadableFileError
from medllm_ops.records import Document, Reject
from medllm_ops.sources import docx_safety
from medllm_ops.sources.docx import parse

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
NOTE_TYPE = f"{R}/footnotes"


def p(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def table(*rows: tuple[str, ...]) -> str:
    cells = ["".join(f"<w:tc>{cell}</w:tc>" for cell in row) for row in rows]
    return "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in cells) + "</w:tbl>"


def docx(
    body: str, namespace: str = W, bom: str = "", method: int = zipfile.ZIP_DEFLATED, **parts: str | bytes
) -> bytes:
    document = f'{bom}<w:document xmlns:w="{namespace}" xmlns:r="{R}"><w:body>{body}</w:body></w:document>'
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{key}"><w:name w:val="{name}"/></w:style>'
        for key, name in [("H1", "heading 1"), ("T", "Title")]
    )
    rels = "http://schemas.openxmlformats.org/package/2006/relationships"
    content: dict[str, str | bytes] = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{rels}"><Relationship Id="rId1" Type="{R}/officeDocument" '
        'Target="word/document.xml"/></Relationships>',
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{rels}"><Relationship Id="rId1" Type="{NOTE_TYPE}" '
        'Target="footnotes.xml"/></Relationships>',
        "word/document.xml": document,
        "word/styles.xml": f'<w:styles xmlns:w="{namespace}">{styles}</w:styles>',
        **parts,
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return packed.getvalue()


def read(tmp_path: Path, data: bytes, name: str = "报告.docx") -> Document | Reject:
    path = tmp_path / name
    path.write_bytes(data)
    (found,) = parse(path)
    assert isinstance(found, Document | Reject)
    return found


def text_of(tmp_path: Path, data: bytes) -> str:
    found = read(tmp_path, data)
    assert isinstance(found, Document), found
    return found.text


def test_body_text_in_reading_order_with_tables_as_rows(tmp_path: Path) -> None:
    rows = table((p("药名"), p("剂量") + p("每日")), (p("甲"), p("5&#160;mg")), (p(" "), p("")))
    assert text_of(tmp_path, docx(p("前言") + rows + p("后记"))) == "前言\n药名 | 剂量 每日\n甲 | 5 mg\n后记"


def test_a_cell_merged_over_rows_keeps_the_columns_of_the_others(tmp_path: Path) -> None:
    above, below = ('<w:tcPr><w:vMerge w:val="restart"/></w:tcPr>', "<w:tcPr><w:vMerge/></w:tcPr>")
    rows = table((above + p("Drug"), p("1 mg"), p("a")), (below + p(""), p("2 mg"), p("b")), (p("Other"), p("3 mg")))
    assert text_of(tmp_path, docx(rows)) == "Drug | 1 mg | a\n | 2 mg | b\nOther | 3 mg"


def test_rows_of_a_nested_table_follow_the_row_they_are_in(tmp_path: Path) -> None:
    inner = table((p("a"), p("b")), (p("c"), p("d")))
    outer = table((p("before") + inner + p("after"), p("x")), (p("y"), p("z")))
    assert text_of(tmp_path, docx(outer)) == "before after | x\na | b\nc | d\ny | z"
    assert text_of(tmp_path, docx(table((table((inner,)),)))) == "a | b\nc | d"


def test_footnotes_stand_at_the_end_with_their_number(tmp_path: Path) -> None:
    notes = f'<w:footnotes xmlns:w="{W}"><w:footnote w:id="2">{p("First line.")}{p("Second line.")}</w:footnote>'
    body = '<w:p><w:r><w:t>Text</w:t></w:r><w:r><w:footnoteReference w:id="2"/></w:r></w:p>' + p("End.")
    data = docx(body, **{"word/footnotes.xml": notes + "</w:footnotes>"})
    assert text_of(tmp_path, data) == "Text[1]\nEnd.\n[1] First line.\nSecond line."


def test_what_is_no_text_is_left_out(tmp_path: Path) -> None:
    body = (
        "<w:p><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del><w:ins><w:r><w:t>kept</w:t></w:r></w:ins>"
        '<w:r><w:commentReference w:id="0"/></w:r></w:p>'
        '<w:p><w:hyperlink w:anchor="there"><w:r><w:t>link</w:t></w:r></w:hyperlink>'
        "<w:r><w:br/><w:t>next</w:t></w:r></w:p>"
    )
    comments = f'<w:comments xmlns:w="{W}"><w:comment w:id="0">{p("a comment")}</w:comment></w:comments>'
    header = f'<w:hdr xmlns:w="{W}">{p("a header")}</w:hdr>'
    parts = {"word/comments.xml": comments, "word/header1.xml": header}
    assert text_of(tmp_path, docx(body, **parts)) == "kept\nlink\nnext"


MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"


def run(text: str) -> str:
    return f"<w:r><w:t>{text}</w:t></w:r>"


def text_box(text: str, fallback: str = "") -> str:
    box = f"<w:txbxContent>{p(text)}</w:txbxContent>"
    choice = f'<mc:Choice Requires="wps"><w:drawing><any xmlns="urn:any">{box}</any></w:drawing></mc:Choice>'
    return f'<w:r><mc:AlternateContent xmlns:mc="{MC}">{choice}{fallback}</mc:AlternateContent></w:r>'


@pytest.mark.parametrize("namespace", [W, STRICT])
@pytest.mark.parametrize(
    ("inside", "text"),
    [
        (run("see ") + f'<w:fldSimple w:instr="REF x">{run("Table 3")}</w:fldSimple>' + run(" end"), "see Table 3 end"),
        (f'<w:bdo w:val="rtl">{run("a")}</w:bdo><w:dir w:val="ltr"><w:bdo>{run("b")}</w:bdo></w:dir>', "ab"),
        ("<w:r><w:t>one</w:t><w:cr/><w:t>two</w:t><w:ptab/><w:t>three</w:t></w:r>", "one\ntwo three"),
        (
            f"<w:r><w:ruby><w:rubyPr/><w:rt>{run('bai')}</w:rt><w:rubyBase>{run('白')}</w:rubyBase></w:ruby></w:r>"
            + run("补"),
            "白补",
        ),
        (text_box("box") + run("after"), "after\nbox"),
        (text_box("box", "<mc:Fallback><w:pict/></mc:Fallback>") + run("after"), "after\nbox"),
        (text_box("box", f"<mc:Fallback>{run('as text')}</mc:Fallback>") + run(" after"), "as text after"),
        (text_box("out</w:t></w:r></w:p><w:p>" + text_box("in") + "<w:r><w:t>") + run("after"), "after\nout\nin"),
    ],
    ids=["field", "direction", "breaks", "ruby", "text box", "picture instead", "text instead", "nested boxes"],
)
def test_words_that_mammoth_passes_over(tmp_path: Path, namespace: str, inside: str, text: str) -> None:
    inside = inside.replace("<w:t>", '<w:t xml:space="preserve">')
    body = f"<w:p>{inside}</w:p>"
    assert text_of(tmp_path, docx(body, namespace)) == text
    notes = f'<w:footnotes xmlns:w="{namespace}"><w:footnote w:id="2">{body}</w:footnote></w:footnotes>'
    data = docx('<w:p><w:r><w:footnoteReference w:id="2"/></w:r></w:p>', namespace, **{"word/footnotes.xml": notes})
    assert text.split("\n")[-1][-5:] in text_of(tmp_path, data)


def test_a_document_that_takes_in_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"altChunk.*; open it in Word and save it again"):
        read(tmp_path, docx('<w:altChunk r:id="r9"/>' + p("x")))


def test_a_paragraph_of_12_mb_is_whole(tmp_path: Path) -> None:
    text = text_of(tmp_path, docx(p("药" * 4_000_000) + p("end")))
    assert (len(text), text[-4:]) == (4_000_004, "\nend")


def test_strict_documents_and_a_byte_order_mark(tmp_path: Path) -> None:
    assert text_of(tmp_path, docx(p("Test"), namespace=STRICT)) == "Test"
    assert text_of(tmp_path, docx(p("Test"), bom="\ufeff")) == "Test"


def test_the_title_is_the_property_then_the_heading_then_the_name(tmp_path: Path) -> None:
    core = (
        '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title> 指南 \n 2024</dc:title></cp:coreProperties>'
    )
    body = p("text") + p("一、总则", "H1")
    for data, title in [
        (docx(body, **{"docProps/core.xml": core}), "指南 2024"),
        (docx(body, **{"docProps/core.xml": "<broken"}), "一、总则"),
        (docx(body, **{"docProps/core.xml": f'<?xml version="1.0" encoding="UDF-8"?>{core}'}), "一、总则"),
        (docx(p("总标题", "T") + body), "总标题"),
        (docx(p("text")), "报告"),
    ]:
        found = read(tmp_path, data)
        assert isinstance(found, Document)
        assert found.title == title


def test_the_id_follows_the_text_not_the_name(tmp_path: Path) -> None:
    first = read(tmp_path, docx(p("Text.")), "a.docx")
    assert first.id == read(tmp_path, docx(p("Text.")), "b.docx").id
    assert first.id != read(tmp_path, docx(p("Text!")), "a.docx").id


def test_files_without_text(tmp_path: Path) -> None:
    assert read(tmp_path, b"") == Reject(file=str(tmp_path / "报告.docx"), position="document", reason="empty file")
    found = read(tmp_path, docx(p(" ") + table((p(""), p("")))))
    assert isinstance(found, Reject)
    assert found.reason == "no text in file"


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
BOMB = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize("part", ["word/document.xml", "word/styles.xml", "word/other.bin", "docProps/core.xml"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_in_any_part_and_encoding(tmp_path: Path, part: str, encoding: str) -> None:
    data = docx(p("x"), **{part: f"{BOMB}<d>&b;</d>".encode(encoding)})
    with pytest.raises(UnreadableFileError, match=f"refused: {part} declares a document type"):
        read(tmp_path, data)


@pytest.mark.parametrize("name", ["../evil.xml", "/etc/evil", "a/../../b", "C:\\evil.xml", "..\\evil.xml"])
def test_a_path_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableFileError, match=r"refused: the part .* lies outside the archive"):
        read(tmp_path, docx(p("x"), **{name: "<a/>"}))


def test_parts_that_unpack_to_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = docx(p("x" * 100_000))
    assert len(data) < 5_000
    assert len(text_of(tmp_path, data)) == 100_000
    monkeypatch.setattr(docx_safety, "MAX_XML_BYTES", 50_000)
    with pytest.raises(UnreadableFileError, match="refused: its text unpacks to more than 50000 bytes"):
        read(tmp_path, data)
    monkeypatch.setattr(docx_safety, "MAX_BYTES", 40_000)
    with pytest.raises(UnreadableFileError, match="refused: its parts unpack to more than 40000 bytes"):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"PK no zip", "not a docx \\(no zip archive\\)"),
        (docx(p("x"))[:-30], "not a docx \\(no zip archive\\)"),
        (OLE + bytes(1 << 20) + "EncryptedPackage".encode("utf-16-le"), "protected by a password; save it without"),
        (OLE + bytes(512) + "WordDocument".encode("utf-16-le"), "an old .doc; save it as .docx"),
        (docx("<w:p>"), "not a whole docx \\(ExpatError"),
        (docx("<w:p>" * 5000 + "</w:p>" * 5000), "not a whole docx \\(RecursionError"),
    ],
)
def test_what_is_no_docx_is_refused_in_words(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFileError, match=reason):
        read(tmp_path, data)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_damage_in_any_part_and_packing_ends_in_words(tmp_path: Path, method: int) -> None:
    core = "<a>" + "".join(f"<b>{number * 7919 % 9973}</b>" for number in range(40_000)) + "</a>"
    data = docx(p("x"), method=method, **{"docProps/core.xml": core})
    part = data.index(b"docProps/core.xml")
    for place in (20, 25, 30_000):
        damaged = bytearray(data)
        damaged[part + place : part + place + 8] = b"\xff" * 8
        with contextlib.suppress(UnreadableFileError):
            assert read(tmp_path, bytes(damaged))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="no such file"):
        list(parse(tmp_path / "none.docx"))


@pytest.mark.parametrize("inside", [False, True], ids=["zip", "document part"])
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["flip", "delete", "insert", "cut", "duplicate"]),
    where=st.floats(0, 1),
    length=st.integers(1, 30),
    value=st.integers(0, 255),
)
def test_one_mutation_ends_in_one_record_or_in_words(
    tmp_path: Path, mutate: Callable, inside: bool, kind: str, where: float, length: int, value: int
) -> None:
    body = p("Heading", "H1") + p("文字") + table((p("a"), table((p("b"),)) + p("c")))
    if inside:
        data, _, _ = mutate(body.encode(), kind, where, length, value)
        data = docx(data.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode())
    else:
        data, _, _ = mutate(docx(body), kind, where, length, value)
    with contextlib.suppress(UnreadableFileError):
        assert read(tmp_path, data)


def test_real_documents(samples: Path) -> None:
    files = sorted((samples / "docx").glob("*.docx"))
    found = {path.stem: list(parse(path)) for path in files}
    assert len(found) == 15
    assert all(len(items) == 1 for items in found.values())
    rejects = {name: items[0].reason for name, items in found.items() if isinstance(items[0], Reject)}
    assert rejects == {"having-images": "no text in file", "tbl-having-tables": "no text in file"}
    texts = {name: items[0].text for name, items in found.items() if isinstance(items[0], Document)}
    # Each holds its oddity: notes, rows of a table, a text box; and not what is no text.
    assert texts["footnotes"].count("[1]") == texts["endnotes"].count("[1]") == 2
    assert texts["tables"].count(" | ") == 2
    assert len(texts["text-box"].split()) == 2
    assert all(texts[name] for name in ("strict-format", "utf8-bom", "par-hyperlinks", "blk-paras-and-tables"))
    assert not any("http" in text or "↑" in text for text in texts.values())
