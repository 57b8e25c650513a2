import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.duplicates.clusters import Members, Union, elect

PAIRS = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=25)


@given(PAIRS, st.randoms())
def test_sets_are_the_connected_ones_in_whatever_order_they_are_joined(
    pairs: list[tuple[int, int]], chance: object
) -> None:
    union = Union()
    for one, other in pairs:
        union.join(one, other)
    reach = {number: {number} for number in range(15)}
    for _ in range(15):
        for one, other in pairs:
            reach[one] |= reach[other]
            reach[other] |= reach[one]
    assert union.labels(15).tolist() == [min(reach[number]) for number in range(15)]
    chance.shuffle(pairs)  # type: ignore[attr-defined]
    shuffled = Union()
    for one, other in pairs:
        shuffled.join(other, one)
    assert shuffled.labels(15).tolist() == union.labels(15).tolist()


def members(*rows: tuple[int, bool, int, int, bool, int]) -> Members:
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Members(*columns)


def stands(*rows: tuple[int, bool, int, int, bool, int]) -> list[int]:
    """For rows of (cluster, retracted, length, rank, was kept, content) the one that stands for each."""
    kept, found = elect(members(*rows))
    assert kept.tolist() == [one == place for place, one in enumerate(found.tolist())]
    return [int(one) for one in found]


def test_the_longest_is_kept_then_the_first_source_then_the_lowest_id() -> None:
    assert stands((0, False, 5, 0, False, 0), (0, False, 9, 1, False, 1)) == [1, 1]
    assert stands((0, False, 5, 1, False, 0), (0, False, 5, 0, False, 1)) == [1, 1]
    assert stands((0, False, 5, 1, False, 0), (0, False, 5, 1, False, 1)) == [0, 0]


def test_a_retracted_one_is_kept_only_among_its_like() -> None:
    assert stands((0, True, 9, 0, False, 0), (0, False, 5, 1, False, 1)) == [1, 1]
    assert stands((0, True, 9, 0, False, 0), (0, True, 5, 1, False, 1)) == [0, 0]


def test_who_was_kept_stays_kept_unless_retracted() -> None:
    assert stands((0, False, 5, 1, True, 0), (0, False, 9, 0, False, 1)) == [0, 0]
    assert stands((0, True, 5, 1, True, 0), (0, False, 3, 2, False, 1)) == [1, 1]
    assert stands((0, True, 5, 1, True, 0), (0, True, 9, 0, False, 1)) == [0, 0]


def test_after_a_bridge_two_are_kept_and_the_equal_one_stands() -> None:
    rows = [
        (0, False, 9, 0, True, 7),
        (0, False, 5, 0, True, 8),
        (0, False, 5, 0, False, 8),
        (0, False, 6, 0, False, 9),
        (0, True, 9, 0, True, 7),
    ]
    assert stands(*rows) == [0, 1, 1, 0, 0]


def test_clusters_do_not_mix() -> None:
    assert stands((1, False, 5, 0, False, 0), (0, False, 9, 0, False, 1), (1, False, 6, 0, False, 2)) == [2, 1, 2]
    kept, found = elect(members((0, False, 1, 0, False, 0)))
    assert (kept.tolist(), found.tolist()) == ([True], [0])
