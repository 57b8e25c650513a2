"""The HTTP client against a server that fails in every way it knows."""

import email.utils
import gzip
import time
from pathlib import Path

import pytest

from fetch.publisher import MD5, Publisher
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.http_answers import HttpError
from servers.base import Answer, Fault, Server


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between tries; nothing really waits."""
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: slept.append(seconds) if seconds > 0 else None)
    return slept


def download(client: Client, publisher: Publisher, folder: Path, md5: str | None = MD5) -> bytes:
    path = folder / "file.gz"
    assert client.download(publisher.url + "file.gz", path, md5) == path
    assert [each.name for each in folder.iterdir()] == ["file.gz"]
    return path.read_bytes()


# Requests


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=408),
        Fault(status=429),
        Fault(status=429, retry_after="0"),
        Fault(status=500),
        Fault(status=503, retry_after="soon"),
        Fault(status=504),
        Fault(cut=3),
        Fault(cut=0),
        Fault(wrong_length=5),
    ],
    ids=str,
)
def test_a_passing_fault_is_tried_again(publisher: Publisher, client: Client, fault: Fault) -> None:
    publisher.fail("page", fault, times=2)
    assert client.get(publisher.url + "page").text == "a page"
    assert publisher.requests == ["/page"] * 3


def test_a_lasting_fault_ends_in_one_sentence(publisher: Publisher, client: Client) -> None:
    publisher.fail("page", Fault(status=503), times=None)
    with pytest.raises(HttpError, match=r"page: status 503 Service Unavailable, after 3 tries$") as error:
        client.get(publisher.url + "page")
    assert error.value.status == 503
    assert len(publisher.requests) == 3


@pytest.mark.parametrize("status", [300, 304, 400, 403, 404, 410, 501])
def test_a_final_answer_is_not_tried_again(publisher: Publisher, client: Client, status: int) -> None:
    publisher.answers["/page"] = Answer(b"" if status == 304 else b"a reason" * 1000, "text/plain", status)
    with pytest.raises(HttpError, match=f"page: status {status}") as error:
        client.get(publisher.url + "page")
    assert len(publisher.requests) == 1
    assert error.value.body == ("" if status == 304 else ("a reason" * 1000)[:2000])


@pytest.mark.parametrize("url", ["ftp.example.org/pubmed/", "ftp://example.org/", "http://[::1", "http://a:b:c/"])
def test_an_address_that_is_none_fails_at_once(client: Client, sleeps: list[float], url: str) -> None:
    with pytest.raises(HttpError, match=r".*: .+"):
        client.get(url)
    assert sleeps == []


def test_a_server_that_is_not_there_is_tried_and_named(client: Client, sleeps: list[float]) -> None:
    with Server() as gone:
        url = gone.url
    with pytest.raises(HttpError, match=f"{url}: .*refused, after 3 tries"):
        client.get(url)
    assert len(sleeps) == 2


def test_waits_double_from_the_first_one_on_and_have_a_limit(publisher: Publisher, sleeps: list[float]) -> None:
    publisher.fail("page", Fault(status=503), times=None)
    with Client(attempts=8, first_wait=1, longest_wait=10) as client, pytest.raises(HttpError, match="after 8 tries"):
        client.get(publisher.url + "page")
    assert len(sleeps) == 7
    for waited, most in zip(sleeps, (1, 2, 4, 8, 10, 10, 10), strict=True):
        assert most / 2 <= waited <= most


@pytest.mark.parametrize("form", ["{seconds}", " {seconds} ", "{date}"])
def test_retry_after_is_obeyed(publisher: Publisher, sleeps: list[float], form: str) -> None:
    date = email.utils.formatdate(time.time() + 50, usegmt=True)
    publisher.fail("page", Fault(status=429, retry_after=form.format(seconds=50, date=date)))
    with Client(first_wait=0.01) as client:
        client.get(publisher.url + "page")
    assert len(sleeps) == 1
    assert 45 < sleeps[0] <= 50


def test_retry_after_beyond_the_patience_ends_it(publisher: Publisher, client: Client, sleeps: list[float]) -> None:
    publisher.fail("page", Fault(status=429, retry_after="3600"))
    with pytest.raises(HttpError, match=r"status 429 .* \(it asks to wait 3600 s\), after 1 try$"):
        client.get(publisher.url + "page")
    assert sleeps == []


@pytest.mark.parametrize("value", ["²", "-5", "", "yesterday", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_strange_retry_after_is_no_reason_to_wait(
    publisher: Publisher, client: Client, sleeps: list[float], value: str
) -> None:
    publisher.fail("page", Fault(status=503, retry_after=value))
    assert client.get(publisher.url + "page").text == "a page"
    assert len(sleeps) == 1
    assert sleeps[0] <= 0.01


def test_what_parse_refuses_is_asked_for_again(publisher: Publisher, client: Client) -> None:
    publisher.fail("page", Fault(html=True))

    def parse(response: object) -> str:
        text: str = response.text  # type: ignore[attr-defined]
        if "<html>" in text:
            raise ValueError("an error page")
        return text

    assert client.read(publisher.url + "page", parse) == "a page"
    publisher.fail("page", Fault(html=True), times=None)
    with pytest.raises(HttpError, match="page: an error page, after 3 tries"):
        client.read(publisher.url + "page", parse)


def test_a_damaged_coding_is_tried_again(publisher: Publisher, client: Client) -> None:
    coded = Answer(gzip.compress(b"a page"), "text/plain", headers={"Content-Encoding": "gzip"})
    publisher.answers["/page"] = coded
    publisher.fail("page", Fault(corrupt=True))
    assert client.get(publisher.url + "page").text == "a page"
    assert len(publisher.requests) == 2


def test_redirects_are_followed_and_rings_of_them_are_not(publisher: Publisher, client: Client) -> None:
    publisher.answers["/old"] = Answer(b"", status=302, headers={"Location": "/page"})
    publisher.answers["/ring"] = Answer(b"", status=302, headers={"Location": "/ring"})
    publisher.answers["/ftp"] = Answer(b"", status=302, headers={"Location": "ftp://example.org/"})
    assert client.get(publisher.url + "old").text == "a page"
    for path in ("ring", "ftp"):
        with pytest.raises(HttpError, match=path):
            client.get(publisher.url + path)
    assert publisher.requests.count("/ftp") == 1


def test_the_agent_and_the_parameters_are_sent(publisher: Publisher, client: Client) -> None:
    client.get(publisher.url + "page", {"q": "a b&c"}, {"X-More": "1"})
    (request,) = publisher.asked
    assert request.parameters == {"q": "a b&c"}
    assert request.headers["user-agent"].startswith("medllm-ops/")
    assert request.headers["x-more"] == "1"


def test_requests_keep_their_distance(publisher: Publisher, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.pause = (30, 40)
    pauses: list[float] = []
    monkeypatch.setattr("medllm_ops.fetch.http.time.sleep", pauses.append)
    for _ in range(3):
        client.get(publisher.url + "page")
    assert pauses[0] == 0
    assert all(29 < pause <= 40 for pause in pauses[1:])
