"""The 中医世家 crawler against a site of our own in both layouts."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medllm_ops.fetch import visits
from medllm_ops.fetch.base import FetchedFile, FetchError, Known
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.tcm_site import Settings, fetch
from medllm_ops.records import Document, Reject
from medllm_ops.sources.tcm_books import parse
from servers.base import Fault
from servers.tcm import SECTION, TcmSite

HERBS = [("甘草", "味甘，性平。"), ("人参", "味甘，微苦。")]


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(attempts=2, first_wait=0.01, longest_wait=2, timeout=1) as made:
        yield made


@pytest.fixture
def site() -> Iterator[TcmSite]:
    with TcmSite() as server:
        yield server


class Corpus:
    """What a refresh keeps: it applies the files in order, and ends as if killed after ``files`` of them."""

    def __init__(self, site: TcmSite, client: Client, folder: Path) -> None:
        self._site, self._client, self._folder = site, client, folder
        self.checksums: dict[str, str] = {}
        self.found: dict[str, list[str]] = {}

    def refresh(self, files: int | None = None, **settings: Any) -> list[FetchedFile]:
        chosen = Settings(**{"base_url": self._site.url, "delay": (0, 0)} | settings)
        fetched = []
        for raw in islice(fetch(chosen, Known(dict(self.checksums)), self._folder, self._client), files):
            self._apply(raw)
            fetched.append(raw)
        return fetched

    def _apply(self, raw: FetchedFile) -> None:
        if raw.path is None:
            del self.checksums[raw.name], self.found[raw.name]
            return
        assert raw.whole
        assert raw.url.endswith(raw.name)
        items = list(parse(raw.path))
        self.checksums[raw.name] = raw.checksum
        self.found[raw.name] = [
            item.text.split("\n")[0] if isinstance(item, Document) else f"{item.reason}: {item.detail}"
            for item in items
            if isinstance(item, Document | Reject)
        ]


@pytest.fixture
def corpus(site: TcmSite, client: Client, tmp_path: Path) -> Corpus:
    return Corpus(site, client, tmp_path)


def names(fetched: list[FetchedFile]) -> list[str]:
    return [raw.name for raw in fetched]


def test_whole_books_are_found_in_all_lists(site: TcmSite, corpus: Corpus) -> None:
    for book, listed in (("jia", "index.html"), ("yi", "index___1.html"), ("bing", "index___2.html")):
        site.add_whole(book, HERBS, listed)
    site.lists["index___1.html"].append("jia")
    site.add_whole("not-listed", HERBS, "index___4.html")
    fetched = corpus.refresh()
    assert names(fetched) == [f"lilunshuji/{book}/quanben.html" for book in ("jia", "yi", "bing")]
    assert corpus.found[fetched[0].name] == ["《jia》甘草", "《jia》人参"]
    assert [len(raw.checksum) for raw in fetched] == [64] * 3
    lists = ["robots.txt", "lilunshuji/index.html", *(f"lilunshuji/index___{number}.html" for number in (1, 2, 3))]
    assert site.requests == [f"/{name}" for name in (*lists, *names(fetched))]


@pytest.mark.parametrize("old_layout", [False, True])
def test_a_book_without_a_whole_page_comes_in_chapters(old_layout: bool, client: Client, tmp_path: Path) -> None:
    with TcmSite(old_layout=old_layout) as site:
        corpus = Corpus(site, client, tmp_path)
        site.add_chapters("jia", HERBS)
        if old_layout:
            site.add_chapters("yi", HERBS[:1], "index_97.html")
        fetched = corpus.refresh()
        assert corpus.found["lilunshuji/jia/2.html"] == ["《jia》人参"]
        chapters = ["lilunshuji/jia/1.html", "lilunshuji/jia/2.html", "lilunshuji/yi/1.html"]
        assert names(fetched) == (chapters if old_layout else chapters[:2])
        assert not [path for path in site.requests if "zhongyaocai" in path or "else" in path]
        # A chapter that came later is found, the others are not asked for again.
        site.requests.clear()
        site.lists["index.html"].remove("jia")
        site.add_chapters("jia", [*HERBS, ("黄芪", "味甘，温。")])
        assert names(corpus.refresh()) == ["lilunshuji/jia/3.html"]
        assert not [path for path in site.requests if path.endswith(("quanben.html", "1.html", "2.html"))][1:]


def test_what_is_known_is_not_fetched_again(site: TcmSite, corpus: Corpus) -> None:
    paths = [site.add_whole(book, HERBS) for book in ("jia", "yi", "bing")]
    assert len(corpus.refresh(1)) == 1
    assert len(corpus.refresh(max_files=1)) == 1
    assert names(corpus.refresh()) == ["lilunshuji/bing/quanben.html"]
    assert corpus.refresh() == []
    assert [site.requests.count(path) for path in paths] == [1, 1, 1]


def test_only_so_many_books(site: TcmSite, corpus: Corpus) -> None:
    for book in ("jia", "yi", "bing"):
        site.add_whole(book, HERBS)
    assert len(corpus.refresh(books=2)) == 2
    assert not [path for path in site.requests if "index___" in path]


def test_a_lost_page_is_one_reject_and_is_asked_for_again(site: TcmSite, corpus: Corpus) -> None:
    for book in ("jia", "yi", "bing", "ding", "wu"):
        site.add_whole(book, HERBS)
    del site.pages[f"{SECTION}yi/quanben.html"]
    site.fail("bing", Fault(status=503), times=None)
    site.pages[f"{SECTION}ding/quanben.html"] = b"<html><body><h1>404</h1></body></html>"
    assert len(corpus.refresh()) == 5
    lost = {name: found[0] for name, found in corpus.found.items() if found[0].startswith("page lost")}
    assert lost == {
        "lilunshuji/yi/quanben.html": "page lost: status 404",
        "lilunshuji/bing/quanben.html": "page lost: status 503",
        "lilunshuji/ding/quanben.html": "page lost: no text where the site has it",
    }
    # Still lost: no news. Then it is there.
    assert corpus.refresh() == []
    site.heal()
    assert names(corpus.refresh()) == ["lilunshuji/bing/quanben.html"]
    assert corpus.found["lilunshuji/bing/quanben.html"] == ["《bing》甘草", "《bing》人参"]
    site.lists["index.html"].remove("yi")
    site.add_chapters("yi", HERBS)
    assert names(corpus.refresh()) == ["lilunshuji/yi/quanben.html", "lilunshuji/yi/1.html", "lilunshuji/yi/2.html"]
    assert "lilunshuji/yi/quanben.html" not in corpus.found


@pytest.mark.parametrize(
    "fault",
    [Fault(status=429, retry_after="0"), Fault(status=500), Fault(cut=30), Fault(wrong_length=5)],
    ids=repr,
)
@pytest.mark.parametrize("path", ["robots", "index.html", "index___1", "quanben"])
def test_a_fault_that_passes_changes_nothing(site: TcmSite, corpus: Corpus, path: str, fault: Fault) -> None:
    site.add_whole("jia", HERBS)
    site.add_whole("yi", HERBS, "index___1.html")
    site.fail(path, fault)
    corpus.refresh()
    assert list(corpus.found.values()) == [["《jia》甘草", "《jia》人参"], ["《yi》甘草", "《yi》人参"]]


def test_a_list_that_is_lost_ends_the_refresh(site: TcmSite, corpus: Corpus) -> None:
    site.add_whole("jia", HERBS)
    site.fail("index___1", Fault(status=503), times=None)
    with pytest.raises(FetchError, match=r"list of books .*index___1.html cannot be read: status 503"):
        corpus.refresh()
    site.heal()
    assert len(corpus.refresh()) == 1


def test_a_site_that_is_down_ends_the_refresh(site: TcmSite, corpus: Corpus) -> None:
    for number in range(6):
        site.add_whole(f"b{number}", HERBS)
    site.fail("/b[1-5]/", Fault(status=503), times=None)
    with pytest.raises(FetchError, match=r"3 pages in a row .*b3.*status 503; what came before is kept"):
        corpus.refresh(lost_in_a_row=3)
    assert len(corpus.found) == 4
    # What is known as lost does not count again, so the crawl gets on.
    corpus.refresh(lost_in_a_row=3)
    assert len(corpus.found) == 6
    site.heal()
    corpus.refresh()
    assert {len(found) for found in corpus.found.values()} == {2}


def test_lost_pages_between_others_do_not_end_it(site: TcmSite, corpus: Corpus) -> None:
    for number in range(6):
        site.add_whole(f"b{number}", HERBS)
    site.fail("/b[024]/", Fault(status=503), times=None)
    assert len(corpus.refresh(lost_in_a_row=2)) == 6


def test_pages_that_the_site_says_are_gone_do_not_end_it(site: TcmSite, corpus: Corpus) -> None:
    for number in range(6):
        site.add_whole(f"b{number}", HERBS)
    site.pages.clear()
    assert len(corpus.refresh(lost_in_a_row=3)) == 6


@pytest.mark.parametrize("page", [b"<html><body><h1>Lucky numbers</h1></body></html>", b""])
def test_a_site_that_is_anothers_now_is_told(site: TcmSite, corpus: Corpus, page: bytes) -> None:
    site.add_whole("jia", HERBS)
    corpus.refresh()
    site.pages = {f"{SECTION}{name}.html": page for name in ("index", "index___1")}
    with pytest.raises(FetchError, match=r"names no book|an empty page"):
        corpus.refresh(revisit_days=1)
    assert corpus.found["lilunshuji/jia/quanben.html"] == ["《jia》甘草", "《jia》人参"]


def test_a_page_that_leads_to_another_site_is_lost(site: TcmSite, corpus: Corpus) -> None:
    path = site.add_whole("jia", HERBS)
    site.redirects[path] = site.url.replace("127.0.0.1", "localhost") + "lilunshuji/index.html"
    corpus.refresh()
    assert corpus.found == {"lilunshuji/jia/quanben.html": ["page lost: it leads to localhost"]}


def test_a_site_that_answers_everything_with_one_page_does_not_go_on_for_ever(site: TcmSite, corpus: Corpus) -> None:
    site.add_whole("jia", HERBS)
    site.answers_everything = True
    assert len(corpus.refresh()) == 1
    assert len([path for path in site.requests if "index___" in path]) == 2


class TestRevisit:
    @pytest.fixture(autouse=True)
    def _clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.day = visits._today()
        monkeypatch.setattr(visits, "_today", lambda: self.day)

    def later(self, days: int) -> None:
        self.day = self.day.fromordinal(self.day.toordinal() + days)

    def test_only_changed_text_is_news(self, site: TcmSite, corpus: Corpus) -> None:
        for book in ("jia", "yi"):
            site.add_whole(book, HERBS)
        corpus.refresh()
        site.advertisement = "<p>买一送一</p>"
        site.lists["index.html"].remove("yi")
        site.add_whole("yi", [*HERBS, ("黄芪", "味甘，温。")])
        assert corpus.refresh() == []
        assert corpus.refresh(revisit_days=1) == []
        self.later(1)
        site.requests.clear()
        assert names(corpus.refresh(revisit_days=1)) == ["lilunshuji/yi/quanben.html"]
        assert len(corpus.found["lilunshuji/yi/quanben.html"]) == 3
        # Visited today, both of them.
        assert corpus.refresh(revisit_days=1) == []
        assert len([path for path in site.requests if "quanben" in path]) == 2

    def test_a_change_that_was_fetched_but_not_applied_is_fetched_again(self, site: TcmSite, corpus: Corpus) -> None:
        site.add_whole("jia", HERBS)
        corpus.refresh()
        before = dict(corpus.checksums)
        site.add_whole("jia", HERBS[:1])
        self.later(1)
        assert len(corpus.refresh(revisit_days=1)) == 1
        corpus.checksums = before
        assert len(corpus.refresh(revisit_days=1)) == 1

    def test_a_lost_record_of_visits_costs_visits_only(self, site: TcmSite, corpus: Corpus, tmp_path: Path) -> None:
        site.add_whole("jia", HERBS)
        corpus.refresh()
        (tmp_path / "visits.jsonl").write_text('["lilunshuji/jia/qua\n[]\n5\n["a", 1, "b"]\n\n["a", "soon", "b"]')
        site.requests.clear()
        assert corpus.refresh(revisit_days=9) == []
        assert corpus.refresh(revisit_days=9) == []
        assert len([path for path in site.requests if "quanben" in path]) == 1

    def test_a_known_page_stays_unless_the_site_says_that_it_is_gone(self, site: TcmSite, corpus: Corpus) -> None:
        paths = {book: site.add_whole(book, HERBS) for book in ("jia", "yi", "bing")}
        corpus.refresh()
        self.later(1)
        site.fail("jia", Fault(status=503), times=None)
        site.pages[paths["yi"]] = b"<html><body>buy now</body></html>"
        del site.pages[paths["bing"]]
        [gone] = corpus.refresh(revisit_days=1)
        assert (gone.name, gone.path) == ("lilunshuji/bing/quanben.html", None)
        assert list(corpus.found) == ["lilunshuji/jia/quanben.html", "lilunshuji/yi/quanben.html"]


@pytest.mark.parametrize(
    "settings", [{"sections": ["lilunshuji"]}, {"sections": []}, {"delay": (3, 1)}, {"delay": (-1, 1)}, {"x": 1}]
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**settings)


def test_the_crawler_is_slow_unless_it_is_told_otherwise() -> None:
    assert Settings().delay == (3, 7)
