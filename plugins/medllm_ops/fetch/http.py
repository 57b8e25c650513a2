"""HTTP as a polite and patient reader: retries, Retry-After, pauses, downloads that go on where they broke off.

Retries are tenacity's. What may be tried again: a lost or slow connection, a short body, and the statuses 408, 425,
429, 500, 502, 503 and 504 (RFC 9110, section 15). Everything else is final.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import tenacity

from medllm_ops import __version__
from medllm_ops.fetch.http_answers import (
    ChecksumError,
    HttpError,
    TransientError,
    raise_for_status,
    size_of,
    starts_at,
    validator_of,
)
from medllm_ops.fetch.part import Part
from medllm_ops.files import md5_of

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


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
                raise_for_status(url, response)
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
                raise TransientError(str(error), answer.status_code) from error

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
            found = md5_of(part.file)
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
                raise TransientError("the file became shorter")
            raise_for_status(url, response)
            if "text/html" in response.headers.get("content-type", "") and part.is_no_page:
                raise TransientError("an HTML page came instead of the file", response.status_code)
            coding = response.headers.get("content-encoding", "identity")
            if coding != "identity" and not part.is_gzip:
                raise HttpError(url, f"it came compressed ({coding}), though it was asked for as it is")
            if response.status_code != 206:
                part.discard()
            elif not starts_at(response, part.size):
                part.discard()
                raise TransientError("another part of the file came than the one that was asked for")
            total = size_of(response)
            part.begin(validator_of(response))
            with part.file.open("ab") as file:
                # Raw: some servers call a .gz file a coded one, and httpx would unpack it.
                for block in self._watched(response.iter_raw()):
                    file.write(block)
                    if progress:
                        progress(file.tell(), total)
        if total and part.size != total:
            raise TransientError(f"{part.size} bytes came instead of {total}")

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
            raise TransientError(str(error) or type(error).__name__) from error
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
                    raise TransientError(f"only {size} bytes came in {seconds:.0f} s")
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
            retry=tenacity.retry_if_exception_type(TransientError),
            before_sleep=tell,
            reraise=True,
        )
        try:
            return retrying(attempt)
        except TransientError as error:
            asked = f" (it asks to wait {error.retry_after:.0f} s)" if error.retry_after > self._longest_wait else ""
            tries = "1 try" if failures == 1 else f"{failures} tries"
            raise HttpError(url, f"{error}{asked}, after {tries}", error.status) from error


_CODED = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def _fault(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _retry_after(state: tenacity.RetryCallState) -> float:
    fault = _fault(state)
    return fault.retry_after if isinstance(fault, TransientError) else 0
