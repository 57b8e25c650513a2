"""The English demo inputs: in the official formats, with their oddities, and no two texts alike."""

import gzip
import hashlib
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

SHINGLE_WORDS = 5
JACCARD_LIMIT = 0.5
WORD_LIMIT = 300
"""Well below the 450 tokens that a demo training row may have."""

STUDY_TEXTS = (
    "descriptionModule",
    "conditionsModule",
    "armsInterventionsModule",
    "outcomesModule",
    "eligibilityModule",
)


@pytest.fixture(scope="module")
def demo(repository: Path) -> Path:
    return repository / "include" / "datasets" / "demo"


def _articles(demo: Path) -> tuple[etree._Element, etree._Element]:
    first = etree.fromstring(gzip.decompress((demo / "pubmed" / "medllm24n0001.xml.gz").read_bytes()))
    return first, etree.parse(demo / "pubmed" / "updates.xml").getroot()


def _pmid(record: etree._Element) -> str:
    return record.findtext("MedlineCitation/PMID") or record.findtext("BookDocument/PMID") or ""


def _plain(element: etree._Element) -> str:
    return "".join(map(str, element.itertext()))


def _abstract(record: etree._Element) -> str:
    return " ".join(_plain(e) for a in record.iter("Abstract") for e in a.iterfind("AbstractText")).strip()


def _studies(demo: Path) -> Iterator[dict[str, Any]]:
    folder = demo / "clinicaltrials"
    yield from json.loads((folder / "page-1.json").read_bytes())["studies"]
    for path in sorted(folder.glob("NCT*.json")):
        yield json.loads(path.read_bytes())
    with zipfile.ZipFile(folder / "studies.zip") as archive:
        for name in archive.namelist():
            yield json.loads(archive.read(name))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _study_text(study: dict[str, Any]) -> str:
    protocol = study["protocolSection"]
    modules = [protocol.get(module, {}) for module in STUDY_TEXTS]
    return "\n".join([protocol["identificationModule"]["briefTitle"], *_strings(modules)])


def _rows(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    rows, broken = [], []
    for line in path.read_text("utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            broken.append(line)
    return rows, broken


def _texts(demo: Path) -> list[tuple[str, str]]:
    """Each text with the name it is known by; a later version of a PMID has the name of the earlier one."""
    texts = []
    for root in _articles(demo):
        for record in root:
            if abstract := _abstract(record):
                title = record.find(".//ArticleTitle")
                texts.append((f"pubmed:{_pmid(record)}", ("" if title is None else _plain(title)) + "\n" + abstract))
    texts += [(s["protocolSection"]["identificationModule"]["nctId"], _study_text(s)) for s in _studies(demo)]
    for file in ("alpaca_en.jsonl", "deepctrl_en.jsonl"):
        for row in _rows(demo / "sft" / file)[0]:
            turns = [turn for pair in row.get("history", []) for turn in pair]
            text = "\n".join([*turns, row["instruction"], row["input"], row["output"]])
            texts.append((f"{file}:{hashlib.md5(text.encode()).hexdigest()}", text))
    return texts


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = text.lower().split()
    return frozenset(tuple(words[at : at + SHINGLE_WORDS]) for at in range(max(1, len(words) - SHINGLE_WORDS + 1)))


def _alike(texts: list[tuple[str, str]]) -> list[tuple[str, str, float]]:
    sets = [(name, _shingles(text)) for name, text in texts]
    found = []
    for (one, left), (other, right) in combinations(sets, 2):
        common = len(left & right)
        share = common / (len(left) + len(right) - common)
        if share > JACCARD_LIMIT and one != other:
            found.append((one, other, round(share, 2)))
    return found


def test_the_md5_sidecar_agrees_with_its_file(demo: Path) -> None:
    path = demo / "pubmed" / "medllm24n0001.xml.gz"
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    assert path.with_name(f"{path.name}.md5").read_text("ascii") == f"MD5({path.name})= {digest}\n"


def test_the_archives_carry_no_time_of_their_making(demo: Path) -> None:
    assert (demo / "pubmed" / "medllm24n0001.xml.gz").read_bytes()[4:8] == bytes(4)
    with zipfile.ZipFile(demo / "clinicaltrials" / "studies.zip") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(2024, 1, 31, 0, 0, 0)}


def test_no_two_texts_are_alike(demo: Path) -> None:
    texts = _texts(demo)
    assert len(texts) > 250
    assert _alike(texts) == []


def test_the_measure_sees_a_text_with_a_few_words_changed(demo: Path) -> None:
    name, text = _texts(demo)[0]
    assert _alike([(name, text), ("other", text.replace("villages", "hamlets"))])


def test_every_text_fits_a_training_row(demo: Path) -> None:
    assert {name: len(text.split()) for name, text in _texts(demo) if len(text.split()) > WORD_LIMIT} == {}


def test_there_is_enough_to_learn_from(demo: Path) -> None:
    first, updates = _articles(demo)
    assert len({_pmid(record) for root in (first, updates) for record in root if _abstract(record)}) >= 80
    assert sum("descriptionModule" in study["protocolSection"] for study in _studies(demo)) == 40
    assert len({(row["instruction"], row["input"]) for row in _rows(demo / "sft" / "alpaca_en.jsonl")[0]}) >= 80
    assert len(_rows(demo / "sft" / "deepctrl_en.jsonl")[0]) >= 36


def test_pubmed_has_its_oddities(demo: Path) -> None:
    first, _ = _articles(demo)
    tags = Counter(etree.QName(element).localname for element in first.iter() if isinstance(element.tag, str))
    for tag in ("i", "sub", "sup", "b", "math", "OtherAbstract", "VernacularTitle", "MedlineDate", "PubmedBookArticle"):
        assert tags[tag], tag
    for tag in ("CopyrightInformation", "CommentsCorrections", "ReferenceList", "CollectiveName"):
        assert tags[tag], tag
    records = list(first)
    abstracts = [element for record in records for element in record.iter("AbstractText")]
    assert any(element.get("Label") == "UNLABELLED" for element in abstracts)
    assert any(element.get("Label") and not element.get("NlmCategory") for element in abstracts)
    assert any(element.get("NlmCategory") for element in abstracts)
    assert {"eng", "ENG", "und", "ger"} <= {element.text for element in first.iter("Language")}
    assert sum(record.find(".//Abstract") is None for record in records) == 1
    assert sum(record.find(".//Abstract") is not None and not _abstract(record) for record in records) == 1
    assert sum(_plain(title) == "" for title in first.iter("ArticleTitle")) == 1
    assert any(_plain(title).startswith("[") for title in first.iter("ArticleTitle"))
    text = etree.tostring(first, encoding="unicode")
    for mark in ("\u00a0", "\u200b", "&lt;", "&amp;", "ABSTRACT TRUNCATED", "Retracted Publication", "RetractionIn"):
        assert mark in text, mark
    assert any("\n" in _plain(element).strip() for element in abstracts)
    own = {_pmid(record) for record in records}
    assert {pmid.text for pmid in first.iter("PMID")} - own, "foreign PMIDs are missing"
    assert {int(pmid) // 1_000_000 for pmid in own} == {90}, "a PMID could be a real one"


def test_the_update_corrects_one_record_and_deletes_another(demo: Path) -> None:
    first, updates = _articles(demo)
    before = {_pmid(record): record for record in first}
    corrected = [record for record in updates.iterfind("PubmedArticle") if _pmid(record) in before]
    assert len(corrected) == 1
    assert corrected[0].findtext("MedlineCitation/PMID") in before
    assert corrected[0].find("MedlineCitation/PMID").get("Version") == "2"  # type: ignore[union-attr]
    assert _abstract(corrected[0]) != _abstract(before[_pmid(corrected[0])])
    deleted = [pmid.text for pmid in updates.iterfind("DeleteCitation/PMID")]
    assert len(deleted) == 1
    assert set(deleted) <= before.keys() - {_pmid(corrected[0])}


def test_the_studies_have_their_oddities(demo: Path) -> None:
    page = json.loads((demo / "clinicaltrials" / "page-1.json").read_bytes())
    assert page["nextPageToken"]
    protocols = [study["protocolSection"] for study in _studies(demo)]
    described = [protocol for protocol in protocols if "descriptionModule" in protocol]
    assert len(protocols) - len(described) == 1
    assert any("detailedDescription" in protocol["descriptionModule"] for protocol in described)
    assert any("phases" not in protocol["designModule"] for protocol in described)
    dates = {protocol["statusModule"].get("startDateStruct", {}).get("date", "") for protocol in described}
    assert {len(date) for date in dates} >= {len("2024-01"), len("2024-01-31")}
    criteria = "".join(protocol["eligibilityModule"]["eligibilityCriteria"] for protocol in described)
    for escaped in ("\\[", "\\]", "\\>", "\\<", "\\(", "\\^"):
        assert escaped in criteria, escaped
    assert any(protocol["contactsLocationsModule"].get("centralContacts") for protocol in described)


def test_contact_data_are_invented_and_stay_out_of_the_texts(demo: Path) -> None:
    first, updates = _articles(demo)
    raw = etree.tostring(first, encoding="unicode") + etree.tostring(updates, encoding="unicode")
    raw += json.dumps(list(_studies(demo)))
    hosts = re.findall(r"[\w.]@([\w.-]*\w)", raw)
    assert set(hosts) == {"example.org"}
    assert len(re.findall(r"\+1-555-01\d\d", raw)) > 20
    assert [name for name, text in _texts(demo) if "@" in text or "555-01" in text] == []


def test_the_alpaca_rows_have_their_oddities(demo: Path) -> None:
    rows, broken = _rows(demo / "sft" / "alpaca_en.jsonl")
    assert len(broken) == 1
    assert Counter(json.dumps(row) for row in rows).most_common(2)[0][1] == 2, "the exact duplicate is missing"
    assert sum(not row["output"] for row in rows) == 1
    assert any(row["input"] for row in rows)
    assert any(not row["input"] for row in rows)
    assert any(not json.dumps(row, ensure_ascii=False).isascii() for row in rows)


def test_the_deepctrl_rows_have_their_oddities(demo: Path) -> None:
    rows, broken = _rows(demo / "sft" / "deepctrl_en.jsonl")
    assert len(broken) == 1
    assert {row["instruction"] for row in rows} == {""}
    assert {row["language"] for row in rows} == {"english"}
    assert max(len(row["history"]) for row in rows) > 1
    assert all(row["num_utter"] == 1 + len(row["history"]) for row in rows)
    assert len({row["id"] for row in rows}) == len(rows)
