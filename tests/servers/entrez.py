"""NCBI's E-utilities for PubMed: ESearch with the history server, EFetch, the rate limit, errors with status 200."""

from __future__ import annotations

import datetime
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from servers.base import NOT_FOUND, Answer, Request, Server
from servers.pubmed_xml import article_set, citation

MOST = 9_999
"""Records of a search that are given out at most, and of a page."""

_RANGE = re.compile(r"\((?P<query>.*)\) AND (?P<low>\d+):(?P<high>\d+)\[UID\]")
_SEARCH = {"db", "term", "datetype", "mindate", "maxdate", "usehistory", "retmode", "retmax"}
_FETCH = {"db", "query_key", "WebEnv", "retmode", "retstart", "retmax"}
_SENDER = {"tool", "email", "api_key"}


@dataclass
class Entrez(Server):
    """PubMed behind E-utilities; the fetcher is told :attr:`url`.

    ``entered`` is the day of entry of each PMID, ``found_by`` the PMIDs that a query finds (all of them by default).
    ``keys`` are the API keys that are known. More requests than ``rate`` in a second are refused with status 429.
    ``said`` are bodies that come instead of answers, with status 200, one by one, to the programs they name.
    ``forgets`` empties the history server; ``omitted`` are PMIDs that searches count and EFetch leaves out.
    """

    entered: dict[int, datetime.date] = field(default_factory=dict)
    found_by: dict[str, set[int]] = field(default_factory=dict)
    keys: tuple[str, ...] = ("abc",)
    rate: float = 1e9
    said: list[tuple[str, bytes]] = field(default_factory=list)
    omitted: set[int] = field(default_factory=set)
    errors: dict[str, list[str]] = field(default_factory=dict)
    before_page: Callable[[int], None] = lambda number: None
    searches: list[dict[str, str]] = field(default_factory=list)
    pages: list[dict[str, str]] = field(default_factory=list)
    refused: int = 0
    _history: dict[str, list[int]] = field(default_factory=dict)
    _times: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        Server.__init__(self)

    def forget(self) -> None:
        """Let all searches expire."""
        self._history.clear()

    def answer(self, request: Request) -> Answer:
        program = request.path.lstrip("/")
        parameters = dict(request.parameters)
        if program not in ("esearch.fcgi", "efetch.fcgi") or parameters.get("db") != "pubmed":
            return NOT_FOUND
        if self._is_too_fast():
            self.refused += 1
            body = {"error": "API rate limit exceeded", "api-key": "127.0.0.1", "count": "4", "limit": "3"}
            return Answer(orjson.dumps(body), "application/json", 429, {"Retry-After": "1"})
        if (key := parameters.get("api_key")) is not None and key not in self.keys:
            body = {"error": "API key invalid", "api-key": key, "type": "invalid key", "status": "unknown"}
            return Answer(orjson.dumps(body), "application/json", 400)
        if self.said and self.said[0][0] == program:
            return Answer(self.said.pop(0)[1], "text/xml")
        allowed = (_SEARCH if program == "esearch.fcgi" else _FETCH) | _SENDER
        assert set(parameters) <= allowed, parameters
        return self._search(parameters) if program == "esearch.fcgi" else self._fetch(parameters)

    def _is_too_fast(self) -> bool:
        now = time.monotonic()
        while self._times and self._times[0] <= now - 1:
            self._times.popleft()
        if len(self._times) >= self.rate:
            return True
        self._times.append(now)
        return False

    def _search(self, parameters: dict[str, str]) -> Answer:
        self.searches.append(parameters)
        assert (parameters["usehistory"], parameters["retmode"], parameters["datetype"]) == ("y", "json", "edat")
        term, low, high = parameters["term"], 0, 10**9
        if limits := _RANGE.fullmatch(term):
            term, low, high = limits["query"], int(limits["low"]), int(limits["high"])
        first, last = (_day(parameters[name]) for name in ("mindate", "maxdate"))
        found = [
            pmid
            for pmid, day in self.entered.items()
            if first <= day <= last and low <= pmid <= high and pmid in self.found_by.get(term, self.entered)
        ]
        web_env = f"MCID_{len(self.searches)}"
        self._history[web_env] = sorted(found, reverse=True)
        result = {
            "count": str(len(found)),
            "retmax": str(min(int(parameters["retmax"]), MOST)),
            "retstart": "0",
            "querykey": "1",
            "webenv": web_env,
            "idlist": [],
            **({"errorlist": self.errors} if self.errors else {}),
        }
        return Answer(orjson.dumps({"header": {"type": "esearch"}, "esearchresult": result}), "application/json")

    def _fetch(self, parameters: dict[str, str]) -> Answer:
        self.before_page(len(self.pages))
        found = self._history.get(parameters["WebEnv"])
        if found is None or parameters["query_key"] != "1":
            return xml_error("Unable to obtain query #1")
        start, size = int(parameters["retstart"]), min(int(parameters["retmax"]), MOST)
        if start >= MOST:
            return xml_error(f"Search Backend failed: Exception: retstart {start} is out of range")
        self.pages.append(parameters)
        page = found[start : min(start + size, MOST - 1)]
        return Answer(article_set(citation(pmid) for pmid in page if pmid not in self.omitted), "text/xml")


def xml_error(reason: str, status: int = 200) -> Answer:
    """How EFetch says no."""
    body = f'<?xml version="1.0" encoding="UTF-8" ?>\n<eFetchResult>\n\t<ERROR>{reason}</ERROR>\n</eFetchResult>\n'
    return Answer(body.encode(), "text/xml; charset=UTF-8", status)


def _day(text: str) -> datetime.date:
    return datetime.datetime.strptime(text, "%Y/%m/%d").date()
