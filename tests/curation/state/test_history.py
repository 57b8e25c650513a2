"""Histories of segments against a model of plain dictionaries that compares everything with everything."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medllm_ops.curation.state.state import find

Row = dict[str, Any]
Make = Callable[..., Any]
EXAMPLES = settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
IDS = [f"r{number}" for number in range(12)]
FATES = [None, None, None, None, ("clean", "too short"), ("read", "retracted")]

LINE = st.tuples(
    st.integers(0, 11), st.integers(0, 2), st.integers(0, 3), st.sampled_from("ab"), st.sampled_from(FATES)
)
STEP = st.tuples(
    st.lists(LINE, max_size=8, unique_by=lambda line: line[0]),
    st.lists(st.integers(0, 11), max_size=3),
    st.sampled_from([False, False, False, True]),
)
HISTORY = st.lists(STEP, min_size=1, max_size=4)


@pytest.fixture
def segments(make_row: Make, window: Make) -> Callable[..., list[Row]]:
    """The segments of a history."""

    def make(history: Any) -> list[Row]:
        return [
            {
                "rows": [
                    {**make_row(f"r{number}", window(family, place), source, drop), "text": (family, place)}
                    for number, family, place, source, drop in lines
                ],
                "gone": [f"r{number}" for number in gone],
                "full": full,
            }
            for lines, gone, full in history
        ]

    return make


def line(number: int, place: int, family: int = 0, source: str = "a", drop: Any = None) -> Any:
    return number, family, place, source, drop


BRIDGE = [
    ([line(0, 0), line(1, 3), line(2, 3, 1), line(3, 3, 2)], [], False),
    ([line(4, 2), line(5, 1)], [], False),
    ([line(4, 0, 2)], [1], False),
    ([line(1, 3)], [5], False),
]
CORRECTION = [
    ([line(0, 0), line(1, 0, 1), line(2, 0, 2), line(3, 3), line(6, 3, 1, "b"), line(7, 3, 2, "b")], [], False),
    ([line(0, 0, 1), line(1, 0, 2), line(2, 0)], [], False),
    ([line(0, 0, drop=("clean", "too short")), line(1, 0, 2)], [2], True),
    ([line(0, 0), line(2, 0)], [], False),
]


@given(HISTORY)
@example(BRIDGE)
@example(CORRECTION)
@EXAMPLES
def test_every_history_ends_as_the_model_says(
    take: Make, tell: Make, segments: Make, new_model: Make, history: Any
) -> None:
    model = new_model()
    for segment in segments(history):
        model.step(segment["rows"], segment["gone"], segment["full"])
    with take(segments(history)) as state:
        told = tell(state)
    assert {id_: (row["source"], row["side"], row["cluster"]) for id_, row in told["kept"].items()} == model.kept()
    assert sorted((row.step, row.id, row.source, row.kept) for row in told["removed"]) == model.removed()


@given(HISTORY)
@example(BRIDGE)
@example(CORRECTION)
@EXAMPLES
def test_sides_never_change_and_no_cluster_is_on_both(
    take: Make, tell: Make, prepare: Make, segments: Make, history: Any
) -> None:
    state = take([])
    sides: dict[str, str] = {}
    present: set[str] = set()
    for segment in segments(history):
        prepare(state.next_segment, **segment)
        state.absorb()
        rows = find(state.folder, IDS)
        for id_, row in rows.items():
            assert sides.setdefault(id_, row.side) in (row.side, "")
            sides[id_] = row.side
        members = defaultdict(set)
        for row in rows.values():
            if row.cluster and not (row.side == "val" and row.step == "split"):
                members[row.cluster].add((row.side, row.step))
        kept = defaultdict(set)
        for row in rows.values():
            if not row.step:
                kept[row.cluster].add(row.side)
        for cluster, those in kept.items():
            assert len(those) == 1
            # Nothing validates that has a member on the train side, whether that one is kept or not.
            assert those == {"train"} or {side for side, _ in members[cluster]} == {"val"}
        given_ids = {row["id"] for row in segment["rows"]}
        present = given_ids | (set() if segment["full"] else present - set(segment["gone"]))
        told = tell(state)
        assert sum(count.lines for count in told["counts"]) == len(present)
        counts = Counter((row["source"], "", "") for row in told["kept"].values())
        counts.update((row.source, row.step, row.reason) for row in told["removed"])
        assert {(count.source, count.step, count.reason): count.lines for count in told["counts"]} == counts
        assert {*told["kept"], *(row.id for row in told["removed"])} == present
    state.close()


@pytest.mark.parametrize("first", [0, 4])
@pytest.mark.parametrize("deleted", [0, 1])
def test_clusters_that_trained_are_remembered_when_their_rows_are_gone(
    take: Make, tell: Make, segments: Make, new_model: Make, first: int, deleted: int
) -> None:
    """Also where they are joined to another one, by whose name they go on; and the text that named one comes again."""
    history: list[Any] = [([], [], False) for _ in range(6)]
    for family in range(5):
        one, two, three, four, five = range(5 * family, 5 * family + 5)
        rows = [
            [line(one, first, family), line(two, 2, family), line(three, 4 - first, family, "b")],
            [line(four, abs(first - 1), family)],
            [],
            [line(five, abs(3 - first), family, "b")],
            [],
            [line(100 + 5 * family + place, place, family) for place in (0, 2, 4)],
        ]
        gone = [[], [], [5 * family + deleted, four], [], [one, two, three, four, five], []]
        for step, more, less in zip(history, rows, gone, strict=True):
            step[0].extend(more)
            step[1].extend(less)
    for steps in (4, 6):
        model = new_model()
        for segment in segments(history[:steps]):
            model.step(segment["rows"], segment["gone"], segment["full"])
        with take(segments(history[:steps])) as state:
            told = tell(state)
        assert {id_: (row["source"], row["side"], row["cluster"]) for id_, row in told["kept"].items()} == model.kept()


def exactly(state: Any) -> Any:
    return [(some.segment.name, some.rows.to_pylist()) for some in state.kept()]


@given(HISTORY, st.randoms(use_true_random=False))
@example(BRIDGE, None)
@EXAMPLES
def test_the_same_history_gives_the_same_bytes_and_the_order_of_rows_changes_nothing(
    take: Make, tell: Make, segments: Make, history: Any, chance: Any
) -> None:
    steps = segments(history)
    with take(steps) as one, take(steps) as other:
        assert exactly(one) == exactly(other)
        told = tell(one)
        assert told == tell(other)
    for step in steps:
        if chance:
            chance.shuffle(step["rows"])
    with take(steps) as shuffled:
        assert told == tell(shuffled)


@given(HISTORY)
@example(BRIDGE)
@EXAMPLES
def test_rows_that_have_nothing_to_do_with_others_move_none_of_them(
    take: Make, tell: Make, segments: Make, make_row: Make, window: Make, history: Any
) -> None:
    steps = segments(history)
    with take(steps) as state:
        alone = tell(state)["kept"]
    for number, step in enumerate(steps):
        if not step["full"]:
            step["rows"] = [make_row(f"c{number}{one}", window(4, 3 * number + one), "c") for one in range(3)] + step[
                "rows"
            ]
    last = {"rows": [make_row("a new one", window(3, 0))], "gone": [], "full": False}
    with take([*steps, last]) as state:
        among = tell(state)["kept"]
    assert alone == {id_: row for id_, row in among.items() if row["source"] != "c" and id_ != "a new one"}
