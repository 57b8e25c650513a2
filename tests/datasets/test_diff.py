from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineage.frozen import freeze
from medllm_ops.datasets import diff as diffs
from medllm_ops.datasets.diff import diff, differing_ids

pytestmark = pytest.mark.usefixtures("own_home")


def test_records_are_told_by_source_and_side() -> None:
    old = freeze(
        "med",
        1,
        {"toy": {"toy:1": "a", "toy:2": "b", "toy:3": "c", "toy:4#1": "d", "toy:4#2": "e"}},
        {"toy": {"toy:5": "f", "toy:6": "g"}, "old": {"old:1": "h"}},
        records={"toy:1", "toy:2", "toy:3", "toy:4", "toy:5", "toy:6", "old:1"},
        settings={"clean": {"enabled": True, "length": 3}, "seed": 42},
    )
    new = freeze(
        "med",
        2,
        {"toy": {"toy:1": "a", "toy:2": "other", "toy:4#1": "de", "toy:5": "f", "toy:7": "i"}},
        {"toy": {"toy:6": "g"}},
        records={"toy:1", "toy:2", "toy:4", "toy:5", "toy:6", "toy:7"},
        settings={"clean": {"enabled": False, "length": 3}, "seed": 42},
    )
    found = diff(old, new)
    assert {key: dict(+counts) for key, counts in found.records.items()} == {
        ("old", "train"): {},
        ("old", "val"): {"removed": 1},
        ("toy", "train"): {"same": 1, "changed": 2, "removed": 1, "added": 1, "moved": 1},
        ("toy", "val"): {"same": 1},
    }
    assert found.settings == {"clean.enabled": (True, False)}
    assert "content" in found.other
    told = sorted((row["id"], row["source"], row["side"], row["what"]) for row in differing_ids(old, new))
    assert told == [
        ("old:1", "old", "val", "removed"),
        ("toy:2", "toy", "train", "changed"),
        ("toy:3", "toy", "train", "removed"),
        ("toy:4", "toy", "train", "changed"),
        ("toy:5", "toy", "train", "moved"),
        ("toy:7", "toy", "train", "added"),
    ]
    assert found.to_row()["records"][2]["changed"] == 2


def test_a_dataset_is_the_same_as_itself() -> None:
    one = freeze("med", 1, {"toy": {"toy:1": "a"}}, {"toy": {"toy:2": "b"}})
    found = diff(one, one)
    assert all(set(+counts) <= {"same"} for counts in found.records.values())
    assert (found.licences, found.settings, found.other) == ({}, {}, {})
    assert list(differing_ids(one, one)) == []


SIDES = st.dictionaries(
    st.integers(0, 6).map(lambda number: f"toy:{number}"), st.tuples(st.sampled_from(["train", "val"]), st.text("ab"))
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SIDES, SIDES)
def test_counts_are_those_of_a_plain_comparison(
    old: dict[str, tuple[str, str]], new: dict[str, tuple[str, str]]
) -> None:
    made = [
        freeze(
            "med",
            version,
            *({"toy": {id_: text for id_, (at, text) in rows.items() if at == side}} for side in ("train", "val")),
        )
        for version, rows in ((1, old), (2, new))
    ]
    expected = {}
    for id_ in old.keys() | new.keys():
        if id_ not in new:
            expected[id_] = diffs.REMOVED
        elif id_ not in old:
            expected[id_] = diffs.ADDED
        elif old[id_][0] != new[id_][0]:
            expected[id_] = diffs.MOVED
        elif old[id_] != new[id_]:
            expected[id_] = diffs.CHANGED
    assert {row["id"]: row["what"] for row in differing_ids(*made)} == expected
    found = diff(*made).records
    for kind in (diffs.ADDED, diffs.REMOVED, diffs.MOVED, diffs.CHANGED):
        assert sum(counts[kind] for counts in found.values()) == list(expected.values()).count(kind)
