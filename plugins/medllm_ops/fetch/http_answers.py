"""What a publisher's answer says: whether another try may help, which part of a file it is, and of which state."""

from __future__ import annotations

import email.utils
import logging
import re
import time

import httpx

from medllm_ops.errors import MedllmError

log = logging.getLogger(__name__)

_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_ERROR_BODY_BYTES = 2000
_CONTENT_RANGE = re.compile(r"bytes \d+-\d+/(\d+)")


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


class TransientError(Exception):
    """A fault that another try may not meet."""

    def __init__(self, reason: str, status: int = 0, retry_after: float = 0) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after


def raise_for_status(url: str, response: httpx.Response) -> None:
    """Raise if the answer is none.

    :raises TransientError: where another try may bring one. :raises HttpError: where none will.
    """
    status = response.status_code
    if status in _TRY_AGAIN:
        reason = f"status {status} {response.reason_phrase}"
        raise TransientError(reason, status, _seconds(response.headers.get("retry-after", "")))
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


def starts_at(response: httpx.Response, position: int) -> bool:
    """Whether it is the part of the file from there on."""
    return str(response.headers.get("content-range", "")).startswith(f"bytes {position}-")


def size_of(response: httpx.Response) -> int:
    """Bytes of the whole file; 0 if the server does not say."""
    if response.status_code == 206:
        stated = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
        return int(stated[1]) if stated else 0
    return int(response.headers.get("content-length") or 0)


def validator_of(response: httpx.Response) -> str:
    """What tells this state of the file from another one; empty if the server does not say."""
    etag = str(response.headers.get("etag", ""))
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("last-modified", ""))
