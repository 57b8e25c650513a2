from __future__ import annotations

import random

import pytest

from medllm_ops.curation.scrub import Finding, Kind, ReviewSample

KINDS: tuple[Kind, ...] = ("PHONE", "NAME")
FINDINGS = [
    (
        Finding(f"made:{n}", "title", KINDS[n % 2], "rule", "9", "…"),
        Finding(f"made:{n}", "title", "ID", "rule", "99", "…"),
    )
    for n in range(200)
]


def sample(order: list[int], seed: int = 42, per_kind: int = 5) -> ReviewSample:
    made = ReviewSample(seed, per_kind)
    for number in order:
        made.add(FINDINGS[number])
    return made


def test_it_has_so_many_of_each_kind() -> None:
    rows = list(sample(list(range(200))).rows())
    assert [row["kind"] for row in rows] == ["ID"] * 5 + ["NAME"] * 5 + ["PHONE"] * 5
    assert set(rows[0]) == {"id", "field", "kind", "rule", "shape", "context"}
    assert len(list(sample([0, 1]).rows())) == 4
    assert list(sample([0, 1], per_kind=0).rows()) == []


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_order_and_the_workers_do_not_matter(workers: int) -> None:
    order = list(range(200))
    random.Random(workers).shuffle(order)
    together = sample(order[::workers])
    for worker in range(1, workers):
        together.merge(sample(order[worker::workers]))
    assert list(together.rows()) == list(sample(list(range(200))).rows())


def test_another_seed_draws_others() -> None:
    everything = list(range(200))
    assert list(sample(everything, seed=1).rows()) != list(sample(everything, seed=2).rows())


def test_two_records_of_one_id_are_both_looked_at() -> None:
    both = [Finding("made:1", "title", "PHONE", "rule", "9", context) for context in ("one", "two")]
    kept = []
    for order in (both, both[::-1]):
        made = ReviewSample(42)
        for finding in order:
            made.add([finding])
        kept.append(list(made.rows()))
    assert {row["context"] for row in kept[0]} == {"one", "two"}
    assert kept[0] == kept[1]
