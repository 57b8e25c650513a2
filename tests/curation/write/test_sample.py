from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import assume, given
from hypothesis import strategies as st

from medllm_ops.curation.settings import CurationSettings, SampleSettings, SetSettings
from medllm_ops.curation.write.sample import SetRows, draw, fill, quota
from medllm_ops.errors import MedllmError


def rows(name: str, count: int, val_every: int = 10) -> SetRows:
    hashes = [xxhash.xxh3_64_intdigest(f"{name}:{number}".encode(), seed=1) for number in range(count)]
    return SetRows(np.array(hashes, np.uint64), np.arange(count) % val_every == val_every - 1)


def chosen(sets: dict[str, dict[str, Any]] | None = None, **sample: Any) -> CurationSettings:
    own = {name: SetSettings(**values) for name, values in (sets or {}).items()}
    return CurationSettings(sample=SampleSettings(**sample), sets=own)


def drawn(sets: dict[str, SetRows], settings: CurationSettings) -> dict[str, int]:
    return {name: int(times.sum()) for name, times in draw(sets, settings).items()}


SIZES = st.dictionaries(st.sampled_from("abcde"), st.integers(2, 200), min_size=1)
WEIGHTS = st.dictionaries(st.sampled_from("abcde"), st.sampled_from([0, 0.1, 1, 2.5, 7]), max_size=5)
SAMPLES = st.fixed_dictionaries(
    {},
    optional={
        "total": st.integers(10, 700),
        "temperature": st.sampled_from([0.5, 1.0, 3.3, 50.0]),
        "max_repeats": st.integers(1, 4),
    },
)


def test_without_settings_all_rows_are_drawn_once() -> None:
    for times in draw({"a": rows("a", 50), "b": rows("b", 2, 2)}, CurationSettings()).values():
        assert set(times.tolist()) == {1}


def test_the_recipe_of_2024_is_one_setting() -> None:
    sets = {"a": rows("a", 30_000), "b": rows("b", 60_000), "c": rows("c", 10)}
    counts = drawn(sets, chosen(total=20_000))
    assert sum(counts.values()) == 20_000
    # Uniformly at random over all rows: not in exact proportion, but near (standard deviation 66).
    assert counts["a"] == pytest.approx(6_666, abs=350)
    every = np.concatenate([sets["a"].hashes, sets["b"].hashes])
    taken = np.concatenate([draw(sets, chosen(total=20_000))[name] > 0 for name in "ab"])
    # But for the set that needs a row on each side, they are the lowest hashes.
    assert np.quantile(every[taken], 0.999) < np.quantile(every[~taken], 0.001)


@given(SIZES, WEIGHTS, SAMPLES, st.dictionaries(st.sampled_from("abcde"), st.integers(2, 99), max_size=2))
def test_counts_are_exact_where_there_are_rows(
    sizes: dict[str, int], weights: dict[str, float], sample: dict[str, Any], counts: dict[str, int]
) -> None:
    own: dict[str, dict[str, Any]] = {name: {"weight": weight} for name, weight in weights.items()}
    own |= {name: {"count": count} for name, count in counts.items()}
    settings_ = chosen(own, **sample)
    sets = {name: rows(name, size, 3) for name, size in sizes.items()}
    fixed = {name: counts[name] for name in counts if name in sets}
    assume("total" not in sample or sum(fixed.values()) + 2 * len(sets) <= sample["total"])
    repeats = sample.get("max_repeats", 1)
    room = {name: own_rows.capacity(repeats) for name, own_rows in sets.items()}
    found = draw(sets, settings_)
    for name, times in found.items():
        silent = weights.get(name) == 0 and name not in counts
        assert times.max() <= repeats
        assert not times[sets[name].val].max(initial=0) > 1
        assert not silent or times.sum() == 0
        if name in fixed:
            assert times.sum() == min(fixed[name], room[name])
        for side in (sets[name].val, ~sets[name].val):
            assert silent or not side.any() or times[side].any()
    if "total" in sample:
        loud = sum(min(fixed.get(n, room[n]), room[n]) for n in sets if weights.get(n) != 0 or n in fixed)
        assert sum(int(times.sum()) for times in found.values()) == min(sample["total"], loud)


@given(st.permutations(range(40)), st.integers(4, 60), st.integers(1, 3))
def test_the_order_of_rows_and_sets_does_not_matter(order: list[int], total: int, repeats: int) -> None:
    one = {"a": rows("a", 40), "b": rows("b", 20)}
    other = {"b": one["b"], "a": SetRows(one["a"].hashes[order], one["a"].val[order])}
    settings_ = chosen(total=total, max_repeats=repeats)
    first, second = draw(one, settings_), draw(other, settings_)
    assert (first["a"][order] == second["a"]).all()
    assert (first["b"] == second["b"]).all()


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    sets = {"a": rows("a", 500)}
    small, large = (draw(sets, chosen(draw=[f"a#{count}"]))["a"] for count in (100, 200))
    assert (small <= large).all()
    assert small.sum() == 100
    # The share of both sides stays: the lowest hashes, wherever they are.
    assert 3 <= small[sets["a"].val].sum() <= 20


def test_ms_swifts_words_and_counts_are_the_same() -> None:
    sets = {"a": rows("a", 500), "b": rows("b", 30)}
    assert drawn(sets, chosen(draw=["a#70"])) == drawn(sets, chosen({"a": {"count": 70}})) == {"a": 70, "b": 30}
    assert drawn(sets, chosen({"a": {"count": 70}}, total=90)) == {"a": 70, "b": 20}


@given(
    st.integers(0, 500),
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.sampled_from([0, 0.5, 1, 3, 1e6]), st.integers(0, 90))),
)
def test_shares_are_by_weight_and_what_is_missing_comes_from_the_others(
    total: int, sets: dict[str, tuple[float, int]]
) -> None:
    weights = {name: weight for name, (weight, _) in sets.items()}
    capacity = {name: size for name, (_, size) in sets.items()}
    filled = fill(total, weights, capacity)
    assert sum(filled.values()) == min(total, sum(capacity[name] for name in sets if weights[name] > 0))
    assert all(0 <= filled[name] <= capacity[name] for name in sets)
    open_ = [name for name in sets if weights[name] > 0 and filled[name] < capacity[name]]
    for name in open_:
        # Nobody that is not full has less than its share beside any other.
        for other in (one for one in sets if weights[one] > 0):
            assert filled[other] * Fraction(weights[name]) <= (filled[name] + 1) * Fraction(weights[other]) + Fraction(
                weights[name]
            )


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.9), (2.0, 0.75), (3.3333, 0.659), (100.0, 0.505)])
def test_temperature_brings_sets_closer_together(temperature: float, expected: float) -> None:
    # p ∝ n^(1/T): 9,000 and 1,000 rows; T = 3.33 is mT5's α = 0.3.
    sets = {"a": rows("a", 9_000), "b": rows("b", 1_000)}
    own = {"a": {"weight": 9_000}, "b": {"weight": 1_000}}
    assert quota(sets, chosen(own, total=1_000, temperature=temperature))["a"] == round(1_000 * expected)
    if temperature != 1:
        assert quota(sets, chosen(total=1_000, temperature=temperature))["a"] == round(1_000 * expected)


def test_weights_without_a_total_draw_as_many_rows_as_they_allow() -> None:
    sets = {"a": rows("a", 300), "b": rows("b", 100)}
    assert drawn(sets, chosen({"a": {"weight": 1}, "b": {"weight": 1}})) == {"a": 100, "b": 100}
    assert drawn(sets, chosen({"a": {"weight": 0}, "b": {"weight": 1}})) == {"a": 0, "b": 100}


def test_rows_come_again_for_training_only_and_only_where_too_few() -> None:
    sets = {"a": rows("a", 100), "b": rows("b", 20)}
    found = draw(sets, chosen({"b": {"count": 50}}, max_repeats=4))
    assert found["b"].sum() == 50
    assert found["b"].min() == 1
    assert set(found["b"][sets["b"].val].tolist()) == {1}
    train = found["b"][~sets["b"].val]
    assert train.max() - train.min() <= 1
    assert set(found["a"].tolist()) == {1}
    assert drawn(sets, chosen({"b": {"count": 50}})) == {"a": 100, "b": 20}


def test_a_set_keeps_a_row_on_each_side() -> None:
    sets = {"a": rows("a", 3_000), "b": rows("b", 300, 300)}
    found = draw(sets, chosen(total=100))
    for name in sets:
        assert found[name][sets[name].val].any()
        assert found[name][~sets[name].val].any()
    assert sum(times.sum() for times in found.values()) == 100


def test_totals_that_cannot_be_are_refused() -> None:
    sets = {"a": rows("a", 30), "b": rows("b", 30)}
    with pytest.raises(MedllmError, match=r"sample\.total is 5, but single sets are to give 20 rows"):
        draw(sets, chosen({"a": {"count": 20}}, total=5))
    with pytest.raises(MedllmError, match=r"sample\.total is 3, which leaves no row on each side to set"):
        draw(sets, chosen(total=3))
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        chosen({"a": {"count": 1}})
    with pytest.raises(ValueError, match="'a#1' is fewer than a row on each side"):
        chosen(draw=["a#1"])


def test_a_set_that_is_named_and_not_there_is_told(caplog: pytest.LogCaptureFixture) -> None:
    sets = {"pubmed": rows("pubmed", 50), "docx": rows("docx", 20)}
    some = {"docx": {"weight": 3}, "tcm": {"count": 7}, "messages": {"val_share": 0.2}, "dcx": {"val_share": 0.2}}
    draw(sets, chosen(some, draw=["pubmd#20"]))
    assert [record.getMessage() for record in caplog.records] == [
        "the settings name the set dcx, of which there are no rows; did you mean docx?",
        "the settings name the set pubmd, of which there are no rows; did you mean pubmed?",
        "the settings name the set tcm, of which there are no rows; there are docx, pubmed",
    ]
