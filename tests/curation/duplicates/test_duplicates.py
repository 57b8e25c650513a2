"""The step over files, without anything remembered."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medllm_ops.curation.duplicates.duplicates import deduplicate
from medllm_ops.curation.duplicates.settings import DuplicateSettings, Shingles
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json_lines, write_json_lines

Step = Callable[..., Any]
Make = Callable[..., dict[str, Any]]
Table = Callable[..., dict[str, Any]]

SLOW_FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def texts(toys: Any, language: str, seed: int) -> tuple[list[str], str, Any]:
    return (toys.words(150, seed), " ", toys.words) if language == "en" else (toys.han(340, seed), "", toys.han)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(("share", "near"), [(0.01, True), (0.05, True), (0.08, True), (0.2, False), (0.4, False)])
def test_scattered_changes(
    step: Step, text_row: Make, table: Table, toys: Any, language: str, share: float, near: bool
) -> None:
    rows = []
    for seed in range(20):
        tokens, space, other = texts(toys, language, seed)
        rows.append(text_row(f"{seed:02}:a", space.join(tokens)))
        rows.append(text_row(f"{seed:02}:b", space.join(toys.changed(tokens, share, other, seed))))
    found = table(step(rows))
    pairs = sum(found[f"{seed:02}:a"]["cluster"] == found[f"{seed:02}:b"]["cluster"] for seed in range(20))
    assert pairs == (20 if near else 0)
    assert len({row["cluster"] for row in found.values()}) == (20 if near else 40)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("common", [0.3, 0.5, 0.7])
def test_another_text_under_the_same_head_is_no_duplicate(
    step: Step, text_row: Make, table: Table, toys: Any, language: str, common: float
) -> None:
    rows = []
    for seed in range(10):
        tokens, space, other = texts(toys, language, seed)
        head = tokens[: round(common * len(tokens))]
        rows.append(text_row(f"{seed}:a", space.join(tokens)))
        rows.append(text_row(f"{seed}:b", space.join(head + other(len(tokens) - len(head), seed + 500))))
    assert len({row["cluster"] for row in table(step(rows)).values()}) == 20


def test_kinds_and_who_stands(step: Step, text_row: Make, table: Table, toys: Any) -> None:
    base = toys.han(300, 1)
    text = "".join(base)
    rows = [
        text_row("a:1", text),
        text_row("a:2", "\n".join(base) + " "),
        text_row("b:3", "，".join([text[:100], text[100:]])),
        text_row("b:4", "".join(toys.changed(base, 0.05, toys.han, 1))),
        text_row("c:5", "".join(toys.han(300, 2))),
    ]
    found = table(step({"a": rows[:2], "b": rows[2:]}))
    # The longest is kept: the one with a comma.
    assert {id_: (row["kept"], row["kind"]) for id_, row in found.items()} == {
        "a:1": ("b:3", "near"),
        "a:2": ("b:3", "near"),
        "b:3": ("b:3", "kept"),
        "b:4": ("b:3", "near"),
        "c:5": ("c:5", "kept"),
    }
    assert found["a:1"]["similarity"] == 1.0
    assert 0.65 <= found["b:4"]["similarity"] < 0.9
    assert [found[id_]["set"] for id_ in sorted(found)] == ["a", "a", "b", "b", "b"]


def test_equal_rows_are_exact_duplicates(step: Step, text_row: Make, table: Table) -> None:
    found = step([text_row("a:2", "Rest  and\ntea."), text_row("a:1", "rest and tea."), text_row("a:3", "Tea.")])
    assert {id_: row["kind"] for id_, row in table(found).items()} == {"a:1": "kept", "a:2": "exact", "a:3": "kept"}
    assert list(read_json_lines(found.removed)) == [
        {"id": "a:2", "step": "exact dedup", "reason": "exact duplicate", "kept": "a:1"}
    ]
    assert [(entry.step, entry.rows_in, entry.rows_out) for entry in found.ledger] == [
        ("exact dedup", 3, 2),
        ("near dedup", 2, 2),
    ]


def test_a_chain_is_one_cluster_and_says_how_similar_its_ends_are(
    step: Step, text_row: Make, table: Table, toys: Any
) -> None:
    tokens = toys.words(132, 1)
    rows = [text_row(f"a:{start}", " ".join(tokens[start : start + 100])) for start in (0, 16, 32)]
    found = table(step(rows))
    assert len({row["cluster"] for row in found.values()}) == 1
    kept = next(row["kept"] for row in found.values())
    ends = {"a:0", "a:32"}
    if kept in ends:
        (other,) = ends - {kept}
        assert found[other]["similarity"] == pytest.approx((99 - 32) / (99 + 32))


def test_languages_and_labels_mix(step: Step, text_row: Make, table: Table, toys: Any) -> None:
    text = "".join(toys.han(300, 1))
    rows = [text_row("a:1", text, language="zh"), text_row("b:1", text[:-9], language="en", source="b")]
    assert table(step({"a": rows[:1], "b": rows[1:]}))["b:1"]["kept"] == "a:1"


def test_retracted_sources_and_ids_decide(step: Step, text_row: Make, table: Table) -> None:
    rows = [
        text_row("a:1", "rest and tea", source="x", retracted=True),
        text_row("a:2", "rest and tea", source="x"),
        text_row("a:3", "rest and tea", source="y"),
    ]
    assert {row["kept"] for row in table(step(rows)).values()} == {"a:2"}
    authority = DuplicateSettings(sources=("y",))
    assert {row["kept"] for row in table(step(rows, authority)).values()} == {"a:3"}


def test_of_rows_with_one_id_the_highest_version_stands(step: Step, text_row: Make) -> None:
    rows = [
        text_row("a:1", "old text", version=1),
        text_row("a:1", "new text", version=3),
        text_row("a:1", "middle text", version=2),
        text_row("a:2", "OLD text"),
    ]
    found = step({"x": rows[:1], "y": rows[1:]})
    reason = "another row has the same id"
    assert (
        list(read_json_lines(found.removed))
        == [{"id": "a:1", "step": "exact dedup", "reason": reason, "kept": "a:1"}] * 2
    )
    assert found.ledger[0].to_row() == {"step": "exact dedup", "in": 4, "out": 2, "dropped": {reason: 2}}
    folder = found.folder.parent
    assert list(found.staying("x", folder / "x.jsonl")) == []
    stay = [orjson.loads(line) for line in found.staying("y", folder / "y.jsonl")]
    assert [row["messages"][0]["content"] for row in stay] == ["new text", "OLD text"]


def test_rows_without_a_word_are_equal_or_not_duplicates(step: Step, text_row: Make, table: Table) -> None:
    rows = [
        text_row("a:1", "?!"),
        text_row("a:2", "…"),
        text_row("a:3", " ?! "),
        text_row("a:4", ""),
        text_row("a:5", ""),
    ]
    kept = {id_: row["kept"] for id_, row in table(step(rows)).items()}
    assert kept == {"a:1": "a:1", "a:2": "a:2", "a:3": "a:1", "a:4": "a:4", "a:5": "a:4"}


def test_documents_and_dialogues_are_no_duplicates_of_each_other(
    step: Step, text_row: Make, chat_row: Make, table: Table, toys: Any
) -> None:
    text = " ".join(toys.words(100, 1))
    rows = [
        text_row("a:1", text),
        chat_row("a:2", text, ""),
        chat_row("a:3", "", text),
        chat_row("a:4", "", text, rejected_response=""),
    ]
    assert {row["kind"] for row in table(step(rows)).values()} == {"kept"}


def test_nothing_gives_nothing(step: Step, table: Table, tmp_path: Path) -> None:
    found = step({"a": [], "b": []})
    assert table(found) == {}
    assert [entry.rows_in for entry in found.ledger] == [0, 0]
    assert deduplicate({}, tmp_path / "none", DuplicateSettings()).figures["contents"] == 0


def test_it_is_whole_or_not_there(tmp_path: Path, text_row: Make) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(orjson.dumps(text_row("a:1", "x")) + b"\n{\n")
    leftover = tmp_path / ".out.1.work"
    leftover.mkdir()
    with pytest.raises(MedllmError, match=r"a.jsonl: the line at byte \d+ is no record"):
        deduplicate({"a": path}, tmp_path / "out", DuplicateSettings())
    assert list(tmp_path.iterdir()) == [path]


def rows_of(families: list[tuple[int, int, bool]], toys: Any, make: Make) -> list[dict[str, Any]]:
    """Rows of families of similar texts, in both languages."""
    rows = []
    for number, (family, variant, retracted) in enumerate(families):
        tokens, space, other = texts(toys, "en" if family % 2 else "zh", family)
        text = space.join(toys.changed(tokens[:60], 0.04 * (variant > 1), other, variant))
        rows.append(make(f"{number:02}", text + "." * (variant == 1), retracted=retracted, source=f"s{variant}"))
    return rows


FAMILIES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.booleans()), max_size=14)


@given(FAMILIES, st.randoms(use_true_random=False), st.integers(1, 3))
@settings(max_examples=25, suppress_health_check=SLOW_FIXTURES)
def test_a_permutation_and_another_division_into_files_change_no_decision(
    step: Step, text_row: Make, table: Table, toys: Any, families: Any, chance: Any, files: int
) -> None:
    rows = rows_of(families, toys, text_row)
    one = step(rows)
    chance.shuffle(rows)
    other = step({f"f{number}": rows[number::files] for number in range(files)})
    places = ("set", "position")
    strip = lambda found: [{k: v for k, v in row.items() if k not in places} for row in found.values()]  # noqa: E731
    assert strip(table(one)) == strip(table(other))
    assert one.removed.read_bytes() == other.removed.read_bytes()
    assert one.ledger == other.ledger


@given(FAMILIES)
@settings(max_examples=25, suppress_health_check=SLOW_FIXTURES)
def test_clusters_are_closed_and_counts_balance(
    step: Step, text_row: Make, table: Table, toys: Any, families: Any
) -> None:
    rows = rows_of(families, toys, text_row)
    found = step(rows)
    result = table(found)
    assert sorted(result) == [row["id"] for row in rows]
    kept = Counter(row["cluster"] for row in result.values() if row["kind"] == "kept")
    assert kept == Counter({row["cluster"] for row in result.values()})
    for row in result.values():
        assert result[row["kept"]]["cluster"] == row["cluster"]
        assert result[row["kept"]]["kept"] == row["kept"]
        assert (row["kind"] == "kept") == (row["kept"] == row["id"])
        assert (row["kind"] == "near") == (row["content"] != result[row["kept"]]["content"])
    contents: dict[bytes, set[bytes]] = {}
    for row in result.values():
        contents.setdefault(row["content"], set()).add(row["cluster"])
    assert all(len(clusters) == 1 for clusters in contents.values())
    # Rows of one family are near duplicates, and rows of two families are not.
    family = {f"{number:02}": one for number, (one, _, _) in enumerate(families)}
    assert {frozenset(id_ for id_ in result if result[id_]["cluster"] == cluster) for cluster in kept} == {
        frozenset(id_ for id_ in family if family[id_] == one) for one in family.values()
    }
    stay = [orjson.loads(line)["id"] for line in found.staying("a", found.folder.parent / "a.jsonl")]
    removed = [row["id"] for row in read_json_lines(found.removed)]
    assert sorted(stay + removed) == sorted(family)
    assert found.ledger[0].rows_in == len(rows)
    assert found.ledger[1].rows_out == len(stay)


def test_workers_change_no_byte(step: Step, text_row: Make, toys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    families = [(number % 7, number % 4, number % 5 == 0) for number in range(60)]
    rows = rows_of(families, toys, text_row)
    monkeypatch.setattr("medllm_ops.curation.duplicates.verify.PAIRS_A_JOB", 10)
    # Parts small enough that there are many of them.
    monkeypatch.setattr("medllm_ops.curation.parts.parts.__defaults__", (2000,))
    one, two = step(rows), step(rows, worker_count=2)
    for name in ("clusters.parquet", "removed.jsonl", "ledger.json", "figures.json"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()


def test_an_error_in_a_worker_is_the_users(tmp_path: Path, text_row: Make) -> None:
    files = {"a": tmp_path / "a.jsonl", "b": tmp_path / "b.jsonl"}
    write_json_lines(files["a"], [text_row("a:1", "x")])
    files["b"].write_bytes(b"{\n")
    with pytest.raises(MedllmError, match=r"b.jsonl: the line at byte 0 is no record"):
        deduplicate(files, tmp_path / "out", DuplicateSettings(), worker_count=2)


def test_thresholds_are_settings(step: Step, text_row: Make, table: Table, toys: Any) -> None:
    tokens = toys.words(150, 1)
    rows = [text_row("a", " ".join(tokens)), text_row("b", " ".join(toys.changed(tokens, 0.08, toys.words, 1)))]
    strict = DuplicateSettings(words=Shingles(candidate_size=3, size=2, threshold=0.9))
    assert table(step(rows))["b"]["kept"] == "a"
    assert table(step(rows, strict))["b"]["kept"] == "b"
