from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.datasets.export import SetSettings, TokenCounts, export
from medllm_ops.datasets.pairs import pairs_of
from medllm_ops.errors import MedllmError
from medllm_ops.files import count_lines, file_hash, read_json, read_json_lines, write_json_lines

Lengths = dict[str, dict[str, list[int]]]


class Counter:
    """Counts tokens as the rows say themselves: each row's text is its length."""

    def __init__(self, model_maximum: int | None = None) -> None:
        self.model_maximum = model_maximum
        self.asked: list[dict[str, str]] = []

    def __call__(self, files: Mapping[Path, str]) -> TokenCounts:
        self.asked.append({f"{path.parent.name}/{path.name}": stage for path, stage in files.items()})
        by_file = {path: [int(row["messages"][0]["content"]) for row in read_json_lines(path)] for path in files}
        return TokenCounts(by_file, self.model_maximum, by_file)


def uncut(rows: Sequence[dict[str, Any]], limit: int) -> Iterator[list[dict[str, Any]]]:
    for _ in rows:
        yield []


def in_halves(rows: Sequence[dict[str, Any]], limit: int) -> Iterator[list[dict[str, Any]]]:
    for row in rows:
        tokens = int(row["messages"][0]["content"])
        halves = [str(tokens // 2), str(tokens - tokens // 2)]
        yield [
            {"id": f"{row['id']}#{number}", "messages": [{"role": "assistant", "content": half}]}
            for number, half in enumerate(halves, start=1)
        ]


@pytest.fixture
def split(tmp_path: Path) -> Callable[[Lengths], Path]:
    """A folder of split rows with the given token counts."""

    def make(sets: Lengths) -> Path:
        for name, sides in sets.items():
            for side, lengths in sides.items():
                rows = [
                    {
                        "id": f"{name}:{side}{number}",
                        "messages": [{"role": "assistant", "content": str(length)}],
                        "content": "its hash",
                    }
                    for number, length in enumerate(lengths)
                ]
                write_json_lines(tmp_path / "split" / side / f"{name}.jsonl", rows)
        return tmp_path / "split"

    return make


def test_only_rows_that_fit_and_can_be_encoded_are_exported(split: Callable[..., Path], tmp_path: Path) -> None:
    source = split({"alpaca": {"train": [5, 11, 10, 0, 3], "val": [2, 12]}})
    out, counter = tmp_path / "out", Counter()
    manifest = export(source, {"alpaca": SetSettings("sft", 10)}, counter, uncut, out)
    assert counter.asked == [{"train/alpaca.jsonl": "sft", "val/alpaca.jsonl": "sft"}]
    rows = list(read_json_lines(out / "train" / "alpaca.jsonl"))
    assert [row["id"] for row in rows] == ["alpaca:train0", "alpaca:train2", "alpaca:train4"]
    assert all(row.keys() == {"id", "messages"} for row in rows)
    assert read_json(out / "ledger.json") == [
        {
            "step": "export alpaca",
            "in": 7,
            "out": 4,
            "dropped": {"longer than max_length": 2, "refused by the template": 1},
        }
    ]
    assert list(read_json_lines(out / "removed.jsonl")) == [
        {"id": "alpaca:val1", "step": "export alpaca", "reason": "longer than max_length", "tokens": 12},
        {"id": "alpaca:train1", "step": "export alpaca", "reason": "longer than max_length", "tokens": 11},
        {"id": "alpaca:train3", "step": "export alpaca", "reason": "refused by the template", "tokens": 0},
    ]
    figures = manifest["sets"]["alpaca"]
    assert (figures["stage"], figures["train"], figures["val"], figures["tokens"]) == ("sft", 3, 1, 18)
    for side in ("train", "val"):
        path = out / side / "alpaca.jsonl"
        assert figures["hashes"][side] == file_hash(path)
        assert figures[side] == count_lines(path)


@pytest.mark.parametrize(
    ("own", "model", "limit", "kept"), [(10, 8, 8, 1), (8, 10, 8, 1), (None, 8, 8, 1), (10, None, 10, 2)]
)
def test_the_limit_is_the_lower_of_the_sets_and_the_models_own(
    split: Callable[..., Path], tmp_path: Path, own: int | None, model: int | None, limit: int, kept: int
) -> None:
    source = split({"docx": {"train": [8, 10], "val": [1]}})
    manifest = export(source, {"docx": SetSettings("pretrain", own)}, Counter(model), uncut, tmp_path / "out")
    figures = manifest["sets"]["docx"]
    assert (figures["max_length"], figures["train"]) == (limit, kept)


def test_without_any_limit_every_row_fits(split: Callable[..., Path], tmp_path: Path) -> None:
    source = split({"docx": {"train": [10**9], "val": [1]}})
    manifest = export(source, {"docx": SetSettings("pretrain", None)}, Counter(), uncut, tmp_path / "out")
    assert manifest["sets"]["docx"]["train"] == 1


def test_a_set_with_an_empty_side_is_left_out_and_counted(split: Callable[..., Path], tmp_path: Path) -> None:
    source = split(
        {
            "pubmed": {"train": [1, 2], "val": [99]},
            "docx": {"train": [1], "val": [1]},
            "tcm_books": {"train": [], "val": []},
        }
    )
    sets = {name: SetSettings("pretrain", 10) for name in ("pubmed", "docx", "tcm_books")}
    manifest = export(source, sets, Counter(), uncut, tmp_path / "out")
    assert list(manifest["sets"]) == ["docx"]
    assert not (tmp_path / "out" / "train" / "pubmed.jsonl").exists()
    ledger = {row["step"]: row for row in read_json(tmp_path / "out" / "ledger.json")}
    assert ledger["export pubmed"]["dropped"] == {"longer than max_length": 1, "set without rows on both sides": 2}
    assert ledger["export pubmed"]["in"] == 3
    assert ledger["export tcm_books"] == {"step": "export tcm_books", "in": 0, "out": 0, "dropped": {}}
    removed = [row["id"] for row in read_json_lines(tmp_path / "out" / "removed.jsonl")]
    assert sorted(removed) == ["pubmed:train0", "pubmed:train1", "pubmed:val0"]


def test_a_stage_without_any_set_is_an_error_that_says_what_to_do(split: Callable[..., Path], tmp_path: Path) -> None:
    source = split({"pubmed": {"train": [1], "val": [1]}, "alpaca": {"train": [99], "val": [1]}})
    sets = {"pubmed": SetSettings("pretrain", 10), "alpaca": SetSettings("sft", 10)}
    with pytest.raises(
        MedllmError, match="stage sft has no set left with rows for training and for validation"
    ) as error:
        export(source, sets, Counter(), uncut, tmp_path / "out")
    assert "export alpaca: 2 rows, dropped {'longer than max_length': 1" in str(error.value)
    assert "raise max_length" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_counts_for_other_rows_than_there_are_give_no_dataset(split: Callable[..., Path], tmp_path: Path) -> None:
    source = split({"docx": {"train": [1, 2], "val": [1]}})

    def miscount(files: Mapping[Path, str]) -> TokenCounts:
        counts = {path: [1] for path in files}
        return TokenCounts(counts, None, counts)

    with pytest.raises(ValueError, match="shorter"):
        export(source, {"docx": SetSettings("pretrain", 10)}, miscount, uncut, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tokens_are_counted_once_for_the_same_rows_limits_and_model(split: Callable[..., Path], tmp_path: Path) -> None:
    source, counter, out = split({"docx": {"train": [1, 9], "val": [1]}}), Counter(), tmp_path / "out"

    def run(limit: int, model: str) -> Any:
        return export(source, {"docx": SetSettings("pretrain", limit)}, counter, uncut, out, [model])

    first = run(10, "a")
    assert run(10, "a") == first
    assert len(counter.asked) == 1
    assert run(5, "a")["sets"]["docx"]["train"] == 1
    run(5, "b")
    split({"docx": {"train": [1, 2, 3], "val": [1]}})
    assert run(5, "b")["sets"]["docx"]["train"] == 3
    assert len(counter.asked) == 4


def test_rows_too_long_are_cut_and_counted_again(split: Callable[..., Path], tmp_path: Path) -> None:
    source, counter = split({"docx": {"train": [4, 19, 30, 12], "val": [11, 2]}}), Counter()
    out = tmp_path / "out"
    manifest = export(source, {"docx": SetSettings("pretrain", 10)}, counter, in_halves, out)
    rows = [row["id"] for row in read_json_lines(out / "train" / "docx.jsonl")]
    assert rows == ["docx:train0", "docx:train1#1", "docx:train1#2", "docx:train3#1", "docx:train3#2"]
    assert [row["id"] for row in read_json_lines(out / "val" / "docx.jsonl")] == [
        "docx:val0#1",
        "docx:val0#2",
        "docx:val1",
    ]
    assert read_json(out / "ledger.json") == [
        {"step": "export docx", "in": 6, "out": 5, "dropped": {"longer than max_length": 1}, "pieces": 8}
    ]
    figures = manifest["sets"]["docx"]
    assert (figures["train"], figures["val"], figures["tokens"]) == (5, 3, 4 + 19 + 12)
    assert counter.asked[1:] == [{"train/docx.jsonl": "pretrain", "val/docx.jsonl": "pretrain"}]
    assert sorted(path.name for path in out.iterdir()) == [
        "key.json",
        "ledger.json",
        "manifest.json",
        "removed.jsonl",
        "train",
        "val",
    ]


def test_a_row_of_a_mixture_gives_its_first_piece_only(split: Callable[..., Path], tmp_path: Path) -> None:
    source, out = split({"mixed": {"train": [4, 19, 30, 12], "val": [11, 2]}}), tmp_path / "out"
    settings = SetSettings("self_cognition", 10, first_piece=True)
    manifest = export(source, {"mixed": settings}, Counter(), in_halves, out)
    rows = [row["id"] for row in read_json_lines(out / "train" / "mixed.jsonl")]
    assert rows == ["mixed:train0", "mixed:train1#1", "mixed:train3#1"]
    assert read_json(out / "ledger.json") == [
        {"step": "export mixed", "in": 6, "out": 5, "dropped": {"longer than max_length": 1}}
    ]
    assert (manifest["sets"]["mixed"]["val"], manifest["sets"]["mixed"]["tokens"]) == (2, 4 + 9 + 6)


def test_a_set_whose_training_side_is_empty_is_left_out(split: Callable[..., Path], tmp_path: Path) -> None:
    source = split({"docx": {"train": [99], "val": [11, 2]}, "pubmed": {"train": [1], "val": [1]}})
    sets = {name: SetSettings("pretrain", 10) for name in ("docx", "pubmed")}
    manifest = export(source, sets, Counter(), in_halves, tmp_path / "out")
    assert list(manifest["sets"]) == ["pubmed"]
    removed = {row["id"]: row["reason"] for row in read_json_lines(tmp_path / "out" / "removed.jsonl")}
    one_side = "set without rows on both sides"
    assert removed == {"docx:train0": "longer than max_length", "docx:val0": one_side, "docx:val1": one_side}


def pair(number: int, better: int, worse: int) -> dict[str, Any]:
    asked = {"role": "user", "content": f"q{number}"}
    return {
        "id": f"preference:{number}",
        "messages": [asked, {"role": "assistant", "content": str(better)}],
        "rejected_response": str(worse),
    }


def count_pairs(files: Mapping[Path, str]) -> TokenCounts:
    """Counts an answer as its text says."""
    answers = {
        path: [(int(row["messages"][-1]["content"]), int(row["rejected_response"])) for row in read_json_lines(path)]
        for path in files
    }
    longer = {path: [max(each) for each in rows] for path, rows in answers.items()}
    return TokenCounts(longer, None, {path: [sum(each) for each in rows] for path, rows in answers.items()})


def test_a_pair_keeps_both_answers_and_counts_them_both(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "sets/train/pairs.jsonl", [pair(1, 5, 7), pair(2, 3, 11), pair(3, 9, 2)])
    write_json_lines(tmp_path / "sets/val/pairs.jsonl", [pair(4, 4, 6)])
    out = tmp_path / "out"
    manifest = export(tmp_path / "sets", {"pairs": SetSettings("dpo", 10)}, count_pairs, uncut, out)
    rows = list(read_json_lines(out / "train" / "pairs.jsonl"))
    # The second is too long for its worse answer alone.
    assert rows == [pair(1, 5, 7), pair(3, 9, 2)]
    figures = manifest["sets"]["pairs"]
    assert (figures["train"], figures["val"], figures["tokens"], figures["longer_tokens"]) == (2, 1, 23, 16)


def test_for_kto_a_pair_becomes_two_labelled_rows_and_no_answer_comes_twice(tmp_path: Path) -> None:
    train = [pair(1, 5, 7), pair(2, 3, 7), pair(3, 9, 2), pair(4, 2, 6)]
    write_json_lines(tmp_path / "sets/train/pairs.jsonl", train)
    # The other side is another training's business: the same answer may stand there.
    write_json_lines(tmp_path / "sets/val/pairs.jsonl", [pair(5, 5, 7)])
    out = tmp_path / "out"
    manifest = export(tmp_path / "sets", {"pairs": SetSettings("dpo", 10, labelled=True)}, count_pairs, uncut, out)
    rows = list(read_json_lines(out / "train" / "pairs.jsonl"))
    assert [(row["messages"][-1]["content"], row["label"]) for row in rows] == [
        ("5", True),
        ("7", False),
        ("9", True),
        ("2", False),
    ]
    assert list(pairs_of(rows)) == [train[0], train[2]]
    assert (manifest["sets"]["pairs"]["train"], manifest["sets"]["pairs"]["val"]) == (4, 2)
    assert manifest["sets"]["pairs"]["tokens"] == 23
    (row,) = read_json(out / "ledger.json")
    assert row["dropped"] == {"an answer of another pair: kto cannot take it twice": 2}
    assert (row["in"], row["out"], row["pieces"]) == (5, 3, 6)
