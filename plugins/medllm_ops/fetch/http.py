"""HTTP as a polite and patient reader: retries, Retry-After, pauses, downloads that go on where they broke off.

Retries are tenacity's. What may be tried again: a lost or slow connection, a short body, and the statuses 408, 425,
429, 500, 502, 503 and 504 (RFC 9110, section 15). Everything else is final.
"""

from __future__ import annotations

import email.utils
import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import tenacity

from medllm_ops import __version__
from medllm_ops.errors import MedllmError
from medllm_ops.fetch.part import Part

log = logging.getLogger(__name__)

_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_ERROR_BODY_BYTES = 2000
_CONTENT_RANGE = re.compile(r"bytes \d+-\d+/(\d+)")
_Result = TypeVar("_Result")


class HttpError(MedllmError):
    """A request failed for good; its text names the address and the last reason.

    ``body`` is the beginning of what the server said, if it said no.
    """

    def __init__(self, url: str, reason: str, status: int = 0, body: str = "") -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason
        self.status = status
        self.body = body


class ChecksumError(HttpError):
    """A file came in whole, but is not what its publisher's checksum says."""


class _TransientError(Exception):
    """A fault that another try may not meet."""

    def __init__(self, reason: str, status: int = 0, retry_after: float = 0) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after


class Client:
    """An HTTP client for one publisher.

    :param attempts: tries of a request, and of a download without a new byte, before it is given up.
    :param first_wait: seconds before the second try; doubled each time, with jitter.
    :param longest_wait: the most seconds to wait; a longer Retry-After ends the request with that reason.
    :param timeout: seconds without a byte until a try is given up.
    :param slowest: bytes per second below which a connection is given up, counted over ``timeout`` seconds.
    :param pause: between two requests, seconds drawn evenly from this range.
    """

    def __init__(
        self,
        *,
        attempts: int = 6,
        first_wait: float = 0.5,
        longest_wait: float = 120,
        timeout: float = 60,
        slowest: float = 1024,
        pause: tuple[float, float] = (0, 0),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._attempts = attempts
        self._first_wait = first_wait
        self._longest_wait = longest_wait
        self._timeout = timeout
        self._slowest = slowest
        self.pause = pause
        self._next_request = 0.0
        agent = {"User-Agent": f"medllm-ops/{__version__}", **(headers or {})}
        self._http = httpx.Client(timeout=timeout, follow_redirects=True, headers=agent)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def get(
        self, url: str, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """GET with retries; the whole body is read.

        :raises HttpError: when the server says no, or when the tries are used up.
        """
        return self.read(url, lambda response: response, params, headers)

    def read(
        self,
        url: str,
        parse: Callable[[httpx.Response], _Result],
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _Result:
        """GET with retries, and return what ``parse`` makes of the answer.

        :param parse: a ``ValueError`` of it is a fault that another try may not meet: JSON that breaks off, an error
            page with status 200.
        :raises HttpError: when the server says no, or when the tries are used up.
        """

        def attempt() -> _Result:
            with self._stream(url, params, headers) as response:
                _raise_for_status(url, response)
                body = b"".join(self._watched(response.iter_bytes()))
                answer = httpx.Response(
                    response.status_code,
                    headers=[(key, value) for key, value in response.headers.multi_items() if key not in _CODED],
                    content=body,
                    request=response.request,
                )
            try:
                return parse(answer)
            except ValueError as error:
                raise _TransientError(str(error), answer.status_code) from error

        return self._patiently(url, attempt)

    def download(
        self, url: str, path: Path, md5: str | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Path:
        """Bring a file to ``path``, which appears whole or not at all.

        A half file lies beside it as ``<name>.part``; the next try, in this process or a later one, asks for the rest
        of it, if the publisher's file is still the same (``If-Range``, RFC 9110 section 13.1.5).

        :param md5: the publisher's checksum, 32 hexadecimal digits.
        :param progress: called with the bytes that are here and the bytes in all (0 if unknown).
        :raises ChecksumError: if the whole file differs from ``md5``, twice.
        :raises HttpError: when the server says no, or when the tries are used up.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Part(path)
        for last in (False, True):
            self._patiently(url, lambda: self._continue(url, part, progress), lambda: part.size)
            found = part.md5()
            if md5 is None or found == md5.lower():
                part.finish()
                return path
            part.discard()
            if not last:
                log.warning("%s: md5 is %s instead of %s; fetching it once more", url, found, md5)
        raise ChecksumError(url, f"its md5 is {found}, its publisher says {md5}; nothing of it was kept")

    def _continue(self, url: str, part: Part, progress: Callable[[int, int], None] | None) -> None:
        headers = {"Accept-Encoding": "identity"}
        if part.size and part.validator:
            headers |= {"Range": f"bytes={part.size}-", "If-Range": part.validator}
        with self._stream(url, None, headers) as response:
            if response.status_code == 416:
                if response.headers.get("content-range") == f"bytes */{part.size}":
                    return  # whole already: the process ended before it gave the file its name
                part.discard()
                raise _TransientError("the file became shorter")
            _raise_for_status(url, response)
            if "text/html" in response.headers.get("content-type", "") and part.is_no_page:
                raise _TransientError("an HTML page came instead of the file", response.status_code)
            coding = response.headers.get("content-encoding", "identity")
            if coding != "identity" and not part.is_gzip:
                raise HttpError(url, f"it came compressed ({coding}), though it was asked for as it is")
            if response.status_code != 206:
                part.discard()
            elif not _starts_at(response, part.size):
                part.discard()
                raise _TransientError("another part of the file came than the one that was asked for")
            total = _size(response)
            part.begin(_validator(response))
            with part.file.open("ab") as file:
                # Raw: some servers call a .gz file a coded one, and httpx would unpack it.
                for block in self._watched(response.iter_raw()):
                    file.write(block)
                    if progress:
                        progress(file.tell(), total)
        if total and part.size != total:
            raise _TransientError(f"{part.size} bytes came instead of {total}")

    @contextmanager
    def _stream(
        self, url: str, params: Mapping[str, Any] | None, headers: Mapping[str, str] | None
    ) -> Iterator[httpx.Response]:
        time.sleep(max(0.0, self._next_request - time.monotonic()))
        try:
            with self._http.stream("GET", url, params=params, headers=headers) as response:
                yield response
        except (httpx.InvalidURL, httpx.TooManyRedirects, httpx.UnsupportedProtocol) as error:
            raise HttpError(url, str(error)) from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _TransientError(str(error) or type(error).__name__) from error
        finally:
            self._next_request = time.monotonic() + random.uniform(*self.pause)

    def _watched(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        began, size = time.monotonic(), 0
        for block in blocks:
            yield block
            size += len(block)
            seconds = time.monotonic() - began
            if seconds > self._timeout:
                if size < self._slowest * seconds:
                    raise _TransientError(f"only {size} bytes came in {seconds:.0f} s")
                began, size = time.monotonic(), 0

    def _patiently(self, url: str, attempt: Callable[[], _Result], gained: Callable[[], int] = lambda: 0) -> _Result:
        """Try until it works; a try that brought new bytes begins the count anew."""
        best = gained()
        failures = 0

        def count(_: tenacity.RetryCallState) -> None:
            nonlocal best, failures
            # A server that drips gives new bytes to every try, for ever.
            failures = 1 if gained() >= best + self._slowest * self._timeout else failures + 1
            best = max(best, gained())

        def stop(state: tenacity.RetryCallState) -> bool:
            return failures >= self._attempts or _retry_after(state) > self._longest_wait

        def wait(state: tenacity.RetryCallState) -> float:
            backoff: float = min(self._first_wait * 2 ** min(failures - 1, 30), self._longest_wait)
            return max(backoff * random.uniform(0.5, 1), _retry_after(state))

        def tell(state: tenacity.RetryCallState) -> None:
            log.warning("%s: %s; next try in %.1f s", url, _fault(state), state.upcoming_sleep)

        retrying = tenacity.Retrying(
            after=count,  # tenacity calls it before wait and stop
            stop=stop,
            wait=wait,
            retry=tenacity.retry_if_exception_type(_TransientError),
            before_sleep=tell,
            reraise=True,
        )
        try:
            return retrying(attempt)
        except _TransientError as error:
            asked = f" (it asks to wait {error.retry_after:.0f} s)" if error.retry_after > self._longest_wait else ""
            tries = "1 try" if failures == 1 else f"{failures} tries"
            raise HttpError(url, f"{error}{asked}, after {tries}", error.status) from error


_CODED = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def _raise_for_status(url: str, response: httpx.Response) -> None:
    status = response.status_code
    if status in _TRY_AGAIN:
        reason = f"status {status} {response.reason_phrase}"
        raise _TransientError(reason, status, _seconds(response.headers.get("retry-after", "")))
    if status >= 300:
        raise HttpError(url, f"status {status} {response.reason_phrase}", status, _beginning(response))


def _beginning(response: httpx.Response) -> str:
    body = b""
    try:
        for block in response.iter_bytes():
            body += block
            if len(body) >= _ERROR_BODY_BYTES:
                break
    except (httpx.TransportError, httpx.DecodingError) as error:
        log.debug("the reason for status %d broke off: %s", response.status_code, error)
    return body[:_ERROR_BODY_BYTES].decode("utf-8", "replace")


def _seconds(retry_after: str) -> float:
    """What a Retry-After header asks for, in seconds: a number, or the seconds until a date (RFC 9110, 10.2.3)."""
    if re.fullmatch(r"\s*[0-9]+\s*", retry_after):
        return float(retry_after)
    try:
        date = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return 0
    return max(0.0, date.timestamp() - time.time())


def _starts_at(response: httpx.Response, position: int) -> bool:
    return str(response.headers.get("content-range", "")).startswith(f"bytes {position}-")


def _size(response: httpx.Response) -> int:
    """Bytes of the whole file; 0 if the server does not say."""
    if response.status_code == 206:
        stated = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
        return int(stated[1]) if stated else 0
    return int(response.headers.get("content-length") or 0)


def _validator(response: httpx.Response) -> str:
    etag = str(response.headers.get("etag", ""))
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("last-modified", ""))


def _fault(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _retry_after(state: tenacity.RetryCallState) -> float:
    fault = _fault(state)
    return fault.retry_after if isinstance(fault, _TransientError) else 0
