"""Every oddity of PubMed's format; damage is in test_pubmed_damage.py."""

import hashlib
import re
from collections import Counter
from pathlib import Path

import pytest
from isal import igzip

from medllm_ops.errors import UnreadableFileError
from medllm_ops.records import Deletion, Document, Reject
from medllm_ops.sources.base import Parsed
from medllm_ops.sources.pubmed import SOURCE, parse

HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2025//EN" '
    '"https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd">\n'
)
ABSTRACT = "<AbstractText>Iron is stored.</AbstractText>"
BOOK = """<PubmedBookArticle><BookDocument><PMID Version="1">33</PMID><ArticleIdList/>
<Book><Publisher><PublisherName>A house</PublisherName></Publisher><BookTitle book="x">Whole book</BookTitle></Book>
{title}<Abstract>{abstract}</Abstract></BookDocument>
<PubmedBookData><ArticleIdList><ArticleId>9</ArticleId></ArticleIdList></PubmedBookData></PubmedBookArticle>"""


def article(
    title: str = "Iron stores", abstract: str = ABSTRACT, *, pmid: str = '<PMID Version="1">7</PMID>', more: str = ""
) -> str:
    return f"""<PubmedArticle>
  <MedlineCitation Status="MEDLINE" Owner="NLM">
    {pmid}
    <Article PubModel="Print"><Journal><Title>A journal</Title></Journal>
      <ArticleTitle>{title}</ArticleTitle>
      <Abstract>{abstract}</Abstract>
      <AuthorList><Author><LastName>Doe</LastName>
        <AffiliationInfo><Affiliation>Dept of X. doe@example.org</Affiliation></AffiliationInfo></Author></AuthorList>
      <Language>ENG</Language><Language>und</Language>
      <PublicationTypeList><PublicationType UI="D016428">Journal Article</PublicationType></PublicationTypeList>
      <VernacularTitle>Eisenspeicher</VernacularTitle>
    </Article>
    {more}
  </MedlineCitation>
  <PubmedData><ReferenceList><Reference><Citation>An old paper.</Citation>
    <ArticleIdList><ArticleId IdType="pubmed">1</ArticleId></ArticleIdList></Reference></ReferenceList></PubmedData>
</PubmedArticle>"""


def read(tmp_path: Path, *records: str, name: str = "pubmed.xml") -> list[Parsed]:
    path = tmp_path / name
    path.write_text(HEAD + "<PubmedArticleSet>\n" + "\n".join(records) + "\n</PubmedArticleSet>\n", encoding="utf-8")
    return list(parse(path))


def only(tmp_path: Path, record: str) -> Document:
    [item] = read(tmp_path, record)
    assert isinstance(item, Document), item
    return item


def body(tmp_path: Path, abstract: str) -> str:
    """The text without its title."""
    return only(tmp_path, article("T.", abstract)).text.removeprefix("T.\n")


def test_a_record_has_title_abstract_and_where_it_is_from(tmp_path: Path) -> None:
    assert only(tmp_path, article()) == Document(
        id="pubmed:7",
        source="pubmed",
        language="en",
        title="Iron stores",
        text="Iron stores\nIron is stored.",
        url="https://pubmed.ncbi.nlm.nih.gov/7/",
        licence="NLM terms and conditions; the abstract may be under its publisher's copyright",
    )
    assert (SOURCE.name, SOURCE.folder, SOURCE.stage, SOURCE.publisher_ids) == ("pubmed", "pubmed", "pretrain", True)


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("IL-<sub>6</sub> and <i>E. coli</i>, 10<sup>6</sup>, <b>b<u>o</u></b>th", "IL-6 and E. coli, 106, both"),
        ("p &lt; .05 &amp; q &gt; 1, &#945;-helix &#x3b2;", "p < .05 & q > 1, α-helix β"),
        ("line one\n      line two\r\nthree\tfour", "line one line two three four"),
        ("5 mg\u202f/\u2009d\u3000x", "5 mg / d x"),
        ("ze\u200bro wi\u2060dth\ufeff soft\u00adhyphen\u200e", "zero width softhyphen"),
        ("a<!-- no text -->b<?no text?>c<![CDATA[ <d> ]]>", "abc <d>"),
        ("Cut here.(ABSTRACT TRUNCATED AT 250 WORDS)", "Cut here."),
        ("Cut here. (ABSTRACT TRUNCATED)", "Cut here."),
        ("Cut here. ABSTRACT TRUNCATED AT 400 WORDS", "Cut here."),
        ("We say why an abstract truncated so is short.", "We say why an abstract truncated so is short."),
        ("It works. (PsycInfo Database Record (c) 2020 APA, all rights reserved).", "It works."),
        ("It works. Copyright 1999 A House, Inc.", "It works."),
        ("It works. © 2015 The Authors.", "It works."),
        ("The 1998 copyright law (c) changed. It works.", "The 1998 copyright law (c) changed. It works."),
        ("It works. Tel.: +1 555 123 4567; e-mail: a.doe@uni.example.org.", "It works."),
        ("It is free. Contact: a.doe@uni.example.org. It works.", "It is free. It works."),
        ("Fe3O4@SiO2.Significance is high.", "Fe3O4@SiO2.Significance is high."),
    ],
)
def test_inline_markup_white_space_and_foreign_matter(tmp_path: Path, markup: str, text: str) -> None:
    assert body(tmp_path, f"<AbstractText>{markup}</AbstractText>") == text


def test_mathml_becomes_its_text_once(tmp_path: Path) -> None:
    math = """<mml:math{declared}><mml:semantics><mml:mrow>
        <mml:msub> <mml:mi>V</mml:mi> <mml:mn>2</mml:mn> </mml:msub> <mml:mo>=</mml:mo> <mml:mn>5</mml:mn>
        </mml:mrow><mml:annotation>V_2=5</mml:annotation></mml:semantics></mml:math>"""
    declared = math.format(declared=' xmlns:mml="http://www.w3.org/1998/Math/MathML"')
    by_the_dtd = math.format(declared="")
    for formula in (declared, by_the_dtd, f"<DispFormula>{declared}</DispFormula>"):
        assert body(tmp_path, f"<AbstractText>where {formula} holds</AbstractText>") == "where V2=5 holds"


def test_labels(tmp_path: Path) -> None:
    abstract = """<AbstractText Label="AIM" NlmCategory="OBJECTIVE">One.</AbstractText>
        <AbstractText Label="METHODS AND RESULTS:">Two.</AbstractText>
        <AbstractText Label="UNLABELLED" NlmCategory="UNASSIGNED">Three.</AbstractText>
        <AbstractText NlmCategory="RESULTS">Four.</AbstractText>
        <AbstractText Label="EMPTY"> </AbstractText>
        <AbstractText Label="CONTACT">Jane Doe, a street</AbstractText>
        <AbstractText Label="">Five.</AbstractText>
        <CopyrightInformation>Copyright 2020 A House</CopyrightInformation>"""
    assert body(tmp_path, abstract) == "AIM: One.\nMETHODS AND RESULTS: Two.\nThree.\nFour.\nFive."


def test_the_language_is_that_of_the_text(tmp_path: Path) -> None:
    chinese = only(tmp_path, article("[铁的储存]", "<AbstractText>目的：研究铁（Fe）在人体内的储存。</AbstractText>"))
    english = only(
        tmp_path, article("中药 in trials", "<AbstractText>A herb, 黄芪, was tried with α-blockers.</AbstractText>")
    )
    assert (chinese.language, english.language) == ("zh", "en")


def test_what_is_not_the_text(tmp_path: Path) -> None:
    more = """<OtherAbstract Type="Publisher" Language="chi"><AbstractText>铁</AbstractText></OtherAbstract>
        <CommentsCorrectionsList><CommentsCorrections RefType="Cites"><RefSource>J. 1</RefSource>
        <PMID Version="9">99</PMID></CommentsCorrections></CommentsCorrectionsList>
        <CoiStatement>None declared</CoiStatement>"""
    document = only(tmp_path, article(more=more))
    assert (document.id, document.version, document.retracted) == ("pubmed:7", 1, False)
    assert document.text == "Iron stores\nIron is stored."


@pytest.mark.parametrize("abstract", ["", "<AbstractText/>", "<AbstractText> \n\u200b</AbstractText>"])
def test_no_abstract_is_a_reject(tmp_path: Path, abstract: str) -> None:
    other = "<OtherAbstract><AbstractText>Elsewhere</AbstractText></OtherAbstract>"
    record = article(abstract=abstract, more=other)
    for reject in read(tmp_path, record, record.replace(f"<Abstract>{abstract}</Abstract>", "")):
        assert isinstance(reject, Reject)
        assert (reject.reason, reject.id) == ("no abstract", "pubmed:7")


def test_titles(tmp_path: Path) -> None:
    empty = only(tmp_path, article(title=""))
    assert (empty.title, empty.text) == ("", "Iron is stored.")
    missing = only(tmp_path, article().replace("<ArticleTitle>Iron stores</ArticleTitle>", ""))
    assert missing.text == "Iron is stored."
    assert only(tmp_path, article("[On <i>iron</i>].")).title == "[On iron]."


def test_books(tmp_path: Path) -> None:
    chapter = BOOK.format(title="<ArticleTitle>One chapter</ArticleTitle>", abstract=ABSTRACT)
    whole = BOOK.format(title="", abstract=ABSTRACT)
    found = read(tmp_path, article(), chapter, whole, BOOK.format(title="", abstract=""))
    assert [item.id for item in found] == ["pubmed:7", "pubmed:33", "pubmed:33", "pubmed:33"]
    assert [item.text for item in found if isinstance(item, Document)] == [
        "Iron stores\nIron is stored.",
        "One chapter\nIron is stored.",
        "Whole book\nIron is stored.",
    ]


@pytest.mark.parametrize(
    ("more", "retracted"),
    [
        ('<CommentsCorrections RefType="RetractionIn"><RefSource>J</RefSource></CommentsCorrections>', True),
        (
            '<CommentsCorrections RefType="RetractedandRepublishedIn"><RefSource>J</RefSource></CommentsCorrections>',
            True,
        ),
        ('<CommentsCorrections RefType="RetractionOf"><RefSource>J</RefSource></CommentsCorrections>', False),
        ('<CommentsCorrections RefType="ErratumIn"><RefSource>J</RefSource></CommentsCorrections>', False),
    ],
)
def test_retractions_by_link(tmp_path: Path, more: str, retracted: bool) -> None:
    links = f"<CommentsCorrectionsList>{more}</CommentsCorrectionsList>"
    assert only(tmp_path, article(more=links)).retracted is retracted


@pytest.mark.parametrize(
    ("kind", "retracted"), [("Retracted Publication", True), ("Retraction of Publication", False), ("Review", False)]
)
def test_retractions_by_publication_type(tmp_path: Path, kind: str, retracted: bool) -> None:
    assert only(tmp_path, article().replace("Journal Article", kind)).retracted is retracted


def test_deletions_and_versions(tmp_path: Path) -> None:
    deletions = '<DeleteCitation>\n<PMID Version="1">5</PMID>\n<PMID Version="2">0008</PMID></DeleteCitation>'
    document, first, second = read(tmp_path, article(pmid='<PMID Version="3">7</PMID>'), deletions)
    assert isinstance(document, Document)
    assert document.version == 3
    file = str(tmp_path / "pubmed.xml")
    assert first == Deletion(id="pubmed:5", file=file, position="record 2")
    assert second == Deletion(id="pubmed:8", file=file, position="record 3")


@pytest.mark.parametrize("pmid", ["", "<PMID/>", "<PMID>7a</PMID>", "<PMID>٧</PMID>", "<PMID>1234567890</PMID>"])
def test_a_record_without_its_own_pmid_is_a_reject(tmp_path: Path, pmid: str) -> None:
    links = '<CommentsCorrectionsList><CommentsCorrections RefType="Cites"><PMID>99</PMID></CommentsCorrections>'
    first, second = read(tmp_path, article(pmid=pmid, more=links + "</CommentsCorrectionsList>"), article())
    assert isinstance(first, Reject)
    assert (first.reason, first.id, first.position) == ("no PMID", None, "record 1")
    assert second.id == "pubmed:7"
    [reject] = read(tmp_path, article(pmid='<PMID Version="x">7</PMID>'))
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.id) == ("no PMID", "pubmed:7")


def test_gzip_is_known_by_its_bytes_and_md5_by_its_sidecar(tmp_path: Path) -> None:
    expected = read(tmp_path, article())
    data = igzip.compress((tmp_path / "pubmed.xml").read_bytes())
    path = tmp_path / "pubmed26n0001.xml.gz"
    path.write_bytes(data)
    sidecar = tmp_path / "pubmed26n0001.xml.gz.md5"
    for text in ("MD5(pubmed26n0001.xml.gz)= {}\n", "{}  pubmed26n0001.xml.gz\n", "{}"):
        sidecar.write_text(text.format(hashlib.md5(data).hexdigest()))
        assert list(parse(path)) == expected
    sidecar.write_text("MD5(pubmed26n0001.xml.gz)= " + "0" * 32)
    with pytest.raises(UnreadableFileError, match="does not match its sidecar"):
        list(parse(path))
    sidecar.unlink()
    plain_named_gz = tmp_path / "plain.xml.gz"
    plain_named_gz.write_bytes((tmp_path / "pubmed.xml").read_bytes())
    assert list(parse(plain_named_gz)) == expected


def test_every_record_of_the_real_files_is_accounted_for(samples: Path) -> None:
    counts: Counter[str] = Counter()
    for path in sorted((samples / "pubmed").rglob("*.xml*")):
        data = path.read_bytes()
        data = igzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        records = len(re.findall(rb"<(?:PubmedArticle|PubmedBookArticle)>", data))
        lists = re.findall(rb"<DeleteCitation>.*?</DeleteCitation>", data, re.DOTALL)
        found = list(parse(path))
        deletions = [item for item in found if isinstance(item, Deletion)]
        assert len(deletions) == sum(one.count(b"<PMID ") for one in lists), path.name
        rest = [item for item in found if not isinstance(item, Deletion)]
        assert len(rest) == max(records, 1), path.name
        own = re.findall(rb"<MedlineCitation[^>]*>\s*<PMID[^>]*>(\d+)</PMID>", data)
        assert [item.id for item in rest if item.id] == [f"pubmed:{pmid.decode()}" for pmid in own], path.name
        counts.update(item.reason if isinstance(item, Reject) else type(item).__name__ for item in found)
    assert counts.total() > 150
    assert set(counts) <= {"Document", "Deletion", "no abstract", "no PMID", "no records in file"}
