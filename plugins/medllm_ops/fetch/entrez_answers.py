"""What E-utilities say: searches as JSON, citations as XML, and errors, which may come with status 200.

What another try may not meet is a ``ValueError``, so that the client asks again; what is final is a ``FetchError``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from typing import Any, NoReturn, TypeAlias, TypeVar

import httpx

from medllm_ops.fetch.base import FetchError

Result = TypeVar("Result")
Parse: TypeAlias = Callable[[httpx.Response], Result]

_SET = re.compile(rb"<PubmedArticleSet[\s/>]")
_RECORD = re.compile(rb"<Pubmed(?:Book)?Article[\s>]")
_SET_END = re.compile(rb"(?:</PubmedArticleSet\s*>|<PubmedArticleSet\s*/>)\s*\Z")
_XML_ERROR = re.compile(r"<ERROR>(.*?)</ERROR>", re.IGNORECASE | re.DOTALL)
_JSON_ERROR = re.compile(r'"(?:error|ERROR)"\s*:\s*"((?:[^"\\]|\\.)*)"')
_TRANSIENT = re.compile(
    r"rate limit|backend|temporar|timed? ?out|try again|unavailable|busy|overload|executor|connection|internal error",
    re.IGNORECASE,
)
_HISTORY = re.compile(r"unable to obtain query|history|WebEnv", re.IGNORECASE)


class HistoryError(Exception):
    """The history server no longer has what was searched."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """How many records were found, where they wait, and what PubMed says of the query."""

    count: int
    web_env: str
    query_key: str
    warnings: tuple[str, ...]


def read_search(response: httpx.Response) -> SearchResult:
    """Read the answer of ESearch.

    :raises FetchError: if it says no for good, or knows no such field.
    """
    try:
        # Not strict: its messages have been seen with bare control characters.
        answer = json.loads(response.text, strict=False)
    except json.JSONDecodeError as error:
        raise ValueError(f"the answer is not whole JSON: {' '.join(response.text.split())[:80]!r}") from error
    if not isinstance(answer, dict) or not isinstance(result := answer.get("esearchresult", {}), dict):
        raise ValueError("the answer is JSON, but no result of a search")
    if reason := result.get("ERROR") or answer.get("error"):
        reason = " ".join(str(reason).split())
        try:
            refuse(_address(response), reason)
        except HistoryError as error:
            raise ValueError(reason) from error  # of a search that is only being made
    try:
        count, web_env, query_key = int(result["count"]), str(result["webenv"]), str(result["querykey"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("the answer has no count, WebEnv and query key") from error
    problems = result.get("errorlist", {})
    if fields := problems.get("fieldsnotfound"):
        raise FetchError(f"PubMed knows no field {', '.join(fields)}: correct the query")
    warnings = [f"phrase not found: {phrase}" for phrase in problems.get("phrasesnotfound", [])]
    return SearchResult(count, web_env, query_key, (*warnings, *_warnings(result.get("warninglist", {}))))


def read_page(response: httpx.Response) -> tuple[bytes, int]:
    """Read the answer of EFetch: the XML as it is, and the number of records in it.

    :raises HistoryError: if the search has to be made again.
    :raises FetchError: if it says no for good.
    """
    content = response.content
    if not _SET.search(content):
        if reason := error_in(response.text):
            # ESearch accepted the query: what EFetch says without naming the key or the search may pass.
            if _is_of_the_key(reason) or _HISTORY.search(reason):
                refuse(_address(response), reason)
            raise ValueError(reason)
        raise ValueError(f"this is no set of citations: {' '.join(response.text.split())[:80]!r}")
    if not _SET_END.search(content):
        raise ValueError("the set of citations breaks off")
    records = len(_RECORD.findall(content))
    if not records:
        raise ValueError("the set holds no citation")
    return content, records


def error_in(text: str) -> str:
    """The error message in an answer, JSON or XML; empty if there is none."""
    if found := _XML_ERROR.search(text):
        return " ".join(unescape(found[1]).split())
    found = _JSON_ERROR.search(text)
    return " ".join(found[1].split()) if found else ""


def refuse(address: str, reason: str) -> NoReturn:
    """Raise what an error message means.

    :raises ValueError: if another try may not meet it.
    :raises HistoryError: if the search has to be made again.
    :raises FetchError: otherwise.
    """
    if _HISTORY.search(reason):
        raise HistoryError(f"{address}: {reason}")
    if _TRANSIENT.search(reason):
        raise ValueError(reason)
    remedy = "check api_key or NCBI_API_KEY" if _is_of_the_key(reason) else "check the query"
    raise FetchError(f"{address}: {reason}; {remedy}")


def _is_of_the_key(reason: str) -> bool:
    return "api key" in reason.lower()


def _address(response: httpx.Response) -> str:
    # Without its parameters: one of them is the key.
    return str(response.url.copy_with(query=None))


def _warnings(warnings: dict[str, Any]) -> list[str]:
    names = ("phrasesignored", "quotedphrasesnotfound", "outputmessages")
    return [str(message) for name in names for message in warnings.get(name, []) if message != "No items found."]
