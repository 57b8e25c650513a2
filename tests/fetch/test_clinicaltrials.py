"""The ClinicalTrials.gov fetcher against a server that speaks the API and fails as it is told."""

import datetime
import logging
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medllm_ops.fetch.base import FetchedFile, FetchError, Known
from medllm_ops.fetch.clinicaltrials import Settings, fetch
from medllm_ops.fetch.http import Client
from medllm_ops.records import Document
from medllm_ops.sources.clinicaltrials import parse
from servers.base import Fault
from servers.clinicaltrials import ClinicalTrials, study

STUDIES = [study(number, f"2026-06-{number:02}") for number in range(1, 8)]
IDS = [f"clinicaltrials:NCT{number:08}" for number in range(1, 8)]
FIRST = Known()


@pytest.fixture
def register() -> Iterator[ClinicalTrials]:
    with ClinicalTrials(list(STUDIES)) as server:
        yield server


class Corpus:
    """What a refresh keeps: it applies the files in order, and ends as if killed after ``files`` of them."""

    def __init__(self, register: ClinicalTrials, client: Client, folder: Path) -> None:
        self._register, self._client, self._folder = register, client, folder
        self.known = FIRST
        self.records: dict[str, Document] = {}
        self.names: list[str] = []

    def refresh(self, files: int | None = None, **settings: Any) -> list[FetchedFile]:
        settings = {"base_url": self._register.url + "api/v2/", "page_size": 3, "requests_per_minute": 1e6} | settings
        fetched = []
        for raw in islice(fetch(Settings(**settings), self.known, self._folder, self._client), files):
            self._apply(raw)
            fetched.append(raw)
        return fetched

    def _apply(self, raw: FetchedFile) -> None:
        assert raw.path is not None
        for item in parse(raw.path):
            assert isinstance(item, Document)
            self.records[item.id] = item
        self.names.append(raw.name)
        files = {**self.known.files, raw.name: raw.checksum}
        watermark = self.known.watermark if raw.watermark is None else raw.watermark
        self.known = Known(files, watermark, raw.generation or self.known.generation)


@pytest.fixture
def corpus(register: ClinicalTrials, client: Client, tmp_path: Path) -> Corpus:
    return Corpus(register, client, tmp_path)


def test_all_studies_come_in_pages_with_the_same_parameters(register: ClinicalTrials, corpus: Corpus) -> None:
    fetched = corpus.refresh()
    assert list(corpus.records) == IDS
    assert [raw.name for raw in fetched] == [f"studies-2026-07-01-all-0000{page}.json" for page in (1, 2, 3)]
    first, *others = register.asked
    assert first == {"format": "json", "pageSize": "3", "countTotal": "true"}
    assert [{**asked, "pageToken": ""} for asked in others] == [
        {"format": "json", "pageSize": "3", "pageToken": ""}
    ] * 2
    assert all(len(raw.checksum) == 64 and "/studies?" in raw.url and not raw.whole for raw in fetched)


def test_nothing_new_asks_for_the_version_only(register: ClinicalTrials, corpus: Corpus) -> None:
    corpus.refresh()
    register.requests.clear()
    assert corpus.refresh() == []
    assert register.requests == ["/api/v2/version"]


def test_the_next_refresh_begins_at_the_day_of_the_last_one(register: ClinicalTrials, corpus: Corpus) -> None:
    corpus.refresh()
    # Posted on the day of the first refresh, but after it.
    register.studies += [study(8, "2026-07-01"), study(1, "2026-08-01", "Better?")]
    register.timestamp = "2026-08-02T09:00:05"
    register.asked.clear()
    [raw] = corpus.refresh()
    assert register.asked[0]["filter.advanced"] == "AREA[LastUpdatePostDate]RANGE[2026-07-01,MAX]"
    assert raw.name == "studies-2026-08-02-2026-07-01-00001.json"
    assert list(corpus.records) == [*IDS, "clinicaltrials:NCT00000008"]
    assert "Better?" in corpus.records[IDS[0]].text
    assert corpus.refresh() == []


def test_the_first_window_may_begin_at_a_day(register: ClinicalTrials, corpus: Corpus) -> None:
    corpus.refresh(since="2026-06-05")
    assert list(corpus.records) == IDS[4:]
    assert corpus.names[0] == "studies-2026-07-01-2026-06-05-00001.json"
    # A later day is covered already; an earlier one is not.
    assert corpus.refresh(since="2026-06-06") == []
    corpus.refresh(since=datetime.date(2026, 6, 2))
    assert sorted(corpus.records) == IDS[1:]
    corpus.refresh()
    assert sorted(corpus.records) == IDS
    assert corpus.refresh(since="2026-06-05") == []


def test_another_query_begins_anew(register: ClinicalTrials, corpus: Corpus) -> None:
    register.studies.append(study(8, "2026-06-08", "cough"))
    corpus.refresh(query="cough")
    assert list(corpus.records) == ["clinicaltrials:NCT00000008"]
    assert len(corpus.refresh()) == 3
    assert sorted(corpus.records) == [*IDS, "clinicaltrials:NCT00000008"]


@pytest.mark.parametrize("killed_after", [1, 2])
def test_a_killed_refresh_goes_on_with_its_token(register: ClinicalTrials, corpus: Corpus, killed_after: int) -> None:
    corpus.refresh(killed_after)
    register.requests.clear()
    assert len(corpus.refresh()) == 3 - killed_after
    assert all("pageToken=" in path for path in register.requests)
    assert list(corpus.records) == IDS
    assert corpus.names == sorted(set(corpus.names))
    assert corpus.refresh() == []


def test_a_refused_token_begins_the_window_again(register: ClinicalTrials, corpus: Corpus) -> None:
    corpus.refresh(2)
    register.tokens_of = "b"
    register.timestamp = "2026-07-03T09:00:05"
    register.studies.append(study(8, "2026-07-03"))
    assert [raw.name[-10:-5] for raw in corpus.refresh()] == ["00001", "00002", "00003"]
    assert list(corpus.records) == [*IDS, "clinicaltrials:NCT00000008"]
    assert corpus.known.watermark["since"] == "2026-07-03"
    assert corpus.refresh() == []


def test_a_token_that_is_always_refused_ends_the_refresh(register: ClinicalTrials, corpus: Corpus) -> None:
    register.fail("pageToken", Fault(status=400), times=None)
    with pytest.raises(FetchError, match=r"status 400.*check the setting query"):
        corpus.refresh()
    assert corpus.names == ["studies-2026-07-01-all-00001.json"] * 2
    register.heal()
    corpus.refresh()
    assert list(corpus.records) == IDS


def test_another_page_size_begins_the_window_again(register: ClinicalTrials, corpus: Corpus) -> None:
    corpus.refresh(1)
    register.requests.clear()
    assert len(corpus.refresh(page_size=4)) == 2
    assert len(register.requests) == 3  # the token is not even tried
    assert sorted(corpus.records) == IDS


def test_a_query_that_the_api_refuses_is_named(corpus: Corpus) -> None:
    with pytest.raises(FetchError, match=r"status 400.*query \('\('\)"):
        corpus.refresh(query="(")


def test_data_renewed_between_two_pages_belong_to_the_next_window(register: ClinicalTrials, corpus: Corpus) -> None:
    corpus.refresh(1)
    register.timestamp = "2026-07-02T09:00:05"
    register.studies.append(study(3, "2026-07-02", "Changed?"))
    corpus.refresh()
    assert corpus.known.watermark["since"] == "2026-07-01"
    register.asked.clear()
    assert len(corpus.refresh()) == 1
    assert register.asked[0]["filter.advanced"] == "AREA[LastUpdatePostDate]RANGE[2026-07-01,MAX]"
    assert "Changed?" in corpus.records[IDS[2]].text


def test_empty_pages_go_on(register: ClinicalTrials, corpus: Corpus) -> None:
    register.empty_pages = (2,)
    assert len(corpus.refresh()) == 4
    assert list(corpus.records) == IDS
    register.studies.clear()
    register.timestamp = "2026-07-05T09:00:05"
    assert len(corpus.refresh()) == 1
    assert corpus.refresh() == []


def test_studies_that_are_missing_from_the_pages_are_told(
    register: ClinicalTrials, corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    corpus.refresh()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    register.total, register.timestamp = 9, "2026-07-02T09:00:05"
    register.studies = [study(number, "2026-07-02") for number in range(1, 8)]
    corpus.refresh(1)
    corpus.refresh()
    assert "named 9 studies updated since 2026-07-01, but its 3 pages hold 7" in caplog.text


def test_max_files_bounds_one_refresh(corpus: Corpus) -> None:
    assert [len(corpus.refresh(max_files=2)) for _ in range(3)] == [2, 1, 0]
    assert list(corpus.records) == IDS


FAULTS = [
    Fault(status=429, retry_after="0"),
    Fault(status=503),
    Fault(cut=40),
    Fault(wrong_length=7),
    Fault(html=True),
    Fault(cut=0),
]


@pytest.mark.parametrize("path", ["version", "countTotal", "pageToken"])
@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_a_fault_that_passes_changes_nothing(register: ClinicalTrials, corpus: Corpus, path: str, fault: Fault) -> None:
    register.fail(path, fault, times=2)
    corpus.refresh()
    assert list(corpus.records) == IDS
    assert len(corpus.names) == 3
    assert len(register.requests) == 6


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_a_fault_that_stays_is_one_sentence_and_the_next_refresh_goes_on(
    register: ClinicalTrials, corpus: Corpus, fault: Fault
) -> None:
    register.fail("pageToken", fault, times=None)
    with pytest.raises(FetchError, match=r"^ClinicalTrials.gov cannot be read: http.*after 3 tries; what came before"):
        corpus.refresh()
    assert list(corpus.records) == IDS[:3]
    register.heal()
    corpus.refresh()
    assert list(corpus.records) == IDS
    assert len(corpus.names) == 3


def test_a_slow_drip_is_given_up(register: ClinicalTrials, tmp_path: Path) -> None:
    register.fail("studies", Fault(slow=500), times=1)
    with Client(attempts=3, first_wait=0.01, timeout=0.2) as client:
        corpus = Corpus(register, client, tmp_path)
        corpus.refresh()
    assert list(corpus.records) == IDS
    assert len(register.asked) == 4


@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [("timestamp", None, "no dataTimestamp"), ("timestamp", "soon", "soon"), ("studies", {}, "no list of studies")],
)
def test_an_answer_of_another_form_is_one_sentence(
    register: ClinicalTrials, corpus: Corpus, attribute: str, value: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setattr(register, attribute, value)
    monkeypatch.setattr(register, "_found", lambda _: _NoStudies())
    with pytest.raises(FetchError, match=reason):
        corpus.refresh()


class _NoStudies(list[Any]):
    """Becomes an object where the list of studies belongs."""

    def __getitem__(self, _: Any) -> Any:
        return {"none": True}


def test_the_rate_is_kept(register: ClinicalTrials, corpus: Corpus, client: Client) -> None:
    corpus.refresh(0, requests_per_minute=50)
    assert client.pause == (1.2, 1.2)


def test_the_bulk_zip_is_a_whole_generation(register: ClinicalTrials, corpus: Corpus) -> None:
    [raw] = corpus.refresh(bulk=True)
    assert (raw.name, raw.generation, raw.generation_complete) == ("studies-2026-07-01.json.zip", "2026-07-01", True)
    assert list(corpus.records) == IDS
    register.requests.clear()
    assert corpus.refresh(bulk=True) == []
    assert register.requests == ["/api/v2/version"]
    # Pages go on where the zip ended.
    assert corpus.refresh() == []
    register.timestamp = "2026-07-02T09:00:05"
    corpus.refresh()
    assert register.asked[0]["filter.advanced"] == "AREA[LastUpdatePostDate]RANGE[2026-07-01,MAX]"
    assert corpus.refresh(bulk=True)[0].generation == "2026-07-02"


@pytest.mark.parametrize("fault", [Fault(cut=300), Fault(status=503), Fault(html=True), Fault(corrupt=True)], ids=repr)
def test_the_bulk_zip_arrives_whole(register: ClinicalTrials, corpus: Corpus, fault: Fault) -> None:
    register.fail("download", fault)
    corpus.refresh(bulk=True)
    assert list(corpus.records) == IDS
    assert sum("download" in path for path in register.requests) == 2


def test_a_half_download_is_gone_on_with_by_the_next_refresh(register: ClinicalTrials, corpus: Corpus) -> None:
    register.studies[0] = study(1, "2026-06-01", random.Random(1).randbytes(400_000).hex())
    register.fail("download", Fault(cut=300_000))
    register.fail("download", Fault(status=404))
    with pytest.raises(FetchError, match="404"):
        corpus.refresh(bulk=True)
    register.headers.clear()
    corpus.refresh(bulk=True)
    assert [headers.get("range") for headers in register.headers] == [None, "bytes=300000-"]
    assert list(corpus.records) == IDS


def test_a_zip_that_is_fetched_but_not_applied_is_not_fetched_again(register: ClinicalTrials, corpus: Corpus) -> None:
    corpus.refresh(bulk=True)
    corpus.known = FIRST
    register.requests.clear()
    assert [raw.name for raw in corpus.refresh(bulk=True)] == ["studies-2026-07-01.json.zip"]
    assert register.requests == ["/api/v2/version"]


@pytest.mark.parametrize("content", [b"PK\x03\x04 but no list of members", None])
def test_what_is_no_zip_of_studies_is_refused(
    register: ClinicalTrials, corpus: Corpus, tmp_path: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    register.studies.clear()
    if content:
        monkeypatch.setattr(register, "zip", lambda: content)
    with pytest.raises(FetchError, match=r"the zip (is not whole|holds no study).*twice"):
        corpus.refresh(bulk=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("settings", [{"page_size": 1001}, {"bulk": True, "query": "a"}, {"sinse": "2026-01-01"}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**settings)
