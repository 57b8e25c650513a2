import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.sources.text import (
    as_json,
    excerpt,
    tidy_line,
    tidy_lines,
    without_copyright,
    without_mail_addresses,
    without_telephone_numbers,
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("  a \n b\t\r\n c ", "a b c"),
        ("5\u00a0mg\u202f·\u2009l\u3000x\u2028y\u0085z", "5 mg · l x y z"),
        ("a\u200bb\u200c\u200d\u2060\ufeffc\u00add\u200ee\x00\x1b\x9ff", "abcdef"),
        ("\u200b \u200b", ""),
        ("e\u0301 Å ﬁ ² 中医\ue000", "e\u0301 Å ﬁ ² 中医\ue000"),
        ("lone\ud800 surrogate", "lone surrogate"),
    ],
)
def test_one_line(text: str, line: str) -> None:
    assert tidy_line(text) == line


def test_lines_keep_their_ends_and_lose_the_empty_ones() -> None:
    assert tidy_lines(" a  b \r\n\n\u200b\n\rc\u2028d\n") == "a b\nc d"


@given(st.text())
def test_tidying_is_done_after_once_and_can_always_be_written(text: str) -> None:
    line = tidy_line(text)
    assert tidy_line(line) == line
    assert "\n" not in line
    assert tidy_lines(tidy_lines(text)) == tidy_lines(text)
    line.encode()


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Free at our site. Contact: a.b-c+d@uni.example.org. End", "Free at our site. End"),
        ("E-mail: x@y.de", ""),
        ("mailto:x@y.museum, thanks", "thanks"),
        ("x@a.b.c.example.com; end", "end"),
        ("Ag@Au.Then we saw Fe3O4@SiO2 at 5@6.", "Ag@Au.Then we saw Fe3O4@SiO2 at 5@6."),
    ],
)
def test_mail_addresses(text: str, rest: str) -> None:
    assert without_mail_addresses(text) == rest


@pytest.mark.parametrize("text", ["{} a@b.org", "{}@", "a@{}", "a@{}.", "a@" + "b." * 2_000 + "{}"])
def test_a_long_sequence_beside_an_address_takes_no_square_of_its_length(text: str) -> None:
    begin = time.process_time()
    without_mail_addresses(text.format("ACGT" * 20_000))
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Works. Tel.: +49 (0)30 1234-5678; Fax +49 30 12345679. End", "Works. End"),
        ("Works. Phone: 555-123-4567", "Works."),
        (
            "Asked by telephone 1990-2000 and by phone. 1999 2003 were left out.",
            "Asked by telephone 1990-2000 and by phone. 1999 2003 were left out.",
        ),
        ("Platelets (1 234 567 / l) and a hotel: 12.", "Platelets (1 234 567 / l) and a hotel: 12."),
    ],
)
def test_telephone_numbers(text: str, rest: str) -> None:
    assert without_telephone_numbers(text) == rest


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Works. (PsycINFO Database Record (c) 2014 APA, all rights reserved)", "Works."),
        ("Works. (PsycInfo Database Record (c) 2023 APA, all rights reserved).", "Works."),
        ("Works. Copyright © 2003 John Wiley & Sons, Ltd.", "Works."),
        ("Works! (C) 1997 A House.", "Works!"),
        ("Works. © The Author(s) 2019. Published by A House.", "Works."),
        ("Copyright 2001 A House", ""),
        ("Works. Crown Copyright © 2013. Published by A House Ltd. All rights reserved.", "Works."),
        ("Works. Published by A House Inc. All rights reserved.", "Works."),
        ("Works. [Copyright 2001 A House, Inc.]", "Works."),
        ("Works. © The Authors.", "Works."),
        ("Works. Copyright A House. All rights reserved.", "Works."),
        (
            "Works. Copyright © 2020 The Authors. This is an open-access article under the terms of a licence by which "
            "it may be shared " + "and shared again " * 15,
            "Works.",
        ),
        (
            "We ask for a licence. Copyright is no matter of ours.",
            "We ask for a licence. Copyright is no matter of ours.",
        ),
        ("Groups (a), (b) and (c) were fed in 2001.", "Groups (a), (b) and (c) were fed in 2001."),
        ("We discuss copyright in 2001.", "We discuss copyright in 2001."),
        (
            "© 2001 A House. " + "Then a long text goes on. " * 10,
            "© 2001 A House. " + "Then a long text goes on. " * 10,
        ),
    ],
)
def test_copyright_statements(text: str, rest: str) -> None:
    assert without_copyright(text) == rest


def test_json_of_any_depth() -> None:
    value = orjson.loads(b'{"a":' * 1000 + b"[1]" + b"}" * 1000)
    assert as_json(value) == b'{"a":' * 100 + '"…"'.encode() + b"}" * 100
    assert as_json({"a": [1, {"b": None}]}) == b'{"a":[1,{"b":null}]}'


def test_excerpts_are_short_and_readable() -> None:
    assert excerpt(b"<a>\n  \xff" + b"x" * 1000) == "<a> \ufffd" + "x" * 195
    assert excerpt("a\nb", characters=2) == "a "
