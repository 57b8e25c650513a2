"""NLM's mirror when the publisher fails: the refresh ends right, or with one sentence."""

import re
from pathlib import Path

import pytest

from fetch.mirrored import Corpus, renew, short
from medllm_ops.fetch.base import FetchError
from medllm_ops.fetch.http import Client
from servers.base import Fault
from servers.nlm import NlmMirror
from servers.pubmed_xml import article_set, citation


@pytest.fixture
def corpus(mirror: NlmMirror, client: Client, tmp_path: Path) -> Corpus:
    return Corpus(mirror, client, tmp_path)


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
