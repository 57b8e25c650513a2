"""The refresh DAGs as CI runs them, against a mirror on this machine and a folder."""

from __future__ import annotations

import json
from pathlib import Path

from dags.conftest import Airflow
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import open_storage
from servers.nlm import NlmMirror
from servers.pubmed_xml import article_set, citation


def snapshot(medllm_home: Path) -> Snapshot:
    return Snapshot(open_storage(str(medllm_home / "corpus")))


def test_pubmed_is_refreshed_and_a_month_without_news_is_skipped(airflow: Airflow, medllm_home: Path) -> None:
    with NlmMirror() as mirror:
        mirror.add("baseline", "pubmed26n0001.xml.gz", article_set([citation(1), citation(2), citation(3)]))
        update = [citation(2, abstract="Corrected."), citation(3, retracted_type=True)]
        mirror.add("updatefiles", "pubmed26n0002.xml.gz", article_set(update, [1]))
        conf = json.dumps({"base_url": mirror.url})
        done = airflow("dags", "test", "refresh_pubmed", "-c", conf)
        assert done.returncode == 0, done.stdout[-5000:]
        assert "updatefiles/pubmed26n0002.xml.gz: 3 in, " in done.stdout
        assert snapshot(medllm_home).counts("pubmed") == {
            "alive": 2,
            "retracted": 1,
            "deleted": 1,
            "rejects": 0,
            "files": 2,
        }
        mirror.requests.clear()
        again = airflow("dags", "test", "refresh_pubmed", "-c", conf)
        assert again.returncode == 0, again.stdout[-5000:]
        assert "nothing is new at pubmed" in again.stdout
        assert sorted(mirror.requests) == ["/baseline/", "/updatefiles/"]
        assert snapshot(medllm_home).version == 2


def test_documents_of_a_folder_are_imported(airflow: Airflow, medllm_home: Path, repository: Path) -> None:
    folder = repository / "include" / "datasets" / "demo" / "docx"
    conf = json.dumps({"source": "docx", "location": str(folder)})
    done = airflow("dags", "test", "import_documents", "-c", conf)
    assert done.returncode == 0, done.stdout[-5000:]
    assert snapshot(medllm_home).counts("docx")["files"] == len(list(folder.glob("*.docx")))
    assert snapshot(medllm_home).counts("docx")["alive"] > 0
