"""One small damage at a time: what a bad disk, a cut connection or an editor does to a file."""

from collections.abc import Callable

import pytest

Mutate = Callable[[bytes, str, float, int, int], tuple[bytes, int, int]]

MUTATIONS = ("flip", "delete", "insert", "cut", "duplicate")


def _mutate(data: bytes, kind: str, where: float, length: int, value: int) -> tuple[bytes, int, int]:
    """Apply one mutation at the share ``where`` (0 to 1) of the bytes.

    Returns the new bytes, and the range ``[start, stop)`` of the *old* bytes that is not what it was.
    """
    start = min(int(where * len(data)), len(data) - 1)
    stop = min(start + length, len(data))
    if kind == "flip":
        return data[:start] + bytes([data[start] ^ (value or 1)]) + data[start + 1 :], start, start + 1
    if kind == "delete":
        return data[:start] + data[stop:], start, stop
    if kind == "insert":
        return data[:start] + bytes([value]) * length + data[start:], start, start
    if kind == "cut":
        return data[:start], start, len(data)
    return data[:stop] + data[start:stop] + data[stop:], stop, stop


@pytest.fixture(scope="session")
def mutate() -> Mutate:
    return _mutate


@pytest.fixture(scope="session")
def mutation_kinds() -> tuple[str, ...]:
    return MUTATIONS
