"""Files that come once more while the first of them wait to be applied: nothing is lost, and nothing is mixed."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import open_storage
from medllm_ops.refresh.refresh import refresh
from medllm_ops.refresh.summary import Refreshed
from medllm_ops.sources import get_source
from servers.base import Fault
from servers.clinicaltrials import ClinicalTrials, study
from servers.entrez import Entrez
from servers.nlm import NlmMirror
from servers.pubmed_xml import article_set, citation


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))


def refreshed(source: str, corpus: Path, **settings: Any) -> Refreshed:
    found = get_source(source)
    assert found.settings is not None
    # Two workers: several pages are fetched before the first is applied.
    return refresh(found, found.settings(first_wait=0.01, **settings), open_storage(str(corpus)), workers=2)


def test_of_clinicaltrials_after_a_refused_token(tmp_path: Path) -> None:
    with ClinicalTrials([study(number, f"2026-06-{number:02}") for number in range(1, 8)]) as register:
        register.fail("pageToken", Fault(status=400))
        url = register.url + "api/v2/"
        result = refreshed("clinicaltrials", tmp_path, base_url=url, page_size=3, requests_per_minute=1e6)
    assert [applied.name[-6] for applied in result.files] == ["1", "1", "2", "3"]
    assert Snapshot(open_storage(str(tmp_path))).counts("clinicaltrials")["alive"] == 7


def test_of_pubmed_after_a_lost_search_that_has_grown(tmp_path: Path) -> None:
    with Entrez(entered={number: datetime.date(2026, 1, number) for number in range(1, 11)}) as server:

        def lose(number: int) -> None:
            if number == 2 and 11 not in server.entered:
                server.forget()
                server.entered[11] = datetime.date(2026, 1, 11)

        server.before_page = lose
        settings = {"entrez_base_url": server.url, "query": "remedy", "until": "2026-02-05", "page_size": 4}
        result = refreshed("pubmed", tmp_path, **settings, requests_per_second=1e6)
    assert [applied.name[-5] for applied in result.files] == ["1", "2", "1", "2", "3"]
    assert Snapshot(open_storage(str(tmp_path))).counts("pubmed")["alive"] == 11


def test_of_the_mirror_after_a_file_that_turned_up_late(tmp_path: Path) -> None:
    with NlmMirror() as mirror:
        mirror.add("baseline", "pubmed26n0001.xml.gz", article_set([citation(1), citation(2)]))
        for number in (3, 4):
            mirror.add("updatefiles", f"pubmed26n{number:04}.xml.gz", article_set([citation(1, title=f"{number}.")]))

        def replace(path: str) -> None:
            if path.endswith("n0004.xml.gz.md5") and "updatefiles/pubmed26n0004.xml.gz" in mirror.files:
                mirror.remove("updatefiles", "pubmed26n0004.xml.gz")
                late = [citation(1, title="2."), citation(2, title="2.")]
                mirror.add("updatefiles", "pubmed26n0002.xml.gz", article_set(late))

        mirror.before = replace
        result = refreshed("pubmed", tmp_path, base_url=mirror.url)
    assert [applied.name[-8] for applied in result.files] == ["1", "3", "2", "3"]
    snapshot = Snapshot(open_storage(str(tmp_path)))
    assert [snapshot.get(f"pubmed:{number}")[1]["title"] for number in (1, 2)] == ["3.", "2."]
