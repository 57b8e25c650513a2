import itertools
import random

import pytest

from medllm_ops.records import Deletion, Document, Reject
from medllm_ops.sources.base import Parsed
from medllm_ops.sources.sample import Draw, Sampled


def doc(number: int, text: str = "text") -> Document:
    return Document(id=f"s:{number}", source="s", language="en", title="", text=text)


def reject(reason: str, withdraws: int | None = None) -> Reject:
    return Reject(file="f", position="p", reason=reason, id="s:1", withdraws=withdraws)


def ids(items: list[Parsed]) -> list[str | None]:
    return [item.id for item in items]


def test_so_many_records_in_file_order_and_the_others_counted() -> None:
    sampled = Sampled([doc(number) for number in range(1000)], rows=20)
    found = list(sampled)
    numbers = [int(str(item.id).removeprefix("s:")) for item in found]
    assert len(found) == 20
    assert numbers == sorted(numbers)
    assert numbers[0] < 300
    assert numbers[-1] > 700
    assert sampled.left_out == 980


def test_the_same_records_whatever_their_order() -> None:
    records = [doc(number) for number in range(500)]
    shuffled = random.Random(1).sample(records, len(records))
    assert set(ids(list(Sampled(records, 50, seed=7)))) == set(ids(list(Sampled(shuffled, 50, seed=7))))


def test_a_smaller_sample_is_part_of_a_larger_one_of_the_same_seed() -> None:
    records = [doc(number) for number in range(500)]
    smaller, larger = (set(ids(list(Sampled(records, rows)))) for rows in (10, 100))
    assert smaller < larger
    assert set(ids(list(Sampled(records, 100, seed=43)))) != larger


def test_the_draw_is_the_same_in_every_year() -> None:
    draw: Draw[int] = Draw(5, seed=42)
    for number in range(100):
        draw.offer(f"deepctrl:zh-{number}", number)
    assert draw.kept() == [18, 23, 60, 68, 91]


def test_all_records_where_they_are_no_more_than_asked_for() -> None:
    for rows in (0, 3, 10):
        sampled = Sampled([doc(1), reject("broken"), doc(2), doc(3)], rows)
        assert sorted(str(item.id) for item in sampled if isinstance(item, Document)) == ["s:1", "s:2", "s:3"]
        assert sampled.left_out == 0


def test_all_is_no_buffer() -> None:
    endless = Sampled((doc(number) for number in itertools.count()), rows=0)
    assert next(iter(endless)).id == "s:0"


def test_a_reject_comes_at_once() -> None:
    def items() -> itertools.chain[Parsed]:
        return itertools.chain([doc(1), reject("broken")], (pytest.fail("read on") for _ in range(1)))

    assert next(iter(Sampled(items(), rows=1))) == reject("broken")


def test_what_changes_earlier_records_stays_in_its_place() -> None:
    deletion = Deletion(id="s:1", file="f", position="p")
    items: list[Parsed] = [doc(1), deletion, doc(1, "again"), reject("no text", withdraws=1), doc(2)]
    assert list(Sampled(items, rows=10)) == items


def test_equal_ids_are_drawn_one_by_one() -> None:
    sampled = Sampled([doc(1, "a"), doc(1, "b"), doc(1, "c")], rows=2)
    assert [item.text for item in sampled if isinstance(item, Document)] == ["a", "b"]
    assert sampled.left_out == 1


def test_an_id_with_a_lone_surrogate_is_drawn_too() -> None:
    record = Document(id="s:\ud800", source="s", language="en", title="", text="text")
    assert list(Sampled([record], rows=1)) == [record]
