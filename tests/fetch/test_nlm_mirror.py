"""NLM's mirror: what is fetched, in which order, and what happens when the publisher changes or fails."""

import logging
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.fetch.base import FetchedFile, FetchError, Known
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.pubmed import Settings, fetch
from servers.base import Fault
from servers.nlm import NlmMirror
from servers.pubmed_xml import article_set, citation

LISTINGS = ["/baseline/", "/updatefiles/"]


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(attempts=3, first_wait=0.01, longest_wait=2, timeout=1) as made:
        yield made


@pytest.fixture
def mirror() -> Iterator[NlmMirror]:
    with NlmMirror() as server:
        for number in (1, 2, 10):
            add(server, number, "baseline")
        for number in (11, 12):
            add(server, number)
        yield server


def add(mirror: NlmMirror, number: int, folder: str = "updatefiles", prefix: str = "pubmed26", **more: Any) -> str:
    return mirror.add(folder, f"{prefix}n{number:04}.xml.gz", article_set([citation(number)]), **more)


class Corpus:
    """What a refresh keeps of what it applied, file by file; it ends as if killed after ``files`` of them."""

    def __init__(self, mirror: NlmMirror, client: Client, folder: Path) -> None:
        self._mirror, self._client, self.folder = mirror, client, folder
        self.known = Known()

    def refresh(self, files: int | None = None, **settings: Any) -> list[FetchedFile]:
        self._mirror.requests.clear()
        settings = {"base_url": self._mirror.url} | settings
        fetched = []
        for raw in islice(fetch(Settings(**settings), self.known, self.folder, self._client), files):
            assert raw.path is not None
            assert raw.path.name == raw.name.rpartition("/")[2]
            raw.path.unlink()
            fetched.append(raw)
            names = {**self.known.files, raw.name: raw.checksum}
            self.known = Known(names, raw.watermark or {}, raw.generation or self.known.generation)
        return fetched

    def names(self, *arguments: Any, **settings: Any) -> list[str]:
        return [short(raw.name) for raw in self.refresh(*arguments, **settings)]


def short(name: str) -> str:
    """``baseline/pubmed26n0001.xml.gz`` as ``b26n1``."""
    folder, file = name.split("/")
    year, number = file.removeprefix("pubmed").removesuffix(".xml.gz").split("n")
    return f"{folder[0]}{year}n{int(number)}"


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


def renew(mirror: NlmMirror, numbers: tuple[int, ...] = (1, 2, 3)) -> None:
    for path in [path for path in mirror.files if path.endswith(".gz")]:
        mirror.remove(*path.split("/"))
    for number in numbers:
        add(mirror, number, "baseline", "pubmed27")


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


# Faults


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, retry_after="0"),
        Fault(status=503),
        Fault(cut=20),
        Fault(wrong_length=7),
        Fault(wrong_length=-7),
        Fault(html=True),
        Fault(corrupt=True),
        Fault(slow=3000),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["baseline/$", r"n0002\.xml\.gz$", r"n0002\.xml\.gz\.md5$"])
def test_a_passing_fault_changes_nothing(mirror: NlmMirror, corpus: Corpus, path: str, fault: Fault) -> None:
    mirror.fail(path, fault)
    assert corpus.names() == ["b26n1", "b26n2", "b26n10", "u26n11", "u26n12"]
    # One changed byte of a listing cannot be told; if a file is missing for it, the next refresh brings it.
    is_harmless = fault.slow or (fault.corrupt and path == "baseline/$")
    assert sum(bool(re.search(path, asked)) for asked in mirror.requests) == (1 if is_harmless else 2)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (
            "baseline/$",
            "baseline/: this is no listing of a folder, but a page that says: Error.*, after 3 tries; check",
        ),
        (r"gz\.md5$", r"n0001.xml.gz.md5: it is not MD5\(pubmed26n0001.xml.gz\)= and 32 hexadecimal digits, after 3"),
        ("gz$", "n0001.xml.gz: an HTML page came instead of the file, after 3 tries; what came before is kept"),
    ],
)
def test_an_error_page_that_stays_is_named(mirror: NlmMirror, corpus: Corpus, path: str, sentence: str) -> None:
    mirror.fail(path, Fault(html=True), times=None)
    with pytest.raises(FetchError, match=sentence):
        corpus.refresh()


def test_a_listing_that_breaks_off_is_not_taken_for_a_short_one(
    mirror: NlmMirror, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = mirror.listing("baseline")
    monkeypatch.setattr(mirror, "listing", lambda folder: page[: page.index("pubmed26n0010")])
    with pytest.raises(FetchError, match="baseline/: the listing breaks off, after 3 tries"):
        corpus.refresh()


def test_an_empty_or_missing_folder_is_named(mirror: NlmMirror, corpus: Corpus) -> None:
    mirror.files.clear()
    with pytest.raises(FetchError, match=r"baseline/ lists no PubMed file \(such as pubmed26n0001.xml.gz\): check"):
        corpus.refresh()
    with pytest.raises(FetchError, match="nowhere/baseline/: status 404 Not Found; check base_url"):
        corpus.refresh(base_url=mirror.url + "nowhere")


def test_a_wrong_md5_for_ever_is_one_clear_sentence(mirror: NlmMirror, corpus: Corpus) -> None:
    mirror.set_md5("baseline", "pubmed26n0002.xml.gz", "0" * 32)
    sentence = r"n0002.xml.gz: its md5 is \w{32}, its publisher says 0{32}; nothing of it was kept; what came before"
    with pytest.raises(FetchError, match=sentence):
        corpus.refresh()
    assert list(corpus.known.files) == ["baseline/pubmed26n0001.xml.gz"]
    assert sum(path.endswith("n0002.xml.gz.md5") for path in mirror.requests) == 2
    assert mirror.downloads.count("baseline/pubmed26n0002.xml.gz") == 2
    assert list(corpus.folder.iterdir()) == []


def test_a_file_that_is_replaced_between_two_requests_comes_with_its_new_md5(mirror: NlmMirror, corpus: Corpus) -> None:
    new = article_set([citation(77)])
    digest = ""

    def replace(path: str) -> None:
        nonlocal digest
        if path == "/updatefiles/pubmed26n0011.xml.gz" and not digest:
            digest = mirror.add("updatefiles", "pubmed26n0011.xml.gz", new)

    mirror.before = replace
    fetched = {short(raw.name): raw.checksum for raw in corpus.refresh()}
    assert fetched["u26n11"] == digest


@pytest.mark.parametrize("form", ["{md5}  {name}\n", "{md5} *./{name}", "{md5}\n", "MD5 ({name}) = {md5}"])
def test_a_mirror_may_write_its_sums_as_md5sum_does(mirror: NlmMirror, corpus: Corpus, form: str) -> None:
    for path, file in mirror.files.items():
        if path.endswith(".md5"):
            md5 = file.content.decode().split()[-1]
            name = path.rpartition("/")[2].removesuffix(".md5")
            mirror.files[path] = type(file)(form.format(md5=md5, name=name).encode(), file.modified)
    assert len(list(corpus.refresh())) == 5


@pytest.mark.parametrize(
    "sidecar",
    [
        b"",
        b"a" * 32 + b"  other.gz",
        b"a" * 33,
        b"MD5(pubmed26n0012.xml.gz)= " + b"a" * 32,
        b"MD5(pubmed26n0011.xml.gz)= a",
    ],
)
def test_a_sidecar_that_is_none_of_this_file_is_refused(mirror: NlmMirror, corpus: Corpus, sidecar: bytes) -> None:
    path = "updatefiles/pubmed26n0011.xml.gz.md5"
    mirror.files[path] = type(mirror.files[path])(sidecar, mirror.files[path].modified)
    with pytest.raises(FetchError, match=r"n0011.xml.gz.md5: it is not MD5"):
        corpus.refresh()
    assert len(corpus.known.files) == 3


def test_a_listing_that_changes_meanwhile_is_read_once_more(mirror: NlmMirror, corpus: Corpus) -> None:
    def replace(path: str) -> None:
        if path.endswith("n0002.xml.gz"):
            mirror.before = lambda path: None
            renew(mirror)

    mirror.before = replace
    assert corpus.names() == ["b26n1", "b27n1", "b27n2", "b27n3"]
    assert mirror.requests.count("/baseline/") == 2


def test_a_file_that_is_withdrawn_meanwhile_is_left_out(mirror: NlmMirror, corpus: Corpus) -> None:
    def withdraw(path: str) -> None:
        if path == "/updatefiles/pubmed26n0011.xml.gz.md5":
            mirror.before = lambda path: None
            mirror.remove("updatefiles", "pubmed26n0011.xml.gz")

    mirror.before = withdraw
    assert corpus.names() == ["b26n1", "b26n2", "b26n10", "u26n12"]


def test_a_file_that_is_listed_and_never_there_ends_in_one_sentence(mirror: NlmMirror, corpus: Corpus) -> None:
    mirror.fail(r"n0011\.xml\.gz$", Fault(status=404), times=None)
    with pytest.raises(FetchError, match=r"n0011.xml.gz: status 404 Not Found, although it is listed, also after a se"):
        corpus.refresh()
    assert mirror.requests.count("/updatefiles/") == 2
    mirror.heal()
    assert corpus.names() == ["u26n11", "u26n12"]


def test_a_half_file_is_gone_on_with_by_the_next_refresh(mirror: NlmMirror, corpus: Corpus) -> None:
    mirror.fail(r"n0001\.xml\.gz$", Fault(cut=100))
    mirror.fail(r"n0001\.xml\.gz$", Fault(status=403))
    with pytest.raises(FetchError, match="403"):
        corpus.refresh()
    assert (corpus.folder / "pubmed26n0001.xml.gz.part").stat().st_size == 100
    assert len(corpus.refresh()) == 5
