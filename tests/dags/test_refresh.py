"""The refresh DAGs, and the build of a dataset, as CI runs them, against a mirror on this machine and a folder."""

from __future__ import annotations

import json
from pathlib import Path

from dags.conftest import Airflow
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import open_storage
from medllm_ops.datasets.store import find_dataset
from medllm_ops.datasets.verify import verify
from medllm_ops.files import read_json
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
        assert "updatefiles/pubmed26n0002.xml.gz: 0 new, 2 changed, 1 deleted, 1 retracted, 0 rejected" in done.stdout
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


def test_a_dataset_is_built_of_the_corpus_with_its_report(
    airflow: Airflow, medllm_home: Path, repository: Path
) -> None:
    folder = repository / "include" / "datasets" / "demo" / "docx"
    conf = json.dumps({"source": "docx", "location": str(folder)})
    airflow("dags", "test", "import_documents", "-c", conf)
    wanted = {"name": "handbooks", "sources": ["docx"]}
    refused = airflow("dags", "test", "build_datasets", "-c", json.dumps(wanted))
    assert refused.returncode != 0
    assert "set docx has 10 rows without a licence" in refused.stdout
    conf = json.dumps({**wanted, "allow_licences": ["docx"]})
    done = airflow("dags", "test", "build_datasets", "-c", conf)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "docx: 10 records are new or changed since version 0, 0 are gone" in done.stdout
    dataset = find_dataset(str(medllm_home / "datasets" / "handbooks" / "1"))
    assert list(verify(dataset)) == []
    report = read_json(dataset.directory / "report" / "data_report.json")
    assert report["level"] in ("good", "note", "look")
    assert report["read"] == report["train"] + report["val"] + report["removed"] == 10
    again = airflow("dags", "test", "build_datasets", "-c", conf)
    assert again.returncode == 0, again.stdout[-5000:]
    assert "dataset handbooks@1 was built before: nothing is new" in again.stdout


def test_a_run_on_the_corpus_goes_from_its_rows_to_a_report_that_passed(
    airflow: Airflow, medllm_home: Path, repository: Path
) -> None:
    folder = repository / "include" / "datasets" / "demo" / "docx"
    airflow("dags", "test", "import_documents", "-c", json.dumps({"source": "docx", "location": str(folder)}))
    off = {"sft": False, "self_cognition": False, "serve": False}
    wanted = {"corpus": "latest", "sources": ["docx"], "allow_licences": ["docx"], "recipe": "tiny", **off}
    done = airflow("dags", "test", "medllm_train", "-c", json.dumps({**wanted, "run_name": "followed"}))
    assert done.returncode == 0, done.stdout[-5000:]
    run = medllm_home / "runs" / "followed"
    assert not (run / "convert").exists()
    assert read_json(run / "report.json")["passed"]
