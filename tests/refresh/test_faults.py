"""Whatever goes wrong at the publisher: the refresh ends right, or stops with one clear sentence and loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import open_storage
from medllm_ops.errors import MedllmError
from medllm_ops.refresh.refresh import refresh_source
from medllm_ops.refresh.summary import Refreshed
from refresh.history import Citation, File, history
from refresh.test_replay import exported, publish
from servers.base import Fault
from servers.nlm import NlmMirror

FILES = list(history(5, baseline=2, updates=3, rows=40))
PATIENCE = {"first_wait": 0.01, "longest_wait": 1, "timeout": 1, "attempts": 4}
SECOND = r"baseline/pubmed26n0002\.xml\.gz$"
ONCE = {
    "429 with Retry-After": Fault(status=429, retry_after="0"),
    "429 without": Fault(status=429),
    "503": Fault(status=503),
    "cut at the start": Fault(cut=0),
    "cut in the middle": Fault(cut=900),
    "wrong length": Fault(wrong_length=10),
    "another byte": Fault(corrupt=True),
    "an error page": Fault(html=True),
}
FOR_EVER = {
    "429 that asks for an hour": (Fault(status=429, retry_after="3600"), "asks to wait 3600 s"),
    "503": (Fault(status=503), "status 503"),
    "404": (Fault(status=404), "although it is listed, also after a second look"),
    "nothing but the start": (Fault(cut=0), r"0002\.xml\.gz: .*after \d+ tries"),
    "another byte": (Fault(corrupt=True), "md5"),
    "an error page": (Fault(html=True), "an HTML page came instead"),
    "a drip": (Fault(slow=20), r"only \d+ bytes came in \d+ s"),
}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))


@pytest.fixture
def mirror() -> Iterator[NlmMirror]:
    with NlmMirror() as server:
        publish(server, FILES)
        yield server


def refresh(mirror: NlmMirror, tmp_path: Path) -> Refreshed:
    return refresh_source("pubmed", {"base_url": mirror.url, **PATIENCE}, corpus=str(tmp_path / "corpus"))


def state(tmp_path: Path) -> tuple[int, dict[str, Citation]]:
    snapshot = Snapshot(open_storage(str(tmp_path / "corpus")))
    return len(snapshot.files("pubmed")), exported(tmp_path / "corpus", tmp_path / "export.jsonl")


def truth(files: list[File]) -> dict[str, Citation]:
    return files[-1].truth if files else {}


@pytest.mark.parametrize("path", [SECOND, SECOND.replace("$", r"\.md5$"), "/updatefiles/$"])
@pytest.mark.parametrize("fault", ONCE)
def test_a_fault_that_passes_leaves_no_trace(mirror: NlmMirror, tmp_path: Path, fault: str, path: str) -> None:
    mirror.fail(path, ONCE[fault], times=1)
    assert len(refresh(mirror, tmp_path).files) == len(FILES)
    assert state(tmp_path) == (len(FILES), truth(FILES))


@pytest.mark.parametrize("fault", FOR_EVER)
def test_a_fault_that_stays_is_said_and_the_next_refresh_finishes(
    mirror: NlmMirror, tmp_path: Path, fault: str
) -> None:
    kind, sentence = FOR_EVER[fault]
    mirror.fail(SECOND, kind, times=None)
    with pytest.raises(MedllmError, match=sentence) as caught:
        refresh(mirror, tmp_path)
    assert "\n" not in str(caught.value)
    assert "0002" in str(caught.value)
    # The file before it is in, whole; nothing after it was applied.
    assert state(tmp_path) == (1, truth(FILES[:1]))
    mirror.heal()
    assert len(refresh(mirror, tmp_path).files) == len(FILES) - 1
    assert state(tmp_path) == (len(FILES), truth(FILES))


def test_a_listing_that_is_an_error_page_for_ever_stops_the_refresh(mirror: NlmMirror, tmp_path: Path) -> None:
    mirror.fail("/baseline/$", Fault(html=True), times=None)
    with pytest.raises(MedllmError, match="listing"):
        refresh(mirror, tmp_path)
    assert Snapshot(open_storage(str(tmp_path / "corpus"))).sources == []


def test_a_file_that_is_replaced_between_two_requests_is_taken_as_it_is_now(mirror: NlmMirror, tmp_path: Path) -> None:
    replaced = False

    def replace(path: str) -> None:
        nonlocal replaced
        if path.endswith("0005.xml.gz") and not replaced:
            replaced = True
            mirror.add("updatefiles", "pubmed26n0005.xml.gz", FILES[-1].xml + b"<!-- again -->\n")

    mirror.before = replace
    refresh(mirror, tmp_path)
    assert replaced
    assert state(tmp_path) == (len(FILES), truth(FILES))


def test_a_new_year_is_swapped_in_whole(mirror: NlmMirror, tmp_path: Path) -> None:
    refresh(mirror, tmp_path)
    last = truth(FILES)
    lost, *kept = sorted(last)
    for file in FILES:
        folder, name = file.name.split("/")
        mirror.remove(folder, name)
    from servers.pubmed_xml import article_set, citation

    def again(pmids: list[str]) -> bytes:
        return article_set(
            citation(
                int(pmid),
                title=last[pmid].title,
                abstract=last[pmid].abstract,
                version=last[pmid].version,
                retracted_type=last[pmid].retracted,
            )
            for pmid in pmids
        )

    half = len(kept) // 2
    mirror.add("baseline", "pubmed27n0001.xml.gz", again(kept[:half]))
    mirror.add("baseline", "pubmed27n0002.xml.gz", again(kept[half:]))
    # Half of the new baseline is here: readers still see the old year, whole.
    result = refresh_source(
        "pubmed", {"base_url": mirror.url, **PATIENCE, "max_files": 1}, corpus=str(tmp_path / "corpus")
    )
    assert len(result.files) == 1
    assert state(tmp_path) == (len(FILES), last)
    summary = refresh(mirror, tmp_path).summary()
    assert summary["files"] == 1
    assert summary["events"] == {"removed": 1}
    assert state(tmp_path) == (len(FILES) + 2, {pmid: last[pmid] for pmid in kept})
    history_of_lost = Snapshot(open_storage(str(tmp_path / "corpus"))).history(f"pubmed:{lost}")
    assert (history_of_lost[-1]["event"], history_of_lost[-1]["file"]) == ("removed", "baseline/pubmed27n0002.xml.gz")
