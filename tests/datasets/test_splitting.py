import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.curation.deduplicate import deduplicate
from medllm_ops.curation.split import AssignmentTable
from medllm_ops.datasets.identity import Identity
from medllm_ops.datasets.splitting import IdentitySettings, split
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, read_json_lines, write_json_lines

SHARES = {"pretrain": 0.05, "sft": 0.1, "self_cognition": 0.1}
IDENTITY = Identity("杏林小医", "MedBuddy", "杏林实验室", "Xinglin Lab")
# Split, and be killed when the first file of that name would get it.
SPLIT = """
import json, os, signal, sys
from pathlib import Path
from medllm_ops.datasets.splitting import split
source, table, out, name = sys.argv[1:]
rename = Path.rename
replace = Path.replace
def killed(method):
    def move(self, target):
        if Path(target).name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, target)
    return move
Path.rename, Path.replace = killed(rename), killed(replace)
split(Path(source), json.loads(os.environ["SHARES"]), None, Path(table), Path(out))
"""

Deduplicated = Callable[..., Path]


@pytest.fixture
def deduplicated(tmp_path: Path) -> Deduplicated:
    """A folder of deduplicated records: ``docs`` texts and ``chats`` dialogues."""

    def make(docs: int, chats: int, name: str = "deduplicated") -> Path:
        texts = [
            {"id": f"pubmed:{n}", "messages": [{"role": "assistant", "content": f"text {n}"}], "retracted": False}
            for n in range(docs)
        ]
        dialogues = [
            {
                "id": f"alpaca:{n}",
                "messages": [{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": f"a {n}"}],
                "retracted": False,
            }
            for n in range(chats)
        ]
        write_json_lines(tmp_path / "pubmed.jsonl", texts)
        write_json_lines(tmp_path / "alpaca.jsonl", dialogues)
        deduplicate({"pubmed": tmp_path / "pubmed.jsonl", "alpaca": tmp_path / "alpaca.jsonl"}, tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def identity(tmp_path: Path) -> IdentitySettings:
    rows = [{"query": f"Question {n}?", "response": "I am {{NAME}}.", "tag": "en"} for n in range(30)]
    write_json_lines(tmp_path / "identity.jsonl", rows)
    return IdentitySettings(tmp_path / "identity.jsonl", IDENTITY, identity_rows=40, instruction_rows=20, seed=1)


def read(out: Path, name: str) -> dict[str, list[dict[str, Any]]]:
    return {side: list(read_json_lines(out / side / f"{name}.jsonl")) for side in ("train", "val")}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_set_is_split_by_the_share_of_its_stage(deduplicated: Deduplicated, tmp_path: Path) -> None:
    out = tmp_path / "split"
    split(deduplicated(1000, 1000), SHARES, None, tmp_path / "table.jsonl", out)
    assert read_json(out / "sets.json") == {"pubmed": "pretrain", "alpaca": "sft"}
    counts = {name: {side: len(rows) for side, rows in read(out, name).items()} for name in ("pubmed", "alpaca")}
    assert abs(counts["pubmed"]["val"] - 50) < 25
    assert abs(counts["alpaca"]["val"] - 100) < 35
    assert all(sum(sides.values()) == 1000 for sides in counts.values())
    assert [row["step"] for row in read_json(out / "ledger.json")] == ["split pubmed", "split alpaca"]


def test_the_identity_set_mixes_rows_of_each_side_only(
    deduplicated: Deduplicated, identity: IdentitySettings, tmp_path: Path
) -> None:
    out = tmp_path / "split"
    split(deduplicated(5, 200), SHARES, identity, tmp_path / "table.jsonl", out)
    assert read_json(out / "sets.json")["self_cognition"] == "self_cognition"
    mixed, chats, own = (read(out, name) for name in ("self_cognition", "alpaca", "identity"))
    for side, (identities, instructions) in {"train": (36, 18), "val": (4, 2)}.items():
        ids = [row["id"].partition("#")[0] for row in mixed[side]]
        assert sum(id_.startswith("identity:") for id_ in ids) == identities
        assert sum(id_.startswith("alpaca:") for id_ in ids) == instructions
        assert set(ids) <= {row["id"] for row in [*chats[side], *own[side]]}
    assert own["val"]
    text = (out / "train" / "self_cognition.jsonl").read_text()
    assert "I am MedBuddy." in text
    assert "{{" not in text


def test_rows_are_mixed_in_from_those_named_sets_that_the_run_has(
    deduplicated: Deduplicated, identity: IdentitySettings, tmp_path: Path
) -> None:
    source = deduplicated(100, 100)
    some = dataclasses.replace(identity, instruction_sets=("disc_medllm", "pubmed"))
    split(source, SHARES, some, tmp_path / "table.jsonl", tmp_path / "some")
    mixed = {row["id"].partition(":")[0] for row in read(tmp_path / "some", "self_cognition")["train"]}
    assert mixed == {"identity", "pubmed"}
    none = dataclasses.replace(identity, instruction_sets=("disc_medllm",))
    with pytest.raises(MedllmError, match="mixes in rows of disc_medllm, but this run has none of them"):
        split(source, SHARES, none, tmp_path / "table.jsonl", tmp_path / "none")


def test_a_later_run_with_more_rows_moves_none(deduplicated: Deduplicated, tmp_path: Path) -> None:
    table = tmp_path / "table.jsonl"
    split(deduplicated(20, 3, "few"), SHARES, None, table, tmp_path / "first")
    split(deduplicated(400, 60, "many"), SHARES, None, table, tmp_path / "second")
    for name in ("pubmed", "alpaca"):
        first, second = read(tmp_path / "first", name), read(tmp_path / "second", name)
        for side in ("train", "val"):
            assert first[side]
            assert {row["id"] for row in first[side]} <= {row["id"] for row in second[side]}


# Killed when the table, or the dataset, or the first file of the dataset was about to be there.
@pytest.mark.parametrize("name", ["table.jsonl", "out", "pubmed.jsonl"])
def test_a_run_that_is_killed_gives_the_same_on_a_retry(deduplicated: Deduplicated, tmp_path: Path, name: str) -> None:
    source = deduplicated(30, 4)

    def run(folder: str, kill_at: str) -> int:
        (tmp_path / folder).mkdir(exist_ok=True)
        paths = [tmp_path / folder / "table.jsonl", tmp_path / folder / "out"]
        command = [sys.executable, "-c", SPLIT, source, *paths, kill_at]
        return subprocess.run(
            [str(part) for part in command], env={**os.environ, "SHARES": json.dumps(SHARES)}, check=False
        ).returncode

    assert run("undisturbed", "never") == 0
    assert run("killed", name) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "out").exists()
    assert run("killed", "never") == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


def test_a_dataset_is_never_there_without_its_sides_in_the_table(deduplicated: Deduplicated, tmp_path: Path) -> None:
    table, out = tmp_path / "table.jsonl", tmp_path / "out"
    seen = []
    make_name = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if target == out:
            with AssignmentTable(table) as assignments:
                seen.append(len(assignments.by_id))
        return make_name(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        split(deduplicated(30, 4), SHARES, None, table, out)
    assert seen == [34]


def test_a_set_of_one_record_is_listed_as_left_out(deduplicated: Deduplicated, tmp_path: Path) -> None:
    split(deduplicated(1, 5), SHARES, None, tmp_path / "table.jsonl", tmp_path / "out")
    assert list(read_json_lines(tmp_path / "out" / "removed.jsonl")) == [
        {"id": "pubmed:0", "step": "split pubmed", "reason": "set of one record"}
    ]
    assert read_json(tmp_path / "out" / "ledger.json")[0]["dropped"] == {"set of one record": 1}
