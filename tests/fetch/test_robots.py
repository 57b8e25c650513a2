"""robots.txt is obeyed: what it allows, when it cannot be read, and how slowly it wants to be asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.fetch.base import FetchError, Known
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.robots import Robots
from medllm_ops.fetch.tcm_site import Settings, fetch
from servers.base import ERROR_PAGE, Fault
from servers.tcm import TcmSite

AGENT = "medllm-ops/1.0"


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(attempts=2, first_wait=0.01, timeout=1) as made:
        yield made


@pytest.fixture
def site() -> Iterator[TcmSite]:
    with TcmSite() as server:
        for book in ("jia", "yi"):
            server.add_whole(book, [("甘草", "味甘。")])
        yield server


def crawl(site: TcmSite, client: Client, folder: Path, **settings: Any) -> list[str]:
    chosen = Settings(**{"base_url": site.url, "delay": (0, 0)} | settings)
    return [raw.checksum[:4] for raw in fetch(chosen, Known(), folder, client)]


@pytest.mark.parametrize(
    ("text", "path", "allowed"),
    [
        ("", "/a", True),
        ("User-agent: *\nDisallow:", "/a", True),
        ("User-agent: *\nDisallow: /a", "/a/b.html", False),
        ("\ufeffUser-agent: *\nDisallow: /a", "/a", False),
        ("User-agent: *\r\nDisallow: /a\r\n", "/a", False),
        ("User-agent: medllm-ops\nDisallow: /\n\nUser-agent: *\nDisallow:", "/a", False),
        ("User-agent: other\nDisallow: /", "/a", True),
        ("User-agent: *\nDisallow: /*/quanben.html$", "/a/quanben.html", False),
        ("User-agent: *\nDisallow: /*/quanben.html$", "/a/quanben.html2", True),
        ("User-agent: *\nDisallow: /*?", "/a?b=1", False),
        ("User-agent: *\nDisallow: /*?", "/a", True),
        ("User-agent: *\nDisallow: /%E4%B9%A6*", "/%E4%B9%A6/1.html", False),
        ("User-agent: *\n\nDisallow: /a", "/a", False),
        ("User-agent: *\nDisallow: /b\n# more\n\nDisallow: /a", "/a", False),
        ("User-agent: other\nUser-agent: *\n\nDisallow: /a", "/a", False),
        ("User-agent: *\nDisallow: /b\n\nUser-agent: *\nDisallow: /a", "/a", False),
        ("User-agent: *\nAllow: /\nDisallow: /a", "/a", False),
        ("User-agent: *\nDisallow: /a\nAllow: /a/b", "/a/b", True),
        (ERROR_PAGE.decode(), "/a", True),
    ],
)
def test_what_a_robots_txt_allows(text: str, path: str, allowed: bool) -> None:
    assert Robots(text, AGENT).allows(f"https://site.example{path}") is allowed


@pytest.mark.parametrize(
    ("text", "pause"),
    [
        ("", (3, 7)),
        ("User-agent: *\nCrawl-delay: 2", (3, 7)),
        ("User-agent: *\nCrawl-delay: 5", (5, 7)),
        ("User-agent: *\nCrawl-delay: 20", (20, 20)),
        ("User-agent: *\nCrawl-delay: 10.5", (11, 11)),
        ("User-agent: *\nRequest-rate: 1/10", (10, 10)),
        ("User-agent: other\nCrawl-delay: 20", (3, 7)),
    ],
)
def test_a_longer_delay_is_kept(text: str, pause: tuple[float, float]) -> None:
    assert Robots(text, AGENT).pause((3, 7)) == pause


def test_the_crawler_keeps_the_delay_and_says_who_it_is(site: TcmSite, client: Client, tmp_path: Path) -> None:
    site.robots = "User-agent: *\nDisallow:"
    crawl(site, client, tmp_path, delay=(0.01, 0.02), user_agent="us/1 (mail@us.example)")
    assert client.pause == (0.01, 0.02)
    assert {headers["user-agent"] for headers in site.headers} == {"us/1 (mail@us.example)"}
    assert len(site.requests) == 5


def test_the_crawl_delay_reaches_the_client(site: TcmSite, client: Client, tmp_path: Path) -> None:
    site.robots = "User-agent: *\nRequest-rate: 50/1"
    assert len(crawl(site, client, tmp_path)) == 2
    assert client.pause == (0.02, 0.02)


def test_forbidden_pages_are_rejects_and_never_asked_for(site: TcmSite, client: Client, tmp_path: Path) -> None:
    site.robots = "User-agent: *\nDisallow: /lilunshuji/yi/"
    assert len(crawl(site, client, tmp_path, lost_in_a_row=1)) == 2
    assert b"robots.txt does not allow it" in (tmp_path / "lilunshuji/yi/quanben.html").read_bytes()
    assert not [path for path in site.requests if "/yi/" in path]


def test_forbidden_lists_end_the_crawl(site: TcmSite, client: Client, tmp_path: Path) -> None:
    site.robots = "User-agent: *\nDisallow: /lilunshuji"
    with pytest.raises(FetchError, match=r"index.html cannot be read: robots.txt does not allow it"):
        crawl(site, client, tmp_path)
    assert site.requests == ["/robots.txt"]


@pytest.mark.parametrize("status", [404, 410, 400])
def test_without_a_robots_txt_everything_is_allowed(site: TcmSite, client: Client, tmp_path: Path, status: int) -> None:
    site.fail("robots", Fault(status=status), times=None)
    assert len(crawl(site, client, tmp_path)) == 2


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(status=429), Fault(cut=0), Fault(status=503)], ids=repr)
def test_a_robots_txt_that_cannot_be_read_forbids_all(
    site: TcmSite, client: Client, tmp_path: Path, fault: Fault
) -> None:
    site.robots = "User-agent: *\nDisallow:"
    site.fail("robots", fault, times=None)
    with pytest.raises(FetchError, match=r"nothing is fetched, for the site does not say what it allows.*again later"):
        crawl(site, client, tmp_path, delay=(0.01, 0.02))
    assert set(site.requests) == {"/robots.txt"}
    assert client.pause == (0.01, 0.02)


@pytest.mark.parametrize("status", [401, 403])
def test_a_robots_txt_that_is_kept_secret_forbids_all(
    site: TcmSite, client: Client, tmp_path: Path, status: int
) -> None:
    site.fail("robots", Fault(status=status), times=None)
    with pytest.raises(FetchError, match=r"robots.txt does not allow it"):
        crawl(site, client, tmp_path)
    assert site.requests == ["/robots.txt"]
