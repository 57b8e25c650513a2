import math
import random
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medllm_ops.report.data.drift import CHARACTER_BINS, chance_of, compare, in_bins, psi

COUNTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=12)


def shares(counts: list[int]) -> list[float]:
    return [count / sum(counts) for count in counts]


def test_the_index_of_an_example_worked_by_hand() -> None:
    # (.6 − .5) ln(.6 / .5) + (.4 − .5) ln(.4 / .5)
    assert psi([0.5, 0.5], [0.6, 0.4]) == pytest.approx(0.1 * math.log(1.2) + 0.1 * math.log(1.25))
    assert psi([0.5, 0.5], [0.6, 0.4]) == pytest.approx(0.04054651)
    # An empty part counts as one of a ten-thousandth.
    assert psi([1.0, 0.0], [0.9, 0.1]) == pytest.approx(0.1 * math.log(1 / 0.9) + 0.0999 * math.log(1000))


@given(COUNTS)
def test_what_did_not_move_has_no_drift(counts: list[int]) -> None:
    assume(sum(counts))
    assert psi(shares(counts), shares(counts)) == 0


@given(COUNTS, st.randoms(use_true_random=False))
def test_drift_has_no_direction_and_is_never_negative(counts: list[int], chance: random.Random) -> None:
    assume(sum(counts))
    other = counts[:]
    chance.shuffle(other)
    there, back = psi(shares(counts), shares(other)), psi(shares(other), shares(counts))
    assert there == pytest.approx(back)
    assert there >= 0


@pytest.mark.parametrize(
    ("now", "stability"),
    [(500, "stable"), (600, "stable"), (660, "moderate"), (700, "moderate"), (735, "moderate"), (760, "significant")],
)
def test_the_usual_limits(now: int, stability: str) -> None:
    before = {"a": 50_000.0, "b": 50_000.0}
    drift = compare("sources", None, ["a", "b"], before, {"a": now, "b": 1000 - now}, sizes=(10**5, 10**5))
    limits = {"stable": drift.psi < 0.1, "moderate": 0.1 <= drift.psi <= 0.25, "significant": drift.psi > 0.25}
    assert limits[stability]
    assert drift.stability == stability


def test_what_chance_alone_gives_is_stable() -> None:
    drift = compare("sources", None, ["a", "b"], {"a": 5, "b": 5}, {"a": 8, "b": 2})
    assert drift.psi > 0.25
    assert drift.psi < drift.chance
    assert drift.stability == "stable"


def test_the_quantile_of_chance_is_that_of_chi_square() -> None:
    # Tables: the .99 quantile of chi-square is 6.635 (1 degree of freedom), 21.666 (9), 36.191 (19).
    for bins, quantile in ((2, 6.635), (10, 21.666), (20, 36.191)):
        assert chance_of(bins, 1, math.inf) == pytest.approx(quantile, rel=0.01)
    assert chance_of(1, 10, 10) == 0
    assert chance_of(5, 0, 10) == 0


def test_chance_is_met_about_as_often_as_it_says() -> None:
    chance = random.Random(7)
    population = [0, 0, 0, 1, 1, 2, 3, 4]
    beyond = 0
    for _ in range(1000):
        before, now = (Counter(map(str, chance.choices(population, k=600))) for _ in range(2))
        drift = compare("sources", None, list("01234"), before, now)
        beyond += drift.psi > drift.chance
    assert 1 <= beyond <= 25


@given(st.text(max_size=300), st.text(max_size=300))
def test_characters_are_cut_into_ranges_that_hold_all_of_both_texts(one: str, other: str) -> None:
    before, now = in_bins(Counter(one), Counter(other))
    assert before.keys() == now.keys()
    assert len(before) <= CHARACTER_BINS
    assert sum(before.values()) == pytest.approx(len(one))
    assert sum(now.values()) == pytest.approx(len(other))


def test_ranges_hold_about_the_same_of_the_text_before() -> None:
    even = Counter({chr(0x4E00 + number): 10 for number in range(2000)})
    before, _ = in_bins(even, even)
    assert list(before.values()) == [1000] * CHARACTER_BINS
    assert next(iter(before)) == "一 to 乣"
