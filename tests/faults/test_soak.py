"""``make soak``: 180 kills of what makes and renames files, leases and supervises, and 20 around ms-swift.

A soak that was interrupted goes on where it stood; to begin anew, name another folder by ``SOAK_FOLDER``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from faults.soak import AREAS, soak, summary
from medllm_ops.home import home as medllm_home

# Before any test has a home of its own.
FOLDER = Path(os.environ.get("SOAK_FOLDER") or medllm_home() / "soak").resolve()


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_two_hundred_kills() -> None:
    rows = soak(FOLDER)
    print(summary(rows))
    assert [row for row in rows if not row["right"]] == []


def test_some_kills_and_going_on_with_them(tmp_path: Path) -> None:
    first = soak(tmp_path / "soak", seed=7, kills=len(AREAS) // 2, swift_kills=0)
    rows = soak(tmp_path / "soak", kills=len(AREAS), swift_kills=0)
    assert rows[: len(first)] == first
    assert [row["number"] for row in rows] == [1, 2, 3, 4]
    assert {row["area"] for row in rows} == set(AREAS)
    assert [row for row in rows if not row["right"]] == []
    assert "merge: 1 of 1 right" in summary(rows)
