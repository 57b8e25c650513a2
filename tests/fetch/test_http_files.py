"""Files by HTTP, from a server that fails in every way it knows: they come whole, or not at all."""

import gzip
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetch.publisher import CONTENT, MD5, Publisher
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.http_answers import ChecksumError, HttpError
from servers.base import Answer, Fault, Request


def download(client: Client, publisher: Publisher, folder: Path, md5: str | None = MD5) -> bytes:
    path = folder / "file.gz"
    assert client.download(publisher.url + "file.gz", path, md5) == path
    assert [each.name for each in folder.iterdir()] == ["file.gz"]
    return path.read_bytes()


def test_a_file_comes_whole_with_its_progress(publisher: Publisher, client: Client, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    client.download(publisher.url + "file.gz", tmp_path / "deep" / "file.gz", MD5.upper(), lambda *it: seen.append(it))
    assert (tmp_path / "deep" / "file.gz").read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert publisher.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(status=429, retry_after="0"),
        Fault(cut=0),
        Fault(cut=100_000),
        Fault(wrong_length=-1000),
        Fault(wrong_length=1000),
        Fault(html=True),
        Fault(corrupt=True),
    ],
    ids=str,
)
def test_no_fault_keeps_a_file_from_coming_whole(
    publisher: Publisher, client: Client, tmp_path: Path, fault: Fault
) -> None:
    publisher.fail("file", fault)
    assert download(client, publisher, tmp_path) == CONTENT


def test_what_was_cut_goes_on_where_it_broke_off(publisher: Publisher, client: Client, tmp_path: Path) -> None:
    publisher.fail("file", Fault(cut=100_000))
    publisher.fail("file", Fault(cut=50_000))
    assert download(client, publisher, tmp_path) == CONTENT
    assert publisher.ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert {request.headers.get("if-range") for request in publisher.asked[1:]} == {'"one"'}


def test_a_later_client_goes_on_with_the_half_file(publisher: Publisher, client: Client, tmp_path: Path) -> None:
    publisher.fail("file", Fault(cut=100_000))
    publisher.fail("file", Fault(status=404))
    with pytest.raises(HttpError, match="404"):
        client.download(publisher.url + "file.gz", tmp_path / "file.gz", MD5)
    assert not (tmp_path / "file.gz").exists()
    with Client() as later:
        assert download(later, publisher, tmp_path) == CONTENT
    assert publisher.ranges[-1] == "bytes=100000-"


def test_a_whole_file_that_has_no_name_yet_is_not_fetched_again(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    # The connection breaks after the last byte, before the end that was promised.
    publisher.fail("file", Fault(wrong_length=1000))
    assert download(client, publisher, tmp_path) == CONTENT
    assert publisher.ranges == [None, f"bytes={len(CONTENT)}-"]


def test_a_file_that_was_replaced_meanwhile_is_fetched_anew(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    old = publisher.answers["/file.gz"]
    publisher.answers["/file.gz"] = Answer(b"x" * 200_000, old.content_type, headers={"ETag": '"zero"'})
    publisher.fail("file", Fault(cut=100_000))
    publisher.fail("file", Fault(status=404))
    with pytest.raises(HttpError, match="404"):
        client.download(publisher.url + "file.gz", tmp_path / "file.gz")
    publisher.answers["/file.gz"] = old
    assert download(client, publisher, tmp_path, md5=None) == CONTENT


def test_a_file_that_became_shorter_is_fetched_anew(publisher: Publisher, client: Client, tmp_path: Path) -> None:
    (tmp_path / "file.gz.part").write_bytes(b"x" * (len(CONTENT) + 10))
    (tmp_path / "file.gz.part.json").write_text('{"validator": "\\"one\\""}')
    assert download(client, publisher, tmp_path) == CONTENT
    assert publisher.ranges == [f"bytes={len(CONTENT) + 10}-", None]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_strong_validator_nothing_is_continued(
    publisher: Publisher, client: Client, tmp_path: Path, headers: dict[str, str]
) -> None:
    publisher.answers["/file.gz"] = Answer(CONTENT, "application/x-gzip", headers=headers)
    publisher.fail("file", Fault(cut=100_000))
    assert download(client, publisher, tmp_path, md5=None) == CONTENT
    assert publisher.ranges == [None, None]


def test_another_part_than_the_one_asked_for_is_thrown_away(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    whole = publisher.answers["/file.gz"]
    publisher.fail("file", Fault(cut=100_000))
    wrong = {**whole.headers, "Content-Range": f"bytes 0-199999/{len(CONTENT)}"}
    answers = iter([Answer(CONTENT[:200_000], whole.content_type, 206, wrong), whole])
    publisher.answer = lambda request: whole if not request.headers.get("range") else next(answers)  # type: ignore[method-assign]
    assert download(client, publisher, tmp_path, md5=None) == CONTENT


def test_a_server_that_gives_out_small_parts_is_read_to_the_end(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    whole = publisher.answers["/file.gz"]

    def answer(request: Request) -> Answer:
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        part = CONTENT[start : start + 60_000]
        extra = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(CONTENT)}"}
        return Answer(part, whole.content_type, 206, {**whole.headers, **extra})

    publisher.answer = answer  # type: ignore[method-assign]
    # Five parts and three attempts: each new byte begins the count anew.
    assert download(client, publisher, tmp_path) == CONTENT
    assert len(publisher.requests) == 5


def test_a_wrong_checksum_once_is_fetched_again_and_for_ever_is_refused(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    publisher.fail("file", Fault(corrupt=True))
    assert download(client, publisher, tmp_path) == CONTENT
    assert len(publisher.requests) == 2
    (tmp_path / "file.gz").unlink()
    publisher.fail("file", Fault(corrupt=True), times=None)
    with pytest.raises(ChecksumError, match=f"its md5 is [0-9a-f]{{32}}, its publisher says {MD5}; nothing of it"):
        client.download(publisher.url + "file.gz", tmp_path / "file.gz", MD5)
    assert list(tmp_path.iterdir()) == []


def test_an_error_page_does_not_pass_for_the_file(publisher: Publisher, client: Client, tmp_path: Path) -> None:
    publisher.fail("file", Fault(html=True), times=None)
    with pytest.raises(HttpError, match="an HTML page came instead of the file, after 3 tries"):
        client.download(publisher.url + "file.gz", tmp_path / "file.gz")
    assert not (tmp_path / "file.gz").exists()


def test_a_gz_file_that_a_server_calls_coded_stays_as_it_is(
    publisher: Publisher, client: Client, tmp_path: Path
) -> None:
    content = gzip.compress(b"<PubmedArticleSet/>")
    publisher.answers["/file.gz"] = Answer(content, "text/xml", headers={"Content-Encoding": "gzip"})
    assert download(client, publisher, tmp_path, md5=None) == content
    publisher.answers["/file.json"] = publisher.answers["/file.gz"]
    with pytest.raises(HttpError, match=r"file.json: it came compressed \(gzip\)"):
        client.download(publisher.url + "file.json", tmp_path / "file.json")


def test_a_slow_file_that_moves_is_waited_for(publisher: Publisher, client: Client, tmp_path: Path) -> None:
    publisher.answers["/file.gz"] = Answer(CONTENT[:20_000], "application/x-gzip", headers={"ETag": '"short"'})
    publisher.fail("file", Fault(slow=40_000), times=None)
    with Client(timeout=0.2, slowest=1000) as patient:
        assert download(patient, publisher, tmp_path, md5=None) == CONTENT[:20_000]


def test_a_drip_is_given_up(publisher: Publisher, tmp_path: Path) -> None:
    publisher.fail("file", Fault(slow=1000))
    with Client(timeout=0.5, slowest=1e5, attempts=1) as client, pytest.raises(HttpError, match=r"only \d+ bytes came"):
        client.download(publisher.url + "file.gz", tmp_path / "file.gz")


def test_a_drip_is_given_up_also_after_a_fast_beginning() -> None:
    blocks = iter([b"x" * 10**6, *[b"y"] * 100])

    def slow() -> Iterator[bytes]:
        for block in blocks:
            time.sleep(0.02)
            yield block

    with Client(timeout=0.1, slowest=1000) as client, pytest.raises(Exception, match=r"only \d bytes came"):
        list(client._watched(slow()))
    assert len(list(blocks)) > 80


def test_silence_is_given_up(publisher: Publisher, tmp_path: Path) -> None:
    publisher.fail("file", Fault(slow=1))
    with Client(timeout=0.1, attempts=1) as client, pytest.raises(HttpError, match="timed out, after 1 try"):
        client.download(publisher.url + "file.gz", tmp_path / "file.gz")


def test_each_fault_is_logged_with_its_address(
    publisher: Publisher, client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    publisher.fail("file", Fault(status=503))
    download(client, publisher, tmp_path)
    assert f"{publisher.url}file.gz: status 503 Service Unavailable; next try in" in caplog.text
