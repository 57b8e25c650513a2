"""NLM's mirror: what is fetched, in which order, and what happens when the publisher changes."""

import logging
from pathlib import Path

import pytest

from fetch.mirrored import Corpus, add, renew, short
from medllm_ops.fetch.base import FetchError, Known
from medllm_ops.fetch.http import Client
from servers.nlm import NlmMirror

LISTINGS = ["/baseline/", "/updatefiles/"]


@pytest.fixture
def corpus(mirror: NlmMirror, client: Client, tmp_path: Path) -> Corpus:
    return Corpus(mirror, client, tmp_path)


def test_the_whole_baseline_comes_before_the_updates(mirror: NlmMirror, corpus: Corpus) -> None:
    fetched = corpus.refresh()
    assert [short(raw.name) for raw in fetched] == ["b26n1", "b26n2", "b26n10", "u26n11", "u26n12"]
    assert fetched[0].url == f"{mirror.url}{fetched[0].name}"
    assert {raw.generation for raw in fetched} == {"pubmed26"}
    assert [raw.generation_complete for raw in fetched] == [False, False, True, False, False]
    assert not any(raw.whole for raw in fetched)
    assert fetched[0].checksum == add(mirror, 1, "baseline")


def test_with_nothing_new_two_listings_are_all_that_is_asked(mirror: NlmMirror, corpus: Corpus) -> None:
    corpus.refresh()
    assert corpus.refresh() == []
    assert mirror.requests == LISTINGS


def test_only_new_files_and_their_sidecars_are_asked_for(mirror: NlmMirror, corpus: Corpus) -> None:
    corpus.refresh()
    add(mirror, 13)
    assert corpus.names() == ["u26n13"]
    name = "/updatefiles/pubmed26n0013.xml.gz"
    assert mirror.requests == [*LISTINGS, f"{name}.md5", name]


def test_numbers_are_numbers_and_not_text(mirror: NlmMirror, corpus: Corpus) -> None:
    for number in (9999, 10000, 10001):
        add(mirror, number)
    assert corpus.names()[-3:] == ["u26n9999", "u26n10000", "u26n10001"]


def test_max_files_stops_anywhere_and_the_next_refresh_goes_on(mirror: NlmMirror, corpus: Corpus) -> None:
    assert corpus.names(max_files=2) == ["b26n1", "b26n2"]
    assert len(mirror.downloads) == 2
    assert corpus.names(max_files=2) == ["b26n10", "u26n11"]
    assert corpus.names(max_files=2) == ["u26n12"]
    assert corpus.names(max_files=2) == []


@pytest.mark.parametrize("files", range(5))
def test_after_a_kill_it_goes_on_with_the_next_file(mirror: NlmMirror, corpus: Corpus, files: int) -> None:
    first = corpus.names(files)
    assert first + corpus.names() == ["b26n1", "b26n2", "b26n10", "u26n11", "u26n12"]


def test_since_brings_updates_of_that_day_and_later_only(mirror: NlmMirror, corpus: Corpus) -> None:
    add(mirror, 13, date="2026-02-01")
    add(mirror, 14, date="2026-02-02")
    fetched = corpus.refresh(since="2026-02-01")
    assert [short(raw.name) for raw in fetched] == ["u26n13", "u26n14"]
    # They are no part of a generation whose baseline is not there.
    assert {(raw.generation, raw.generation_complete) for raw in fetched} == {("", False)}
    assert corpus.refresh(since="2026-02-01") == []
    assert mirror.requests == ["/updatefiles/"]


def test_since_needs_dates_in_the_listing(mirror: NlmMirror, corpus: Corpus) -> None:
    mirror.dates = False
    with pytest.raises(FetchError, match=r"shows no date for pubmed26n0011.xml.gz: refresh without since"):
        corpus.refresh(since="2026-02-01")
    assert len(corpus.refresh()) == 5


def test_a_baseline_that_comes_after_updates_has_them_applied_once_more(mirror: NlmMirror, corpus: Corpus) -> None:
    assert corpus.names(since="2026-01-01") == ["u26n11", "u26n12"]
    assert corpus.names(3) == ["b26n1", "b26n2", "b26n10"]
    assert corpus.names() == ["u26n11", "u26n12"]
    assert corpus.known.generation == "pubmed26"
    assert corpus.names() == []


def test_an_update_that_comes_late_has_the_newer_ones_applied_once_more(mirror: NlmMirror, corpus: Corpus) -> None:
    mirror.remove("updatefiles", "pubmed26n0011.xml.gz")
    add(mirror, 13)
    assert corpus.names()[-2:] == ["u26n12", "u26n13"]
    add(mirror, 11)
    assert corpus.names(1) == ["u26n11"]  # and killed
    assert corpus.names(1) == ["u26n12"]
    add(mirror, 14)
    assert corpus.names() == ["u26n13", "u26n14"]
    assert corpus.names() == []


def test_leftovers_are_used_or_removed(mirror: NlmMirror, corpus: Corpus) -> None:
    whole = mirror.files["baseline/pubmed26n0001.xml.gz"].content
    for name, content in {
        "pubmed26n0001.xml.gz": whole,
        "pubmed26n0002.xml.gz": b"half",
        "pubmed25n0001.xml.gz": b"old",
        "pubmed25n0002.xml.gz.part": b"old",
        "pubmed25n0002.xml.gz.part.json": b"{}",
        "0.items": b"not ours",
    }.items():
        (corpus.folder / name).write_bytes(content)
    assert len(corpus.refresh()) == 5
    assert mirror.downloads[0] == "baseline/pubmed26n0002.xml.gz"
    assert [path.name for path in corpus.folder.iterdir()] == ["0.items"]


def test_progress_is_logged(mirror: NlmMirror, corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "medllm_ops")
    corpus.refresh(max_files=3)
    assert "pubmed26n0002.xml.gz: file 2 of 3, 0.0 MB at " in caplog.text
    assert "; about 0:00:0" in caplog.text


# A new year


def test_a_new_baseline_comes_whole_then_its_updates(mirror: NlmMirror, corpus: Corpus) -> None:
    corpus.refresh()
    renew(mirror)
    fetched = corpus.refresh(2)
    assert [(short(raw.name), raw.generation, raw.generation_complete) for raw in fetched] == [
        ("b27n1", "pubmed27", False),
        ("b27n2", "pubmed27", False),
    ]
    add(mirror, 13)  # the old year's last one
    add(mirror, 4, prefix="pubmed27")
    assert corpus.names() == ["b27n3", "u27n4"]
    assert corpus.names() == []


def test_a_new_baseline_may_have_no_updates_yet_but_an_old_one_has_them(mirror: NlmMirror, corpus: Corpus) -> None:
    corpus.refresh()
    kept = dict(mirror.files)
    mirror.files = {path: file for path, file in kept.items() if path.startswith("baseline")}
    with pytest.raises(FetchError, match=f"{mirror.url}updatefiles/ lists no PubMed file"):
        corpus.refresh()
    renew(mirror)
    assert corpus.names() == ["b27n1", "b27n2", "b27n3"]


def test_updates_of_a_year_whose_baseline_is_not_there_wait(
    mirror: NlmMirror, corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    add(mirror, 4, prefix="pubmed27")
    assert len(corpus.refresh()) == 5
    assert "pubmed27n0004.xml.gz and others wait for the baseline of their year" in caplog.text


def test_a_new_baseline_with_a_gap_is_not_begun(mirror: NlmMirror, corpus: Corpus) -> None:
    corpus.refresh()
    renew(mirror, (1, 3))
    with pytest.raises(FetchError, match=r"pubmed27 at .* is not complete \(there are gaps in its numbers\)"):
        corpus.refresh()


def test_a_new_baseline_that_is_much_shorter_is_not_begun(mirror: NlmMirror, corpus: Corpus) -> None:
    for number in range(1, 21):
        add(mirror, number, "baseline")
    corpus.refresh()
    renew(mirror, tuple(range(1, 18)))
    with pytest.raises(FetchError, match="it has 17 files after 20"):
        corpus.refresh()
    add(mirror, 18, "baseline", "pubmed27")
    assert len(corpus.refresh()) == 18


def test_an_older_baseline_than_the_corpus_is_refused(mirror: NlmMirror, corpus: Corpus) -> None:
    corpus.known = Known(generation="pubmed27")
    with pytest.raises(FetchError, match="lists pubmed26, which is older than pubmed27 in the corpus; check base_url"):
        corpus.refresh()
    assert corpus.refresh(since="2026-01-01") == []


def test_baselines_of_two_years_are_not_mixed(mirror: NlmMirror, corpus: Corpus) -> None:
    add(mirror, 1, "baseline", "pubmed27")
    with pytest.raises(FetchError, match="lists files of pubmed26 and pubmed27: its publisher is replacing them"):
        corpus.refresh()


def test_a_baseline_that_grew_shrank_or_grew_again_is_completed(mirror: NlmMirror, corpus: Corpus) -> None:
    corpus.known = Known(generation="pubmed25", files={"baseline/pubmed25n0001.xml.gz": "1"})
    renew(mirror)
    assert corpus.names(2) == ["b27n1", "b27n2"]
    mirror.remove("baseline", "pubmed27n0003.xml.gz")
    (last,) = corpus.refresh()
    assert (short(last.name), last.generation_complete) == ("b27n2", True)
    assert corpus.refresh() == []
    add(mirror, 3, "baseline", "pubmed27")
    (last,) = corpus.refresh()
    assert (short(last.name), last.generation_complete) == ("b27n3", True)
