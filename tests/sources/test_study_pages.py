"""Broken JSON costs the studies that are broken; the others come out as if nothing had happened."""

import gzip
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medllm_ops.errors import UnreadableFileError
from medllm_ops.records import Document, Reject, record_to_row
from medllm_ops.sources.base import Parsed
from medllm_ops.sources.clinicaltrials import parse


def study(number: int) -> dict[str, Any]:
    return {
        "protocolSection": {
            "identificationModule": {"nctId": f"NCT{number:08}", "briefTitle": f"Title {number} – “β”"},
            "descriptionModule": {"briefSummary": f'Summary {number}, with "quotes", {{braces}}, [lists] and \\[x\\]'},
            "conditionsModule": {"conditions": ["a", f"b{number}"]},
        },
        "derivedSection": {"miscInfoModule": {"versionHolder": "2024-01-01"}},
        "hasResults": False,
    }


STUDIES = [orjson.dumps(study(number)) for number in range(1, 7)]
PAGE = b'{"totalCount":6,"studies":[' + b",".join(STUDIES) + b'],"nextPageToken":"abc"}'
SPANS = [(PAGE.index(one), PAGE.index(one) + len(one)) for one in STUDIES]


def read(tmp_path: Path, data: bytes) -> list[Parsed]:
    path = tmp_path / "page.json"
    path.write_bytes(data)
    return list(parse(path))


def rows(found: list[Parsed]) -> list[bytes]:
    return [orjson.dumps(record_to_row(item)) for item in found if isinstance(item, Document)]


def reasons(found: list[Parsed]) -> list[str]:
    return [item.reason for item in found if isinstance(item, Reject)]


@pytest.mark.parametrize("number", [1, 3, 6])
@pytest.mark.parametrize(
    ("whole", "broken", "reason"),
    [
        (b'"identificationModule":{', b'"identificationModule":', "broken JSON"),
        (b'"Title', b"Title", "broken JSON"),
        (b'"hasResults":false}', b'"hasResults":false', "broken JSON"),
        (b'{"protocolSection"', b'"protocolSection"', "broken JSON"),
        (b'{"protocolSection"', b'{"protocolSection', "broken JSON"),
        (b'},"derivedSection"', b'}},"derivedSection"', "broken JSON"),
        (b"Title", b"Ti\ntle", "broken JSON"),
        (b"Title", b"Ti\xfftle", "not UTF-8"),
        (b'"a"', b"[" * 2000 + b"]" * 2000, "broken JSON"),
    ],
)
def test_one_broken_study_costs_one_reject(
    tmp_path: Path, whole: bytes, broken: bytes, reason: str, number: int
) -> None:
    expected = rows(read(tmp_path, PAGE))
    assert len(expected) == 6
    start, stop = SPANS[number - 1]
    found = read(tmp_path, PAGE[:start] + PAGE[start:stop].replace(whole, broken, 1) + PAGE[stop:])
    assert rows(found) == expected[: number - 1] + expected[number:]
    assert reasons(found) == [reason]
    reject = found[number - 1]
    assert (reject.id, reject.position) == (f"clinicaltrials:NCT{number:08}", f"record {number}")


def test_members_in_another_order_are_found_as_well(tmp_path: Path) -> None:
    ordered = [orjson.dumps(study(number), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2) for number in range(1, 5)]
    broken = b"[" + b",\n".join([*ordered[:2], ordered[2].replace(b": false", b": fa"), ordered[3]]) + b"\n]\n"
    found = read(tmp_path, broken)
    assert reasons(found) == ["broken JSON"]
    assert [item.id for item in found] == [f"clinicaltrials:NCT0000000{number}" for number in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("wrapper", "reason"),
    [
        ((b'{"studies":[', b""), "file ends in the middle"),
        ((b"[", b""), "file ends in the middle"),
        ((b'{"studies":[', b',{"protocolSec'), "file ends in the middle"),
        ((b'{"studies":[', b'],"nextPageTo'), "file ends in the middle"),
        ((b'{"stu', b"]}"), "broken JSON"),
    ],
)
def test_a_broken_wrapper_loses_no_study(tmp_path: Path, wrapper: tuple[bytes, bytes], reason: str) -> None:
    found = read(tmp_path, wrapper[0] + b",".join(STUDIES) + wrapper[1])
    assert rows(found) == rows(read(tmp_path, PAGE))
    assert reasons(found) == [reason]


def test_a_wrapper_with_another_name_loses_no_study(tmp_path: Path) -> None:
    found = read(tmp_path, PAGE.replace(b'"studies"', b'"studieX"'))
    assert rows(found) == rows(read(tmp_path, PAGE))


def test_a_page_that_ends_in_the_middle_keeps_what_came_before(tmp_path: Path) -> None:
    expected = rows(read(tmp_path, PAGE))
    for number, (start, stop) in enumerate(SPANS):
        for cut in (start + 30, (start + stop) // 2, stop - 1):
            found = read(tmp_path, PAGE[:cut])
            assert rows(found) == expected[:number]
            assert reasons(found) == ["file ends in the middle"]
    single = read(tmp_path, STUDIES[0][:100])
    assert reasons(single) == ["file ends in the middle"]
    assert reasons(read(tmp_path, b'{"stud')) == ["file ends in the middle"]
    # Seeded bytes do not pack, so that the cut falls behind the first studies.
    noise = random.Random(0).randbytes(300_000).hex().encode()
    packed = gzip.compress(PAGE.replace(b'"b5"', b'"' + noise + b'"'))
    cut_gzip = read(tmp_path, packed[: len(packed) // 2])
    assert rows(cut_gzip) == expected[:4]
    assert reasons(cut_gzip) == ["file ends in the middle"]


def test_a_study_closed_too_early_does_not_come_out_in_part(tmp_path: Path) -> None:
    studies = [orjson.dumps({"protocolSection": study(number)["protocolSection"]}) for number in (1, 2, 3)]
    studies[1] = studies[1].replace(b'},"conditionsModule"', b'}},"conditionsModule"')
    found = read(tmp_path, b"[" + b",".join(studies) + b"]")
    assert reasons(found) == ["broken JSON"]
    assert [item.id for item in found] == [f"clinicaltrials:NCT0000000{number}" for number in (1, 2, 3)]


@pytest.mark.parametrize("between", [b",\xff", b"x,", b",1,"])
def test_what_stands_between_studies_costs_none(tmp_path: Path, between: bytes) -> None:
    found = read(tmp_path, b"[" + STUDIES[0] + between + STUDIES[1] + b",!]")
    assert len(rows(found)) == 2
    assert reasons(found) == ["broken JSON", "broken JSON"]


def test_a_gzip_file_with_a_wrong_checksum_says_so(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(PAGE))
    packed[-8] ^= 1
    found = read(tmp_path, bytes(packed))
    assert rows(found) == rows(read(tmp_path, PAGE))
    assert reasons(found) == ["damaged gzip data"]


def test_an_empty_file_is_one_reject(tmp_path: Path) -> None:
    for nothing in (b"", b"\n ", b"\xef\xbb\xbf"):
        assert reasons(read(tmp_path, nothing)) == ["empty file"]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(kind="cut", where=SPANS[2][1] / len(PAGE), length=1, value=0)
@given(
    kind=st.sampled_from(["flip", "delete", "insert", "cut", "duplicate"]),
    where=st.floats(0, 1),
    length=st.integers(1, 150),
    value=st.sampled_from([*b'{}[]"\\,: \nA0', 0, 0x80, 0xC3, 0xFF]),
)
def test_a_single_mutation_leaves_the_other_studies_as_they_are(
    tmp_path: Path, mutate: Callable[..., tuple[bytes, int, int]], kind: str, where: float, length: int, value: int
) -> None:
    whole = rows(read(tmp_path, PAGE))
    data, start, stop = mutate(PAGE, kind, where, length, value)
    touched = [(first < stop and start < last) or first < start == stop < last for first, last in SPANS]
    expected = [row for row, is_touched in zip(whole, touched, strict=True) if not is_touched]
    try:
        found = read(tmp_path, data)
    except UnreadableFileError:
        assert not expected
        return
    assert [row for row in rows(found) if row in expected] == expected
    others = len(found) - len(expected)
    if kind == "cut":
        assert others == 1
    elif kind == "duplicate":
        assert others >= any(touched)
    elif sum(touched) == 1:
        one_more_beginning = b'{"hasResults"' in data or b'{"derivedSection"' in data
        # A reject or a changed study; or the whole study and what was put beside it; or one more beginning.
        assert others == 1 or (others == 2 and (one_more_beginning or set(whole) <= set(rows(found))))
    else:
        assert others <= max(1, sum(touched))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_any_bytes_at_all_give_items_or_one_clear_error(tmp_path: Path, data: bytes) -> None:
    for content in (data, b"[" + data, b'{"studies":[' + data, b'{"protocolSection":' + data, b"PK\x03\x04" + data):
        found, message = [], ""
        try:
            found = read(tmp_path, content)
        except UnreadableFileError as error:
            message = str(error)
        assert found or message.startswith(f"{tmp_path / 'page.json'}: ")
