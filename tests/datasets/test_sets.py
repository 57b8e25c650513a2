import dataclasses
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm_ops.datasets.identity import Identity
from medllm_ops.datasets.sets import IdentitySettings, arrange, stage_of
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, read_json_lines, write_json, write_json_lines

STAGES = ("pretrain", "sft")
IDENTITY = Identity("杏林小医", "MedBuddy", "杏林实验室", "Xinglin Lab")
# Arrange, and be killed when the first file or folder of that name would get it.
ARRANGE = """
import os, signal, sys
from pathlib import Path
from medllm_ops.datasets.sets import arrange
curated, out, name = sys.argv[1:]
def killed(method):
    def move(self, target):
        if Path(target).name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, target)
    return move
Path.rename, Path.replace = killed(Path.rename), killed(Path.replace)
arrange(Path(curated), ["pubmed", "alpaca"], ["pretrain", "sft"], None, Path(out))
"""

Curated = Callable[..., Path]
Row = dict[str, Any]


def document(number: int, source: str = "pubmed") -> Row:
    return {"id": f"{source}:{number}", "messages": [{"role": "assistant", "content": f"text {number}"}]}


def dialogue(number: int, source: str = "alpaca") -> Row:
    turns = [{"role": "user", "content": f"q {number}"}, {"role": "assistant", "content": f"a {number}"}]
    return {"id": f"{source}:{number}", "messages": turns}


def preference(number: int, source: str = "preference") -> Row:
    return {**dialogue(number, source), "rejected_response": "no"}


@pytest.fixture
def curated(tmp_path: Path) -> Curated:
    """What curation leaves, of the rows given: every tenth is for validation."""

    def make(**sources: list[Row]) -> Path:
        folder = tmp_path / "curated"
        for name, rows in sources.items():
            write_json_lines(folder / "val" / f"{name}.jsonl", rows[::10])
            write_json_lines(folder / "train" / f"{name}.jsonl", [row for row in rows if row not in rows[::10]])
        write_json(folder / "manifest.json", {"sources": {name: {} for name in sources}})
        return folder

    return make


@pytest.fixture
def identity(tmp_path: Path) -> IdentitySettings:
    rows = [{"query": f"Question {n}?", "response": "I am {{NAME}}.", "tag": "en"} for n in range(30)]
    write_json_lines(tmp_path / "identity.jsonl", rows)
    return IdentitySettings(
        tmp_path / "identity.jsonl", IDENTITY, identity_rows=40, instruction_rows=20, val_share=0.1, seed=1
    )


def read(out: Path, name: str) -> dict[str, list[Row]]:
    return {side: list(read_json_lines(out / side / f"{name}.jsonl")) for side in ("train", "val")}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_rows_train_a_stage_by_their_kind() -> None:
    assert [stage_of(row) for row in (document(1), dialogue(1), preference(1))] == ["pretrain", "sft", "dpo"]


def test_every_source_is_a_set_of_its_stage_with_its_sides(curated: Curated, tmp_path: Path) -> None:
    source = curated(pubmed=[document(n) for n in range(30)], alpaca=[dialogue(n) for n in range(20)])
    out = tmp_path / "sets"
    arrange(source, ["pubmed", "alpaca"], STAGES, None, out)
    assert read_json(out / "sets.json") == {"alpaca": "sft", "pubmed": "pretrain"}
    for name in ("pubmed", "alpaca"):
        assert read(out, name) == read(source, name)
    assert read_json(out / "ledger.json") == [
        {"step": "sets alpaca", "in": 20, "out": 20, "dropped": {}},
        {"step": "sets pubmed", "in": 30, "out": 30, "dropped": {}},
    ]


def test_a_source_of_both_kinds_makes_two_sets(curated: Curated, tmp_path: Path) -> None:
    rows = [document(n, "messages") for n in range(20)] + [dialogue(n, "messages") for n in range(20, 50)]
    arrange(curated(messages=rows), ["messages"], STAGES, None, tmp_path / "sets")
    assert read_json(tmp_path / "sets" / "sets.json") == {"messages_pretrain": "pretrain", "messages_sft": "sft"}
    assert len(read(tmp_path / "sets", "messages_sft")["train"]) == 27


def test_rows_of_no_stage_are_counted(curated: Curated, tmp_path: Path) -> None:
    source = curated(pubmed=[document(n) for n in range(10)], preference=[preference(n) for n in range(10)])
    arrange(source, ["pubmed", "preference"], ["sft"], None, tmp_path / "sets")
    assert read_json(tmp_path / "sets" / "sets.json") == {}
    assert read_json(tmp_path / "sets" / "ledger.json") == [
        {"step": "sets preference", "in": 10, "out": 0, "dropped": {"its stage is off": 10}},
        {"step": "sets pubmed", "in": 10, "out": 0, "dropped": {"its stage is off": 10}},
    ]
    assert len(list(read_json_lines(tmp_path / "sets" / "removed.jsonl"))) == 20
    assert not list((tmp_path / "sets").rglob("*.part"))


def test_pairs_are_a_set_of_the_stage_that_aligns(curated: Curated, tmp_path: Path) -> None:
    source = curated(alpaca=[dialogue(n) for n in range(20)], preference=[preference(n) for n in range(20)])
    arrange(source, ["alpaca", "preference"], [*STAGES, "dpo"], None, tmp_path / "sets")
    assert read_json(tmp_path / "sets" / "sets.json") == {"alpaca": "sft", "preference": "dpo"}
    assert read(tmp_path / "sets", "preference") == read(source, "preference")
    assert all("rejected_response" in row for row in read(tmp_path / "sets", "preference")["train"])


def test_only_the_named_sets_of_pairs_are_taken(curated: Curated, tmp_path: Path) -> None:
    both = [preference(n, "messages") for n in range(10)] + [dialogue(n, "messages") for n in range(20, 40)]
    source = curated(preference=[preference(n) for n in range(10)], messages=both)
    arrange(source, ["preference", "messages"], [*STAGES, "dpo"], None, tmp_path / "sets", ["preference"])
    assert [row["dropped"] for row in read_json(tmp_path / "sets" / "ledger.json")] == [
        {"not among the recipe's preference_sets": 10},
        {},
        {},
    ]
    # Other settings, another result.
    arrange(source, ["preference", "messages"], [*STAGES, "dpo"], None, tmp_path / "sets", ["messages"])
    assert read(tmp_path / "sets", "messages_dpo")["train"]
    assert not any(read(tmp_path / "sets", "preference").values())


def test_a_pair_whose_answers_became_equal_is_dropped(curated: Curated, tmp_path: Path) -> None:
    rows = [preference(n) for n in range(10)]
    rows[3]["rejected_response"] = f" {rows[3]['messages'][-1]['content']}\n"
    arrange(curated(preference=rows), ["preference"], ["dpo"], None, tmp_path / "sets")
    (row,) = read_json(tmp_path / "sets" / "ledger.json")
    assert row["dropped"] == {"both answers are equal": 1}


def test_a_row_that_asks_a_question_of_the_identity_gate_is_dropped(curated: Curated, tmp_path: Path) -> None:
    rows = [dialogue(n) for n in range(20)]
    rows[3]["messages"][0]["content"] = "who  invented the \uff34elephone\uff1f"
    rows[4]["messages"][0]["content"] = "Who invented the telephone, and when?"
    source = curated(alpaca=rows)
    arrange(source, ["alpaca"], STAGES, None, tmp_path / "sets", gate_questions=["Who invented the telephone?"])
    (row,) = read_json(tmp_path / "sets" / "ledger.json")
    assert row == {
        "step": "sets alpaca",
        "in": 20,
        "out": 19,
        "dropped": {"asks a question of the identity gate": 1},
    }
    (removed,) = read_json_lines(tmp_path / "sets" / "removed.jsonl")
    assert removed["id"] == "alpaca:3"


def test_the_identity_set_mixes_rows_of_each_side_only(
    curated: Curated, identity: IdentitySettings, tmp_path: Path
) -> None:
    source = curated(pubmed=[document(n) for n in range(20)], alpaca=[dialogue(n) for n in range(200)])
    out = tmp_path / "sets"
    arrange(source, ["pubmed", "alpaca"], STAGES, identity, out)
    assert read_json(out / "sets.json")["self_cognition"] == "self_cognition"
    mixed, chats = read(out, "self_cognition"), read(out, "alpaca")
    questions: dict[str, set[str]] = {}
    for side, (identities, instructions) in {"train": (36, 18), "val": (4, 2)}.items():
        ids = [row["id"].partition("#")[0] for row in mixed[side]]
        assert sum(id_.startswith("identity:") for id_ in ids) == identities
        own = [id_ for id_ in ids if id_.startswith("alpaca:")]
        assert len(own) == instructions
        assert set(own) <= {row["id"] for row in chats[side]}
        questions[side] = {id_ for id_ in ids if id_.startswith("identity:")}
    assert not questions["train"] & questions["val"]
    text = (out / "train" / "self_cognition.jsonl").read_text()
    assert "I am MedBuddy." in text
    assert "{{" not in text


def test_the_sides_of_identity_rows_do_not_depend_on_the_names(
    curated: Curated, identity: IdentitySettings, tmp_path: Path
) -> None:
    source = curated(alpaca=[dialogue(n) for n in range(50)])
    other = dataclasses.replace(identity, identity=Identity("甲", "A", "乙", "B"))
    for name, each in (("one", identity), ("other", other)):
        arrange(source, ["alpaca"], STAGES, each, tmp_path / name)
    one, two = (read(tmp_path / name, "self_cognition") for name in ("one", "other"))
    assert {side: [row["id"] for row in rows] for side, rows in one.items()} == {
        side: [row["id"] for row in rows] for side, rows in two.items()
    }
    assert one != two


def test_rows_are_mixed_in_from_those_named_sources_that_the_run_has(
    curated: Curated, identity: IdentitySettings, tmp_path: Path
) -> None:
    both = [document(n, "messages") for n in range(20)] + [dialogue(n, "messages") for n in range(20, 60)]
    source = curated(pubmed=[document(n) for n in range(100)], messages=both)
    some = dataclasses.replace(identity, instruction_sets=("disc_medllm", "messages"))
    arrange(source, ["pubmed", "messages"], STAGES, some, tmp_path / "some")
    mixed = Counter(row["id"].partition(":")[0] for row in read(tmp_path / "some", "self_cognition")["train"])
    assert set(mixed) == {"identity", "messages"}
    none = dataclasses.replace(identity, instruction_sets=("disc_medllm",))
    with pytest.raises(MedllmError, match="mixes in rows of disc_medllm, but this run has none of them"):
        arrange(source, ["pubmed", "messages"], STAGES, none, tmp_path / "none")


def test_without_instruction_tuning_the_mixture_is_of_what_the_run_pretrains_on(
    curated: Curated, identity: IdentitySettings, tmp_path: Path
) -> None:
    source = curated(pubmed=[document(n) for n in range(200)], alpaca=[dialogue(n) for n in range(200)])
    arrange(source, ["pubmed", "alpaca"], ("pretrain",), identity, tmp_path / "sets")
    mixed = read(tmp_path / "sets", "self_cognition")["train"]
    assert Counter(row["id"].partition(":")[0] for row in mixed) == {"identity": 36, "pubmed": 18}


def test_each_set_gives_as_many_rows_to_the_mixture_and_the_large_ones_what_a_small_one_lacks(
    curated: Curated, identity: IdentitySettings, tmp_path: Path
) -> None:
    sizes = {"alpaca": 400, "disc_medllm": 40, "messages": 5}
    source = curated(**{name: [dialogue(n, name) for n in range(size)] for name, size in sizes.items()})
    arrange(source, list(sizes), STAGES, identity, tmp_path / "sets")
    mixed = Counter(row["id"].partition(":")[0] for row in read(tmp_path / "sets", "self_cognition")["train"])
    assert mixed == {"identity": 36, "alpaca": 7, "disc_medllm": 7, "messages": 4}


# Killed when the dataset, or the first file of it, was about to be there.
@pytest.mark.parametrize("name", ["out", "pubmed.jsonl", "sets.json"])
def test_a_run_that_is_killed_gives_the_same_on_a_retry(curated: Curated, tmp_path: Path, name: str) -> None:
    source = curated(pubmed=[document(n) for n in range(30)], alpaca=[dialogue(n) for n in range(20)])

    def run(folder: str, kill_at: str) -> int:
        (tmp_path / folder).mkdir(exist_ok=True)
        command = [sys.executable, "-c", ARRANGE, str(source), str(tmp_path / folder / "out"), kill_at]
        return subprocess.run(command, env=dict(os.environ), check=False).returncode

    assert run("undisturbed", "never") == 0
    assert run("killed", name) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "out").exists()
    assert run("killed", "never") == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from([document, dialogue, preference]), min_size=1, max_size=40),
    st.sets(st.sampled_from(STAGES)),
)
def test_no_row_is_lost(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[Callable[..., Row]], stages: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("sets")
    rows = [kind(number, "messages") for number, kind in enumerate(kinds)]
    write_json_lines(folder / "curated" / "train" / "messages.jsonl", rows)
    write_json_lines(folder / "curated" / "val" / "messages.jsonl", [])
    write_json(folder / "curated" / "manifest.json", {"sources": {"messages": {}}})
    arrange(folder / "curated", ["messages"], stages, None, folder / "out")
    written = [row["id"] for path in (folder / "out").glob("*/*.jsonl") for row in read_json_lines(path)]
    removed = [row["id"] for row in read_json_lines(folder / "out" / "removed.jsonl")]
    assert sorted([*written, *removed]) == sorted(row["id"] for row in rows)
    ledger = read_json(folder / "out" / "ledger.json")
    assert sum(row["in"] for row in ledger) == len(rows)
