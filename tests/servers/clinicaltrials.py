"""ClinicalTrials.gov API v2: version, pages with tokens, the bulk zip."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import orjson

from servers.base import NOT_FOUND, Answer, Request, Server


def study(number: int, updated: str, text: str = "Does it help?") -> dict[str, Any]:
    """A study with the modules that matter here."""
    return {
        "protocolSection": {
            "identificationModule": {"nctId": f"NCT{number:08}", "briefTitle": f"Study {number}"},
            "statusModule": {"lastUpdatePostDateStruct": {"date": updated, "type": "ACTUAL"}},
            "descriptionModule": {"briefSummary": text},
        },
        "hasResults": False,
    }


class ClinicalTrials(Server):
    """The register.

    ``tokens_of`` is part of each token: another one, and the tokens given out before are refused. ``empty_pages`` are
    the numbers of pages that hold nothing and go on. ``total`` overrides the number of studies that is named.
    """

    def __init__(self, studies: list[dict[str, Any]] | None = None, timestamp: str = "2026-07-01T09:00:05") -> None:
        super().__init__()
        self.studies = studies or []
        self.timestamp = timestamp
        self.tokens_of = "a"
        self.empty_pages: tuple[int, ...] = ()
        self.total: int | None = None
        self.asked: list[dict[str, str]] = []

    def answer(self, request: Request) -> Answer:
        if request.path == "/api/v2/version":
            return _json({"apiVersion": "2.0.5", "dataTimestamp": self.timestamp})
        if request.path == "/api/v2/studies":
            self.asked.append(dict(request.parameters))
            return self._page(dict(request.parameters))
        if request.path == "/api/v2/studies/download" and request.parameters == {"format": "json.zip"}:
            return Answer(self.zip(), "application/zip", headers={"ETag": f'"{self.timestamp}"'})
        return NOT_FOUND

    def zip(self) -> bytes:
        """All studies, a file each."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for one in self.studies:
                name = one["protocolSection"]["identificationModule"]["nctId"]
                archive.writestr(zipfile.ZipInfo(f"{name}.json"), orjson.dumps(one))
        return buffer.getvalue()

    def _page(self, parameters: dict[str, str]) -> Answer:
        token = parameters.pop("pageToken", "")
        count_total = parameters.pop("countTotal", "")
        # The parameters must not change between pages, so a token knows them.
        mark = f"{self.tokens_of};{sorted(parameters.items())};"
        if parameters.pop("format", "json") != "json" or (token and not token.startswith(mark)):
            return Answer(b"`pageToken` is incorrect", "text/plain", 400)
        start, number = map(int, token.removeprefix(mark).split(",")) if token else (0, 1)
        size = int(parameters.get("pageSize", "10"))
        if size > 1000 or parameters.get("query.term") == "(":
            return Answer(b"incorrect", "text/plain", 400)
        found = self._found(parameters)
        size = 0 if number in self.empty_pages else size
        page: dict[str, Any] = {"studies": found[start : start + size]}
        if count_total == "true":
            page["totalCount"] = len(found) if self.total is None else self.total
        if start + size < len(found):
            page["nextPageToken"] = f"{mark}{start + size},{number + 1}"
        return _json(page)

    def _found(self, parameters: dict[str, str]) -> list[dict[str, Any]]:
        since = ""
        if advanced := parameters.get("filter.advanced"):
            begin, end = "AREA[LastUpdatePostDate]RANGE[", ",MAX]"
            assert advanced.startswith(begin), advanced
            assert advanced.endswith(end), advanced
            since = advanced.removeprefix(begin).removesuffix(end)
        term = parameters.get("query.term", "")
        return [one for one in self.studies if updated_of(one) >= since and term in str(one)]


def updated_of(one: dict[str, Any]) -> str:
    """The day of a study's last update."""
    return str(one["protocolSection"]["statusModule"]["lastUpdatePostDateStruct"]["date"])


def _json(value: Any) -> Answer:
    return Answer(orjson.dumps(value), "application/json")
