"""A client that does not wait long, and who it asks."""

from collections.abc import Iterator

import pytest

from fetch.mirrored import add
from fetch.publisher import Publisher
from medllm_ops.fetch.http import Client
from servers.nlm import NlmMirror


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(attempts=3, first_wait=0.01, longest_wait=2, timeout=1) as made:
        yield made


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher() as server:
        yield server


@pytest.fixture
def mirror() -> Iterator[NlmMirror]:
    with NlmMirror() as server:
        for number in (1, 2, 10):
            add(server, number, "baseline")
        for number in (11, 12):
            add(server, number)
        yield server
