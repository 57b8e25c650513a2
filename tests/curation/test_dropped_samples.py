from __future__ import annotations

import pytest

from medllm_ops.curation.dropped_samples import EXCERPT, excerpt


@pytest.mark.parametrize("before", range(30))
def test_no_half_of_a_value_is_left_where_a_list_of_contacts_is_cut(before: int) -> None:
    addresses = (f"住址：上海市黄浦区南京东路{n}号，xu.{n}@mail.department.example.com" for n in range(100, 200))
    contacts = "甲" * before + "\n".join(addresses)
    told = excerpt(contacts)
    assert "⟨EMAIL⟩" in told
    assert not any(part in told for part in ("xu.", "example", "南京东路"))


def test_an_excerpt_is_the_beginning_of_a_text() -> None:
    assert excerpt("short") == "short"
    text = "".join(chr(0x4E00 + n) for n in range(2 * EXCERPT + 50))
    assert excerpt(text) == f"{text[: EXCERPT - 1]}…"
