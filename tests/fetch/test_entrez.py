"""PubMed by query: slices, pages, limits, errors with status 200, and going on after a kill."""

import datetime
import logging
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from medllm_ops.fetch import entrez
from medllm_ops.fetch.base import FetchedFile, FetchError, Known
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.pubmed import Settings, fetch
from medllm_ops.records import Document
from medllm_ops.sources.pubmed import parse
from servers.base import Fault
from servers.entrez import Entrez, xml_error

TODAY = datetime.date(2026, 3, 1)
LIMIT = 20


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrez, "today", lambda: TODAY)
    monkeypatch.delenv("NCBI_API_KEY", raising=False)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty records are too many for a slice."""
    monkeypatch.setattr(entrez, "LIMIT", LIMIT)


@pytest.fixture
def server() -> Iterator[Entrez]:
    with Entrez(entered={pmid: datetime.date(2026, 1, pmid) for pmid in range(1, 11)}) as made:
        yield made


class Corpus:
    """What a refresh keeps: it applies page by page, and ends as if killed after ``files`` of them."""

    def __init__(self, server: Entrez, folder: Path) -> None:
        self._server, self.folder = server, folder
        self.known = Known()
        self.pmids: list[int] = []

    def refresh(self, files: int | None = None, **settings: Any) -> list[FetchedFile]:
        self._server.searches.clear()
        self._server.pages.clear()
        settings = {"entrez_base_url": self._server.url, "query": "remedy", "requests_per_second": 1e6} | settings
        settings = {"page_size": 4, "until": "2026/02/05"} | settings
        fetched = []
        with Client(attempts=3, first_wait=0.01, longest_wait=2, timeout=1) as client:
            for raw in islice(fetch(Settings(**settings), self.known, self.folder, client), files):
                assert raw.path is not None
                assert raw.path.name == raw.name
                records = [record for record in parse(raw.path) if isinstance(record, Document)]
                self.pmids += [int(record.id.removeprefix("pubmed:")) for record in records]
                fetched.append(raw)
                files_ = {**self.known.files, raw.name: raw.checksum}
                self.known = Known(files_, raw.watermark or {}, "pubmed26")
        return fetched


@pytest.fixture
def corpus(server: Entrez, tmp_path: Path) -> Corpus:
    return Corpus(server, tmp_path)


def days(server: Entrez) -> list[tuple[str, str]]:
    return [(asked["mindate"], asked["maxdate"]) for asked in server.searches]


def test_a_search_comes_in_pages(server: Entrez, corpus: Corpus) -> None:
    fetched = corpus.refresh()
    assert sorted(corpus.pmids) == list(range(1, 11))
    assert days(server) == [("1700/01/01", "2026/02/05")]
    assert [(asked["retstart"], asked["retmax"]) for asked in server.pages] == [("0", "4"), ("4", "4"), ("8", "4")]
    assert all(re.fullmatch(r"entrez-[0-9a-f]{16}-000[123]\.xml", raw.name) for raw in fetched)
    assert len({raw.name for raw in fetched}) == len({raw.checksum for raw in fetched}) == 3
    assert all(len(raw.checksum) == 64 and not raw.generation and not raw.whole for raw in fetched)
    assert "term=remedy" in fetched[0].url
    assert server.searches[0]["tool"] == "medllm-ops"


def test_dates_and_the_query_narrow_the_search(server: Entrez, corpus: Corpus) -> None:
    server.found_by["remedy"] = {2, 4, 6, 8}
    corpus.refresh(since="2026/01/03", until="2026-01-06")
    assert days(server) == [("2026/01/03", "2026/01/06")]
    assert sorted(corpus.pmids) == [4, 6]


def test_nothing_found_is_nothing_fetched(server: Entrez, corpus: Corpus) -> None:
    server.entered.clear()
    assert corpus.refresh() == []
    assert server.pages == []


@pytest.mark.usefixtures("limit")
def test_slices_stay_below_the_limit_and_miss_nothing(server: Entrez, corpus: Corpus) -> None:
    start = datetime.date(2020, 1, 1)
    server.entered = {pmid: start + datetime.timedelta(days=pmid * pmid % 700) for pmid in range(1, 301)}
    fetched = corpus.refresh()
    assert len({raw.name for raw in fetched}) == len(fetched)
    assert sorted(corpus.pmids) == list(range(1, 301))
    assert {int(asked["retstart"]) for asked in server.pages} <= set(range(0, LIMIT - 1, 4))


@pytest.mark.usefixtures("limit")
def test_a_day_with_too_many_is_sliced_by_pmid(server: Entrez, corpus: Corpus) -> None:
    day = datetime.date(2001, 1, 1)
    server.entered = dict.fromkeys(range(30_000_001, 30_000_051), day) | {1: day - datetime.timedelta(days=1)}
    server.found_by["remedy OR cure"] = set(server.entered)
    corpus.refresh(query="remedy OR cure")
    assert sorted(corpus.pmids) == sorted(server.entered)
    assert any(re.fullmatch(r"\(remedy OR cure\) AND \d+:\d+\[UID\]", asked["term"]) for asked in server.searches)


def test_the_real_limit_is_below_what_a_search_gives_out(server: Entrez, corpus: Corpus) -> None:
    server.entered = {pmid: datetime.date(2026, 1, 1 + pmid % 2) for pmid in range(1, 10_000)}
    assert len(corpus.refresh(page_size=500, max_files=1)) == 1
    assert days(server)[0] == ("1700/01/01", "2026/02/05")
    assert len(server.searches) > 2
    corpus.refresh(page_size=500)
    assert sorted(corpus.pmids) == list(range(1, 10_000))


@pytest.mark.usefixtures("limit")
def test_a_server_that_ignores_dates_is_found_out(
    server: Entrez, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = server._search
    everything = {"mindate": "1700/01/01", "maxdate": "2026/12/31", "term": "remedy"}
    monkeypatch.setattr(server, "_search", lambda parameters: search(parameters | everything))
    server.entered = dict.fromkeys(range(1, 31), datetime.date(2026, 1, 1))
    with pytest.raises(FetchError, match="finds 20 records or more with one PMID: it ignores dates and PMIDs"):
        corpus.refresh()


def test_the_same_dates_again_fetch_nothing(server: Entrez, corpus: Corpus) -> None:
    corpus.refresh()
    assert corpus.refresh() == []
    assert (server.searches, server.pages) == ([], [])
    assert corpus.refresh(until=None) == corpus.refresh(until=None) == []
    corpus.refresh(query="other", until=None)
    assert corpus.refresh(query="other", until=None) == []
    assert days(server) == [("2026/02/27", "2026/03/01")]
    assert all(row["done"] for row in corpus.known.watermark["entrez"].values())


def test_a_later_date_fetches_only_what_is_new(server: Entrez, corpus: Corpus) -> None:
    corpus.refresh(until="2026-01-06")
    corpus.pmids.clear()
    corpus.refresh()
    assert days(server) == [("2026/01/07", "2026/02/05")]
    assert sorted(corpus.pmids) == [7, 8, 9, 10]


def test_days_that_were_not_over_are_read_again_if_they_grew(
    server: Entrez, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.entered |= {20: TODAY - datetime.timedelta(days=2), 21: TODAY}
    corpus.refresh(until=None)
    assert days(server) == [("1700/01/01", "2026/02/26"), ("2026/02/27", "2026/03/01")]
    assert corpus.refresh(until=None) == []
    assert len(server.searches) == 1
    server.entered[22] = TODAY
    assert corpus.refresh(until="2026-02-28") == []
    assert server.searches == []
    monkeypatch.setattr(entrez, "today", lambda: TODAY + datetime.timedelta(days=30))
    server.entered[23] = TODAY + datetime.timedelta(days=9)
    corpus.pmids.clear()
    corpus.refresh(until=None)
    assert sorted(corpus.pmids) == [20, 21, 22, 23]
    corpus.pmids.clear()
    assert corpus.refresh(until=None) == []


def test_another_query_or_an_earlier_since_begins_anew_and_comes_back(server: Entrez, corpus: Corpus) -> None:
    corpus.refresh(since="2026-01-05")
    assert corpus.refresh(since="2026-01-07") == []
    assert len(corpus.refresh(query="other")) == 3
    assert corpus.refresh(since="2026-01-05") == []
    corpus.pmids.clear()
    corpus.refresh(since="2026-01-04")
    assert sorted(corpus.pmids) == list(range(4, 11))


def test_the_watermark_of_the_mirror_is_kept(corpus: Corpus) -> None:
    corpus.known = Known(watermark={"mirror": {"complete": "pubmed26", "again": None}})
    corpus.refresh()
    assert corpus.known.watermark["mirror"] == {"complete": "pubmed26", "again": None}


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("files", range(1, 24))
def test_after_a_kill_it_goes_on_with_the_next_page(server: Entrez, corpus: Corpus, files: int) -> None:
    start = datetime.date(2020, 1, 1)
    server.entered = {pmid: start + datetime.timedelta(days=pmid // 30 * 40) for pmid in range(1, 86)}
    corpus.refresh(files)
    server.forget()
    corpus.refresh()
    assert sorted(corpus.pmids) == list(range(1, 86))
    assert ("1700/01/01", "2026/02/05") not in days(server)
    assert corpus.refresh() == []


@pytest.mark.usefixtures("limit")
def test_a_slice_that_grew_too_large_since_the_kill_is_sliced(server: Entrez, corpus: Corpus) -> None:
    corpus.refresh(1)
    server.entered |= {pmid: datetime.date(2025, 1, pmid - 10) for pmid in range(11, 31)}
    corpus.pmids.clear()
    corpus.refresh()
    assert sorted(corpus.pmids) == list(range(1, 31))
    assert max(int(asked["retstart"]) for asked in server.pages) + 4 <= LIMIT


def test_a_slice_that_changed_since_the_kill_is_read_anew(
    server: Entrez, corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    corpus.refresh(2)
    server.entered[11] = datetime.date(2026, 1, 3)
    corpus.pmids.clear()
    corpus.refresh()
    assert sorted(corpus.pmids) == list(range(1, 12))
    assert "1700-01-01 to 2026-02-05 has 11 records now, 10 before: it is read anew" in caplog.text


def test_another_page_size_since_the_kill_reads_the_slice_anew(corpus: Corpus) -> None:
    corpus.refresh(1)
    corpus.pmids.clear()
    corpus.refresh(page_size=3)
    assert sorted(corpus.pmids) == list(range(1, 11))


def test_an_expired_search_is_made_again(server: Entrez, corpus: Corpus) -> None:
    server.before_page = lambda number: server.forget() if number == 1 and len(server.searches) == 1 else None
    corpus.refresh()
    assert sorted(corpus.pmids) == list(range(1, 11))
    assert len(server.searches) == 2


def test_a_search_that_expires_again_and_again_ends_in_one_sentence(server: Entrez, corpus: Corpus) -> None:
    server.before_page = lambda number: server.forget()
    with pytest.raises(FetchError, match=r"efetch.fcgi: Unable to obtain query #1, twice: what came before is kept"):
        corpus.refresh()


def test_a_killed_window_is_finished_before_a_newer_one_begins(server: Entrez, corpus: Corpus) -> None:
    corpus.refresh(1, until="2026-01-06")
    corpus.refresh()
    assert days(server) == [("1700/01/01", "2026/01/06"), ("2026/01/07", "2026/02/05")]
    assert sorted(corpus.pmids) == list(range(1, 11))


@pytest.mark.parametrize(
    ("program", "body"),
    [
        ("esearch.fcgi", b'{"esearchresult": {"ERROR": "Search Backend failed: the address table is empty.\t"}}'),
        ("esearch.fcgi", b'{"error": "API rate limit exceeded", "api-key": "127.0.0.1"}'),
        ("esearch.fcgi", b'{"esearchresult": {"count": "3"'),
        ("esearch.fcgi", b'{"esearchresult": {"count": "3"}}'),
        ("esearch.fcgi", b'{"esearchresult": {"ERROR": "Unable to obtain query #1"}}'),
        ("esearch.fcgi", b"[]"),
        ("esearch.fcgi", b'{"esearchresult": []}'),
        ("efetch.fcgi", xml_error("Can't run executor").body),
        ("efetch.fcgi", b'{"error":"API rate limit exceeded","count":"11"}'),
        ("efetch.fcgi", b"<html><body>Sorry</body></html>"),
        ("efetch.fcgi", b"<PubmedArticleSet><PubmedArticle>"),
        ("efetch.fcgi", b"<PubmedArticleSet></PubmedArticleSet>"),
    ],
)
def test_a_passing_error_with_status_200_is_tried_again(
    server: Entrez, corpus: Corpus, program: str, body: bytes
) -> None:
    server.said = [(program, body)] * 2
    corpus.refresh()
    assert sorted(corpus.pmids) == list(range(1, 11))
    assert server.said == []


def test_a_lasting_error_with_status_200_ends_in_one_sentence(server: Entrez, corpus: Corpus) -> None:
    server.said = [("efetch.fcgi", xml_error("Server is busy").body)] * 3
    with pytest.raises(FetchError, match=r"efetch.fcgi: Server is busy, after 3 tries; what came before is kept"):
        corpus.refresh()


@pytest.mark.parametrize(
    "fault", [Fault(status=429, retry_after="0"), Fault(status=503), Fault(cut=30), Fault(html=True)], ids=str
)
@pytest.mark.parametrize("path", ["esearch", "efetch"])
def test_a_passing_fault_changes_nothing(server: Entrez, corpus: Corpus, path: str, fault: Fault) -> None:
    server.fail(path, fault)
    corpus.refresh()
    assert sorted(corpus.pmids) == list(range(1, 11))


def test_a_field_that_pubmed_does_not_know_is_refused(server: Entrez, corpus: Corpus) -> None:
    server.errors = {"phrasesnotfound": [], "fieldsnotfound": ["titel"]}
    with pytest.raises(FetchError, match="PubMed knows no field titel: correct the query"):
        corpus.refresh()


def test_a_phrase_that_pubmed_does_not_find_is_told(
    server: Entrez, corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    server.errors = {"phrasesnotfound": ["remdy"], "fieldsnotfound": []}
    corpus.refresh(until=None)
    assert len(server.searches) == 2
    assert caplog.text.count("PubMed says of the query: phrase not found: remdy") == 1


def test_a_page_that_holds_fewer_than_asked_for_is_told(
    server: Entrez, corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    server.omitted = {9}
    corpus.refresh()
    assert sorted(corpus.pmids) == [*range(1, 9), 10]
    assert "page 1 of 1700-01-01 to 2026-02-05 holds 3 records instead of 4" in caplog.text
    assert len(server.pages) == 4  # the short one is asked for twice


def test_more_requests_than_allowed_are_refused_and_waited_for(server: Entrez, corpus: Corpus) -> None:
    server.rate = 3
    corpus.refresh()
    assert server.refused > 0
    assert sorted(corpus.pmids) == list(range(1, 11))


@pytest.mark.parametrize(("key", "rate"), [(None, 3), ("abc", 10)])
def test_requests_keep_to_the_rate(server: Entrez, tmp_path: Path, key: str | None, rate: int) -> None:
    with Client() as client:
        settings = Settings(entrez_base_url=server.url, query="remedy", api_key=key)  # type: ignore[arg-type]
        fetch(settings, Known(), tmp_path, client)
        assert client.pause == (1 / rate, 1 / rate)


def test_the_key_and_the_address_are_sent_and_never_told(
    server: Entrez, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")  # the command line quiets it
    monkeypatch.setenv("NCBI_API_KEY", "s3cret-key")
    server.keys = ("s3cret-key",)
    fetched = corpus.refresh(email="me@example.org")
    assert {asked["api_key"] for asked in [*server.searches, *server.pages]} == {"s3cret-key"}
    assert server.pages[0]["email"] == "me@example.org"
    assert "api_key=(secret)" in caplog.text
    told = [caplog.text, str(fetched), str(Settings(api_key="s3cret-key")), str(dict(corpus.known.watermark))]  # type: ignore[arg-type]
    assert not any("s3cret" in text for text in told)
    with pytest.raises(FetchError, match=r"esearch.fcgi: API key invalid; check api_key") as error:
        corpus.refresh(query="other", api_key="wr0ng")
    assert "wr0ng" not in str(error.value)
    assert "wr0ng" not in caplog.text


def test_a_refused_request_says_why(server: Entrez, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_fetch", lambda parameters: xml_error("Temporarily &amp; sorry", 400))
    with pytest.raises(FetchError, match=r"efetch.fcgi: status 400 Bad Request \(Temporarily & sorry\); what came"):
        corpus.refresh()
    monkeypatch.setattr(server, "_search", lambda parameters: xml_error("no", 404))
    with pytest.raises(FetchError, match=r"esearch.fcgi: no; check the query"):
        corpus.refresh()


def test_a_search_lost_with_status_400_is_made_again(
    server: Entrez, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = server._fetch
    lost = iter([xml_error("Cannot retrieve history data. query_key: 1", 400)])
    monkeypatch.setattr(server, "_fetch", lambda parameters: next(lost, None) or whole(parameters))
    corpus.refresh()
    assert sorted(corpus.pmids) == list(range(1, 11))


def test_max_files_stops_and_goes_on(corpus: Corpus) -> None:
    assert [len(corpus.refresh(max_files=2)) for _ in range(3)] == [2, 1, 0]
    assert sorted(corpus.pmids) == list(range(1, 11))


def test_the_url_of_a_page_is_its_search(server: Entrez, corpus: Corpus) -> None:
    url = httpx.URL(corpus.refresh(query="a & b")[0].url)
    assert url.path == "/esearch.fcgi"
    assert dict(url.params) == {
        "db": "pubmed",
        "term": "a & b",
        "datetype": "edat",
        "mindate": "1700/01/01",
        "maxdate": "2026/02/05",
    }
