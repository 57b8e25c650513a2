"""Listings of folders as servers write them."""

import datetime

import pytest

from medllm_ops.fetch.listing import Entry, read_listing

URL = "https://ftp.example.org/pubmed/baseline/"
DAY = datetime.date(2026, 1, 9)


def page(*rows: str, title: str = "Index of /pubmed/baseline") -> str:
    return f"<html><head><title>{title}</title></head><body><pre>{''.join(rows)}</pre></body></html>"


@pytest.mark.parametrize(
    "href",
    [
        "a.gz",
        "./a.gz?download=1#top",
        "/pubmed/baseline/a.gz",
        "//ftp.example.org/pubmed/baseline/a.gz",
        "https://elsewhere.example.org/pubmed/baseline/a.gz",
        "../baseline/a.gz",
        "%61.gz",
    ],
)
def test_links_may_have_any_form(href: str) -> None:
    assert read_listing(page(f'<A class=x HREF="{href}">a.gz</A>'), URL) == [Entry("a.gz")]


@pytest.mark.parametrize("href", ["", "?C=N;O=D", "../", "/pubmed/", "old/a.gz", "../updatefiles/a.gz", "#a.gz", "b/"])
def test_other_links_are_left_out(href: str) -> None:
    assert read_listing(page(f'<a href="{href}">a.gz</a><a name="here">x</a>'), URL) == []


@pytest.mark.parametrize("url", [URL, URL.rstrip("/"), "https://ftp.example.org/pub%6ded/baseline/"])
def test_the_folder_may_be_written_in_any_form(url: str) -> None:
    assert read_listing(page('<a href="/pubmed/baseline/a.gz">a.gz</a>'), url) == [Entry("a.gz")]


@pytest.mark.parametrize(
    "row",
    [
        '<a href="a.gz">a.gz</a>   2026-01-09 14:05   19M',  # Apache
        '<a href="a.gz">a.gz</a>   09-Jan-2026 14:05   19M',  # nginx
        '<table><tr><td><img alt="[ ]"></td><td><a href="a.gz">a.gz</a></td><td> 2026-01-09 14:05 </td></tr></table>',
    ],
)
def test_the_day_stands_beside_the_link(row: str) -> None:
    rows = page('<a href="../">up</a> 2020-12-31 10:00\n', row, '<a href="b.gz">b.gz</a> - 2026-13-41')
    assert read_listing(rows, URL) == [Entry("a.gz", DAY), Entry("b.gz")]


def test_a_name_that_is_linked_twice_is_one_file() -> None:
    rows = page('<a href="a.gz"><img></a> <a href="a.gz">a.gz</a> 2026-01-09 <a href="a.gz">again</a>')
    assert read_listing(rows, URL) == [Entry("a.gz", DAY)]


def test_a_page_without_any_markup_of_a_page_is_read_as_well() -> None:
    assert read_listing('<a href="a.gz">a.gz</a>', URL) == [Entry("a.gz")]


def test_a_page_that_breaks_off_is_refused() -> None:
    whole = page('<a href="a.gz">a.gz</a>')
    with pytest.raises(ValueError, match="the listing breaks off"):
        read_listing(whole[: whole.index("</html")], URL)


@pytest.mark.parametrize("content", ["", "<html><body>We are sorry.</body></html>", page(title="Error")])
def test_what_is_no_listing_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="this is no listing of a folder"):
        read_listing(content, URL)


def test_what_a_page_says_instead_is_told_word_by_word() -> None:
    with pytest.raises(ValueError, match=r"a page that says: Out of order We are sorry\.$"):
        read_listing("<html><title>Out of order</title><h1>We are</h1><p>sorry.</p></html>", URL)


def test_a_link_to_the_folder_above_makes_a_listing() -> None:
    page = '<html><body><pre><a href="../">../</a></pre></body></html>'
    assert read_listing(page, "http://server/pubmed/updatefiles/") == []


def test_an_empty_folder_is_a_listing() -> None:
    assert read_listing(page('<a href="../">Parent Directory</a>'), URL) == []
