"""The settings of PubMed's fetcher, which has two ways."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medllm_ops.fetch.base import FetchError, Known
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.pubmed import Settings, fetch
from servers.base import Server


@pytest.mark.parametrize("query", ["", "  ", "remedy"])
def test_a_query_goes_to_e_utilities_and_none_to_the_mirror(tmp_path: Path, query: str) -> None:
    with Server() as server, Client(attempts=1) as client:
        settings = Settings(query=query, base_url=server.url, entrez_base_url=server.url)
        with pytest.raises(FetchError, match="404"):
            next(fetch(settings, Known(), tmp_path, client))
        assert server.requests[0].startswith("/esearch.fcgi" if query.strip() else "/baseline/")


@pytest.mark.parametrize("day", ["2026/01/31", "2026-01-31", datetime.date(2026, 1, 31)])
def test_days_may_be_written_in_ncbis_way(day: Any) -> None:
    assert Settings(query="x", since=day).since == datetime.date(2026, 1, 31)


@pytest.mark.parametrize(
    "settings",
    [
        {"until": "2026-01-01"},
        {"query": "x", "since": "2026-02-01", "until": "2026-01-01"},
        {"query": "x", "page_size": 501},
        {"from": "2026-01-01"},
        {"since": "January"},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**settings)


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
