"""What E-utilities say, read."""

import httpx
import pytest

from medllm_ops.fetch.base import FetchError
from medllm_ops.fetch.entrez_answers import HistoryError, SearchResult, error_in, read_page, read_search
from servers.entrez import xml_error
from servers.pubmed_xml import article_set, citation

BOOK = "<PubmedBookArticle><BookDocument/></PubmedBookArticle>"


def answer(body: str | bytes) -> httpx.Response:
    address = "https://eutils.example.org/esearch.fcgi?api_key=s3cret"
    return httpx.Response(200, content=body, request=httpx.Request("GET", address))


def test_a_search_says_how_many_and_where() -> None:
    body = (
        '{"esearchresult": {"count": "12", "webenv": "MCID_1", "querykey": "1", '
        '"errorlist": {"phrasesnotfound": ["remdy"], "fieldsnotfound": []}, '
        '"warninglist": {"phrasesignored": ["the"], "outputmessages": ["No items found.", "Too old"]}}}'
    )
    assert read_search(answer(body)) == SearchResult(12, "MCID_1", "1", ("phrase not found: remdy", "the", "Too old"))


def test_a_page_is_its_bytes_and_a_number() -> None:
    content = article_set([citation(1), citation(2), BOOK])
    assert read_page(answer(content)) == (content, 3)
    spaced = content.rstrip().replace(b"</PubmedArticleSet>", b"</PubmedArticleSet >\n\n")
    assert read_page(answer(spaced)) == (spaced, 3)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('{"esearchresult": {"ERROR": "Empty\tterm"}}', r"esearch.fcgi: Empty term; check the query$"),
        ('{"esearchresult": {}, "error": "API key invalid"}', r"API key invalid; check api_key or NCBI_API_KEY$"),
        (
            '{"esearchresult": {"count": "1", "webenv": "1", "querykey": "1", "errorlist": {"fieldsnotfound": ["x"]}}}',
            "x",
        ),
    ],
)
def test_a_search_that_is_refused_says_why_without_the_key(body: str, sentence: str) -> None:
    with pytest.raises(FetchError, match=sentence) as error:
        read_search(answer(body))
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("reason", ["Search Backend failed: x", "timed out", "Temporarily unavailable", "history"])
def test_what_passes_is_no_refusal_of_a_search(reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_search(answer(f'{{"esearchresult": {{"ERROR": "{reason}"}}}}'))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("API key &lt;invalid&gt;", FetchError),
        ("Cannot &lt;do&gt; it", ValueError),  # the query was accepted by ESearch
        ("Server is busy", ValueError),
        ("Unable to obtain query #1", HistoryError),
        ("Cannot retrieve history data. query_key: 1", HistoryError),
    ],
)
def test_an_error_instead_of_a_page_is_told_by_its_words(reason: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=reason.replace("&lt;", "<").replace("&gt;", ">")):
        read_page(answer(xml_error(reason).body))


def test_an_error_is_found_in_json_and_xml_and_nowhere_else() -> None:
    assert error_in('{"error":"API key invalid","api-key":"x"}') == "API key invalid"
    assert error_in("<ERROR>a\n b</ERROR>") == "a b"
    assert error_in("<html>an error</html>") == ""
