"""The text of a study, and files of studies; damage is in test_study_pages.py."""

import gzip
import io
import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import pytest

from medllm_ops.errors import UnreadableFileError
from medllm_ops.records import Document, Reject
from medllm_ops.sources import archives, clinicaltrials
from medllm_ops.sources.base import Parsed
from medllm_ops.sources.clinicaltrials import SOURCE, parse

CONTACT = {"name": "Jane Doe", "role": "CONTACT", "phone": "555-010-9999", "email": "jane.doe@hospital.example"}
STUDY: dict[str, Any] = {
    "protocolSection": {
        "identificationModule": {
            "nctId": "NCT01234567",
            "organization": {"fullName": "A Hospital", "class": "OTHER"},
            "briefTitle": "Iron for Tiredness",
            "officialTitle": "Oral Iron for Tiredness\nin Adults",
        },
        "statusModule": {"lastUpdatePostDateStruct": {"date": "2024-03-02", "type": "ACTUAL"}},
        "sponsorCollaboratorsModule": {"leadSponsor": {"name": "A Sponsor", "class": "INDUSTRY"}},
        "descriptionModule": {
            "briefSummary": "Does iron help \\[31\\]?\u00a0Call 555-010-9999 or write to jane.doe@hospital.example.",
            "detailedDescription": "First.\n\n\\* Second: Hb \\> 12 g/dl\\_x, a \\\\ b.",
        },
        "conditionsModule": {"conditions": ["Tiredness", "Anaemia"], "keywords": ["iron", ""]},
        "designModule": {
            "studyType": "INTERVENTIONAL",
            "phases": ["PHASE2", "EARLY_PHASE1"],
            "designInfo": {"allocation": "NA", "interventionModel": "SINGLE_GROUP", "primaryPurpose": None},
        },
        "armsInterventionsModule": {
            "armGroups": [{"label": "Iron", "type": "ACTIVE_COMPARATOR", "description": "Daily"}, {"label": "None"}],
            "interventions": [{"type": "DRUG", "name": "Ferrous\u200b sulfate"}],
        },
        "outcomesModule": {
            "primaryOutcomes": [{"measure": "Score", "timeFrame": "12 weeks", "description": "Of 10"}],
            "secondaryOutcomes": [{"measure": "Hb"}],
        },
        "eligibilityModule": {
            "eligibilityCriteria": "Inclusion Criteria:\n\n* Hb \\< 12",
            "sex": "ALL",
            "minimumAge": "18 Years",
        },
        "contactsLocationsModule": {
            "centralContacts": [CONTACT],
            "overallOfficials": [{"name": "Dr Who", "affiliation": "A Clinic", "role": "PRINCIPAL_INVESTIGATOR"}],
            "locations": [{"facility": "A Facility", "city": "Townsville", "contacts": [CONTACT]}],
        },
    },
    "hasResults": False,
}
TEXT = """Oral Iron for Tiredness in Adults
Brief summary: Does iron help [31]? Call or write to
Detailed description:
First.
* Second: Hb > 12 g/dl_x, a \\ b.
Conditions: Tiredness; Anaemia
Keywords: iron
Study type: Interventional
Phase: Phase 2, Early phase 1
Model: Single group
Arms:
* Iron (Active comparator): Daily
* None
Interventions:
* Ferrous sulfate (Drug)
Primary outcomes:
* Score [12 weeks]: Of 10
Secondary outcomes:
* Hb
Eligibility criteria:
Inclusion Criteria:
* Hb < 12
Sex: All
Minimum age: 18 Years"""


def study(number: int = 1234567, **changes: Any) -> dict[str, Any]:
    """The study with modules replaced (``None``: taken out)."""
    new = deepcopy(STUDY)
    new["protocolSection"]["identificationModule"]["nctId"] = f"NCT{number:08}"
    for module, value in changes.items():
        new["protocolSection"][module] = value
        if value is None:
            del new["protocolSection"][module]
    return new


def read(tmp_path: Path, content: Any, name: str = "studies.json") -> list[Parsed]:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
    return list(parse(path))


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def reasons(found: list[Parsed]) -> list[str]:
    return [item.reason for item in found if isinstance(item, Reject)]


def ids(found: list[Parsed]) -> list[str | None]:
    return [item.id for item in found if not isinstance(item, Reject)]


def test_a_study_becomes_its_sections_in_reading_order_without_contacts(tmp_path: Path) -> None:
    [document] = read(tmp_path, STUDY)
    assert isinstance(document, Document)
    assert document.text == TEXT
    assert document == Document(
        id="clinicaltrials:NCT01234567",
        source="clinicaltrials",
        language="en",
        title="Oral Iron for Tiredness in Adults",
        text=TEXT,
        url="https://clinicaltrials.gov/study/NCT01234567",
        licence=clinicaltrials.LICENCE,
        version=738947,
    )
    assert (SOURCE.name, SOURCE.folder, SOURCE.stage, SOURCE.publisher_ids) == (
        "clinicaltrials",
        "clinicaltrials",
        "pretrain",
        True,
    )


def test_single_page_list_and_packed_files_hold_the_same(tmp_path: Path) -> None:
    one, two = study(1), study(2)
    whole = [*read(tmp_path, one), *read(tmp_path, two)]
    page = {"totalCount": 2, "studies": [one, two], "nextPageToken": "abc"}
    for content in ([one, two], page, b"\xef\xbb\xbf" + orjson.dumps(page), gzip.compress(orjson.dumps(page))):
        found = read(tmp_path, content)
        assert [item.id for item in found] == ["clinicaltrials:NCT00000001", "clinicaltrials:NCT00000002"]
        assert [item.text for item in found if isinstance(item, Document)] == [
            item.text for item in whole if isinstance(item, Document)
        ]
    assert reasons(read(tmp_path, [])) == ["no records in file"]


def test_an_empty_page_of_the_api_is_no_damage(tmp_path: Path) -> None:
    assert read(tmp_path, {"studies": []}) == []
    assert read(tmp_path, {"totalCount": 0, "studies": [], "nextPageToken": "abc"}) == []


@pytest.mark.parametrize(
    ("date", "version"),
    [("2024-03-02", 738947), ("2024-03", 738946), ("2024", 738886), ("", 1), ("soon", 1), (None, 1)],
)
def test_versions_are_days(tmp_path: Path, date: str | None, version: int) -> None:
    [document] = read(tmp_path, study(statusModule={"lastUpdatePostDateStruct": {"date": date}}))
    assert isinstance(document, Document)
    assert document.version == version


def test_a_study_without_description_is_a_reject(tmp_path: Path) -> None:
    empty = {"briefSummary": " ", "detailedDescription": None}
    found = read(tmp_path, [study(1, descriptionModule=None), study(2, descriptionModule=empty), study(3)])
    assert reasons(found) == ["no description", "no description"]
    assert [item.id for item in found] == [f"clinicaltrials:NCT0000000{n}" for n in (1, 2, 3)]
    [brief] = read(tmp_path, study(descriptionModule={"briefSummary": "Only this."}))
    assert isinstance(brief, Document)


def test_the_brief_title_serves_where_there_is_no_official_one(tmp_path: Path) -> None:
    [document] = read(tmp_path, study(identificationModule={"nctId": "NCT00000001", "briefTitle": "Short"}))
    assert isinstance(document, Document)
    assert document.title == "Short"


@pytest.mark.parametrize(
    ("broken", "reason", "detail"),
    [
        (study(descriptionModule={"briefSummary": ["a"]}), "malformed study", "briefSummary is a list where a string"),
        (study(conditionsModule={"conditions": "a"}), "malformed study", "conditions is a string where a list"),
        (study(conditionsModule={"conditions": [1]}), "malformed study", "conditions holds a number where a string"),
        (study(outcomesModule=[]), "malformed study", "outcomesModule is a list where an object"),
        (study(outcomesModule={"primaryOutcomes": [None]}), "malformed study", "primaryOutcomes is null where"),
        ({"protocolSection": True}, "malformed study", "protocolSection is a truth value where an object"),
        (7, "malformed study", "study is a number where an object"),
        (None, "malformed study", "study is null where an object"),
        (study(identificationModule={"nctId": "NCT1"}), "no NCT number", "nctId is 'NCT1'"),
        ({}, "no NCT number", "nctId is ''"),
    ],
)
def test_wrong_types_cost_one_study(tmp_path: Path, broken: Any, reason: str, detail: str) -> None:
    found = read(tmp_path, [study(1), broken, study(3)])
    assert ids(found) == ["clinicaltrials:NCT00000001", "clinicaltrials:NCT00000003"]
    reject = found[1]
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.position) == (reason, "record 2")
    assert detail in reject.detail


def test_a_study_nested_deeper_than_orjson_writes_is_a_reject(tmp_path: Path) -> None:
    path = tmp_path / "studies.json"
    deep = b"[" * 300 + b"]" * 300
    empty = orjson.dumps(study(2, descriptionModule=None))
    path.write_bytes(b"[" + orjson.dumps(study(1)) + b"," + empty[:-1] + b',"hasResults":' + deep + b"}]")
    found = list(parse(path))
    assert reasons(found) == ["no description"]
    assert [item.id for item in found] == ["clinicaltrials:NCT00000001", "clinicaltrials:NCT00000002"]


def test_a_zip_gives_its_safe_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1_000_000)
    good = orjson.dumps(study(1))
    members = {
        "ctg/NCT00000001.json": good,
        "../NCT00000002.json": good,
        "/etc/NCT00000003.json": good,
        "C:\\NCT00000004.json": good,
        "a/..\\..\\NCT00000005.json": good,
        "README.txt": b"hello",
        "large.json": b" " * 1_000_001,
        "page.json": orjson.dumps({"studies": [study(6), study(7)]}),
        "broken.json": good[:-20],
        "other.json": b'{"a": 1}',
        "empty.json": b"",
    }
    found = read(tmp_path, zipped(members), "studies.zip")
    assert ids(found) == [f"clinicaltrials:NCT0000000{n}" for n in (1, 6, 7)]
    assert [(item.position, item.reason) for item in found if isinstance(item, Reject)] == [
        ("member ../NCT00000002.json", "unsafe path in archive"),
        ("member /etc/NCT00000003.json", "unsafe path in archive"),
        ("member C:\\NCT00000004.json", "unsafe path in archive"),
        ("member a/..\\..\\NCT00000005.json", "unsafe path in archive"),
        ("member README.txt", "not a data file in archive"),
        ("member large.json", "file in archive too large"),
        ("member broken.json, record 1", "file ends in the middle"),
        ("member other.json", "not a study file in archive"),
        ("member empty.json, record 1", "empty file"),
    ]
    assert reasons(read(tmp_path, zipped({}), "empty.zip")) == ["no records in file"]


def test_files_that_cannot_be_read_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = zipped({"NCT00000001.json": orjson.dumps(study(1))})
    for content, name, reason in (
        (whole[: len(whole) // 2], "half.zip", "not a whole zip file"),
        (b"no zip", "none.zip", "not a whole zip file"),
        (b"<html>503</html>", "studies.json", "is not JSON"),
        (b'{"FullStudiesResponse": {}}', "studies.json", "is not ClinicalTrials.gov v2 JSON"),
        (orjson.dumps(study(1)).decode().encode("utf-16"), "studies.json", "is not JSON in UTF-8"),
    ):
        with pytest.raises(UnreadableFileError, match=reason):
            read(tmp_path, content, name)
    monkeypatch.setattr(clinicaltrials, "MAX_FILE_BYTES", 1 << 20)
    with pytest.raises(UnreadableFileError, match="more than 1 MiB"):
        read(tmp_path, b" " * (1 << 20) + b"[]")
    for path in (tmp_path, tmp_path / "missing.json"):
        with pytest.raises(UnreadableFileError, match="directory"):
            list(parse(path))


def test_every_study_of_the_real_files_is_accounted_for(samples: Path) -> None:
    total = 0
    for path in sorted((samples / "clinicaltrials").rglob("*.json")):
        data = path.read_bytes()
        studies = data.count(b'"identificationModule"')
        found = list(parse(path))
        assert len(found) == studies
        assert set(reasons(found)) <= {"no description"}
        for document in found:
            assert not isinstance(document, Document) or ("@" not in document.text and "\\[" not in document.text)
        total += studies
    assert total == 67
