"""PubMed files that are broken, hostile or cut off: what is whole in them comes out as if nothing had happened."""

import gzip
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medllm_ops.errors import UnreadableFileError
from medllm_ops.records import Deletion, Reject, record_to_row
from medllm_ops.sources import pubmed
from medllm_ops.sources.base import Parsed
from medllm_ops.sources.pubmed import parse

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD" "https://dtd/x.dtd">\n'


def article(number: int) -> str:
    return f"""<PubmedArticle>
  <MedlineCitation Status="MEDLINE" Owner="NLM"><PMID Version="1">{number}</PMID>
    <Article PubModel="Print"><ArticleTitle>Title {number} of β-<i>blockers</i></ArticleTitle>
      <Abstract><AbstractText Label="AIM">Aim {number} &amp; IL-<sub>6</sub>.</AbstractText></Abstract>
      <PublicationTypeList><PublicationType UI="D1">Review</PublicationType></PublicationTypeList></Article>
  </MedlineCitation>
</PubmedArticle>
"""


DELETIONS = [f'<PMID Version="1">{pmid}</PMID>\n' for pmid in (900, 915, 933)]
PARTS = [HEAD + "<PubmedArticleSet>\n", *map(article, range(1, 7)), "<DeleteCitation>\n", *DELETIONS]
PARTS.append("</DeleteCitation>\n</PubmedArticleSet>\n")
WHOLE = "".join(PARTS).encode()
RAW_RECORD = re.compile(rb"<PubmedArticle>.*?</PubmedArticle>|(?<=\n)<PMID Version=\"1\">9\d\d</PMID>", re.DOTALL)
RECORDS = [found.span() for found in RAW_RECORD.finditer(WHOLE)]


def read(tmp_path: Path, data: bytes | str) -> list[Parsed]:
    path = tmp_path / "pubmed.xml"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(parse(path))


def rows(found: list[Parsed]) -> list[bytes]:
    """What is no reject, as the bytes that go to disk."""
    return [
        item.id.encode() if isinstance(item, Deletion) else orjson.dumps(record_to_row(item))
        for item in found
        if not isinstance(item, Reject)
    ]


def reasons(found: list[Parsed]) -> list[str]:
    return [item.reason for item in found if isinstance(item, Reject)]


@pytest.mark.parametrize(
    ("whole", "broken", "reason"),
    [
        ("</AbstractText>", "</AbstractTxt>", "broken XML"),
        ("&amp;", "&", "broken XML"),
        ("&amp;", "&nosuch;", "broken XML"),
        ("IL-", "IL-\0", "broken XML"),
        ('Label="AIM"', 'Label="AIM', "broken XML"),
        ("</PubmedArticle>", "", "broken XML"),
        ("</PubmedArticle>", "</PubmedArticle", "broken XML"),
        ("<PubmedArticle>", "", "content outside any record"),
        ("<PubmedArticle>", "<PubmedArticlo>", "content outside any record"),
        ("IL-", "IL-<!-- not closed ", "broken XML"),
        ("IL-", "IL-<![CDATA[ not closed ", "broken XML"),
        ("IL-", "<i>" * 300 + "IL-" + "</i>" * 300, "broken XML"),
    ],
)
@pytest.mark.parametrize("number", [1, 3, 6])
def test_one_broken_record_costs_one_reject(tmp_path: Path, whole: str, broken: str, reason: str, number: int) -> None:
    expected = rows(read(tmp_path, WHOLE))
    assert len(expected) == len(RECORDS) == 9
    parts = PARTS.copy()
    parts[number] = parts[number].replace(whole, broken, 1)
    found = read(tmp_path, "".join(parts))
    assert rows(found) == expected[: number - 1] + expected[number:]
    assert reasons(found) == [reason]
    reject = found[number - 1]
    assert (reject.id, reject.position) == (f"pubmed:{number}", f"record {number}")


def test_not_utf8_costs_one_record_and_says_where(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE.replace("β".encode(), b"\xe2", 1))
    assert reasons(found) == ["not UTF-8"]
    assert isinstance(found[0], Reject)
    assert found[0].detail.startswith("byte 146 of the record")
    assert len(rows(found)) == 8


def test_tags_in_comments_and_cdata_are_no_bounds(tmp_path: Path) -> None:
    commented = WHOLE.replace(b"IL-", b"IL-<!-- </PubmedArticle> <PubmedArticle> -->")
    cdata = WHOLE.replace(b"IL-", b"<![CDATA[IL-]]><![CDATA[]]><?x </PubmedArticle>?>")
    assert rows(read(tmp_path, commented)) == rows(read(tmp_path, cdata)) == rows(read(tmp_path, WHOLE))
    whole_record_commented = HEAD + f"<PubmedArticleSet><!-- {article(1)} -->{article(2)}</PubmedArticleSet>"
    assert [item.id for item in read(tmp_path, whole_record_commented)] == ["pubmed:2"]


def test_a_comment_that_does_not_close_does_not_reach_the_next_comment(tmp_path: Path) -> None:
    parts = PARTS.copy()
    parts[1] = parts[1].replace("IL-", "IL-<!-- ")
    parts[4] = parts[4].replace("IL-", "IL-<!-- fine -->")
    found = read(tmp_path, "".join(parts))
    assert reasons(found) == ["broken XML"]
    assert len(rows(found)) == 8


def test_damage_in_the_list_of_deletions_costs_one_pmid(tmp_path: Path) -> None:
    expected = rows(read(tmp_path, WHOLE))
    found = read(tmp_path, WHOLE.replace(b">915<", b">9l5<"))
    assert rows(found) == [row for row in expected if row != b"pubmed:915"]
    assert reasons(found) == ["broken XML"]
    for tag in (b"<DeleteCitation>", b"</DeleteCitation>"):
        assert rows(read(tmp_path, WHOLE.replace(tag, b""))) == expected
        assert rows(read(tmp_path, WHOLE.replace(tag, b"<DeleteCitatio>"))) == expected


def test_entities_are_refused(tmp_path: Path) -> None:
    lol = "".join(f'<!ENTITY lol{n} "{f"&lol{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY lol0 "lol">{lol}]>'
    outside = '<!DOCTYPE x [<!ENTITY % e SYSTEM "file:///etc/passwd"> %e;]>'
    for prolog in (bomb, outside):
        for rest in (
            "<PubmedArticleSet>" + article(1).replace("IL-", "&lol9;") + "</PubmedArticleSet>",
            "<x>&lol9;</x>",
        ):
            with pytest.raises(UnreadableFileError, match="declares XML entities, which are refused"):
                read(tmp_path, prolog + rest)
    without_entities = "<!DOCTYPE PubmedArticleSet [<!ELEMENT i (#PCDATA)>]>\n" + "".join(PARTS[1:])
    assert len(rows(read(tmp_path, without_entities))) == 9


def test_empty_and_foreign_files(tmp_path: Path) -> None:
    for nothing in (b"", b" \n\n", gzip.compress(b"")):
        assert reasons(read(tmp_path, nothing)) == ["empty file"]
    assert reasons(read(tmp_path, HEAD + "<PubmedArticleSet>\n</PubmedArticleSet>")) == ["no records in file"]
    assert reasons(read(tmp_path, HEAD + "<PubmedArticleSet/>")) == ["no records in file"]
    for foreign, reason in (
        ("no XML here", "is not XML"),
        ('{"a": 1}', "is not XML"),
        ("<!DOCTYPE html><html><body>Error 503</body></html>", "its first element is <html>"),
        ("<eFetchResult><ERROR>Empty id</ERROR></eFetchResult>", "its first element is <eFetchResult>"),
        ("".join(PARTS).encode("utf-16"), "is UTF-16"),
        ("".join(PARTS).encode("utf-16-le"), "is UTF-16"),
    ):
        with pytest.raises(UnreadableFileError, match=reason):
            read(tmp_path, foreign)
    for path in (tmp_path, tmp_path / "missing.xml"):
        with pytest.raises(UnreadableFileError, match="directory"):
            list(parse(path))


def test_a_byte_order_mark_and_two_files_in_one_are_fine(tmp_path: Path) -> None:
    found = read(tmp_path, b"\xef\xbb\xbf" + WHOLE + WHOLE)
    assert len(rows(found)) == len(found) == 18


def test_a_record_that_is_too_large_is_refused_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pubmed, "MAX_RECORD_BYTES", 3_000_000)
    filler = "long " * 1_000_000
    found = read(tmp_path, "".join([*PARTS[:2], article(2).replace("IL-", filler), *PARTS[3:]]))
    assert reasons(found) == ["record too large"]
    assert found[1].id == "pubmed:2"
    assert len(rows(found)) == 8
    assert reasons(read(tmp_path, "".join([*PARTS[:2], filler, *PARTS[2:]]))) == ["record too large"]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_file_that_ends_in_the_middle_keeps_what_came_before(tmp_path: Path, share: float) -> None:
    expected = rows(read(tmp_path, WHOLE))
    cut = int(len(WHOLE) * share)
    whole = sum(stop <= cut for _, stop in RECORDS)
    for found in (read(tmp_path, WHOLE[:cut]), read(tmp_path, _gzip_cut_at(cut))):
        assert rows(found) == expected[:whole]
        assert reasons(found) == ["file ends in the middle"]


def _gzip_cut_at(size: int) -> bytes:
    """A gzip file that was cut where ``size`` bytes of the text were written."""
    packer = zlib.compressobj(wbits=31)
    return packer.compress(WHOLE[:size]) + packer.flush(zlib.Z_FULL_FLUSH)


def test_damaged_gzip_says_so(tmp_path: Path) -> None:
    expected = rows(read(tmp_path, WHOLE))
    packed = bytearray(gzip.compress(WHOLE))
    packed[-6] ^= 0xFF  # the checksum
    found = read(tmp_path, bytes(packed))
    assert rows(found) == expected
    assert reasons(found) == ["damaged gzip data"]
    with pytest.raises(UnreadableFileError, match="gzip data are damaged"):
        read(tmp_path, b"\x1f\x8b not gzip at all")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(kind="insert", where=0.0, length=3, value=0)
@example(kind="insert", where=0.5, length=1, value=ord("<"))
@example(kind="cut", where=RECORDS[3][1] / len(WHOLE), length=1, value=0)
@given(
    kind=st.sampled_from(["flip", "delete", "insert", "cut", "duplicate"]),
    where=st.floats(0, 1),
    length=st.integers(1, 150),
    value=st.sampled_from([*b"<>&\"'/!-[]? \nA0", 0, 0x80, 0xC3, 0xFF]),
)
def test_a_single_mutation_leaves_the_other_records_as_they_are(
    tmp_path: Path, mutate: Callable[..., tuple[bytes, int, int]], kind: str, where: float, length: int, value: int
) -> None:
    whole = rows(read(tmp_path, WHOLE))
    data, start, stop = mutate(WHOLE, kind, where, length, value)
    touched = [(first < stop and start < last) or first < start == stop < last for first, last in RECORDS]
    if touched[5] and stop > WHOLE.index(b"<DeleteCitation>"):
        touched[6:] = [True] * 3  # PMIDs in what is left of a record are not taken for deletions
    expected = [row for row, is_touched in zip(whole, touched, strict=True) if not is_touched]
    found = read(tmp_path, data)
    kept = [row for row in rows(found) if row in expected]
    # A PMID of the list of deletions is short enough to be doubled whole.
    assert (list(dict.fromkeys(kept)) if kind == "duplicate" else kept) == expected
    others = len(found) - len(expected)
    if kind == "cut":
        assert others == 1 or not WHOLE[start:].strip()
    elif kind == "duplicate":
        assert others >= any(touched)
    elif sum(touched) == 1:
        # A reject or a changed record; or the whole record and what was put beside it ("<<PubmedArticle>"); or the
        # damage joined two halves to one more tag.
        one_more_tag = data.count(b"<PubmedArticle>") > WHOLE.count(b"<PubmedArticle>")
        assert others == 1 or (others == 2 and (one_more_tag or set(whole) <= set(rows(found))))
    else:
        assert others <= max(1, sum(touched))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(gzip.compress)))
def test_any_bytes_at_all_give_items_or_one_clear_error(tmp_path: Path, data: bytes) -> None:
    for content in (data, HEAD.encode() + data, PARTS[0].encode() + data, b"\x1f\x8b\x08\0" + data):
        found, message = [], ""
        try:
            found = read(tmp_path, content)
        except UnreadableFileError as error:
            message = str(error)
        assert found or message.startswith(f"{tmp_path / 'pubmed.xml'}: ")
