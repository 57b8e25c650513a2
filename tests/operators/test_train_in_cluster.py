"""The real training of a tiny model in pods: the same result as on this host."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from medllm_ops.files import read_json, write_json, write_json_lines
from medllm_ops.operators import SwiftSftOperator
from medllm_ops.swift.checkpoints import last_whole_checkpoint
from servers.cluster import ClusterServer

STEPS = 4


@pytest.fixture
def dataset(home: Path) -> Path:
    folder = home / "dataset"
    for side, count in (("train", 16), ("val", 4)):
        rows = [
            {"messages": [{"role": "user", "content": f"{side} {n}"}, {"role": "assistant", "content": f"answer {n}"}]}
            for n in range(count)
        ]
        write_json_lines(folder / side / "toy.jsonl", rows)
    write_json(folder / "manifest.json", {"sets": {"toy": {"stage": "sft", "tokens": 16 * 20, "val": 4}}})
    return folder


@pytest.fixture
def train(
    home: Path, dataset: Path, tiny_model: Path, tmp_path: Path, repository: Path
) -> Callable[..., dict[str, Any]]:
    """Train in a place, with changes of the recipe; return what the operator does."""

    def do(name: str, where: str, **changes: Any) -> dict[str, Any]:
        recipe = yaml.safe_load((repository / "include" / "swift_configs" / "tiny.yaml").read_text(encoding="utf-8"))
        stage = {**recipe["stages"]["sft"], "max_steps": STEPS, "eval_rows": 0, **changes}
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump({**recipe, "name": name, "stages": {"sft": stage}}), encoding="utf-8")
        operator = SwiftSftOperator(
            task_id=name,
            stage="sft",
            recipe=str(file),
            model=str(tiny_model),
            dataset=str(dataset),
            output_dir=str(home / "stages" / name),
            where=where,
        )
        return dict(operator.execute({}))  # type: ignore[typeddict-item]

    return do


@pytest.fixture
def local(train: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return train("local", "local")


def same(result: dict[str, Any], local: dict[str, Any]) -> None:
    names = ("key", "stage", "steps", "max_steps", "rows", "val_rows")
    assert {name: result[name] for name in names} == {name: local[name] for name in names}
    assert result["loss"] == pytest.approx(local["loss"], abs=1e-5)
    assert result["eval_loss"] == pytest.approx(local["eval_loss"], abs=1e-5)


@pytest.mark.usefixtures("configure")
def test_a_training_in_a_pod_ends_in_the_result_of_one_on_this_host(
    server: ClusterServer,
    home: Path,
    train: Callable[..., dict[str, Any]],
    local: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("torch", "transformers", "swift", "peft", "deepspeed"):
        # The task's own host has only what the extra "control" installs.
        monkeypatch.setitem(sys.modules, name, None)
    result = train("pod", "kubernetes")
    same(result, local)
    assert len(server.created) == 1
    assert server.pods == {}
    written = read_json(home / "stages" / "pod" / "result.json")
    assert written == result
    assert set(written) == set(read_json(home / "stages" / "local" / "result.json"))


@pytest.mark.slow
@pytest.mark.usefixtures("configure")
def test_a_training_whose_pod_is_evicted_goes_on_from_its_checkpoint(
    server: ClusterServer, home: Path, train: Callable[..., dict[str, Any]], local: dict[str, Any]
) -> None:
    output = home / "stages" / "pod" / "output"
    done = threading.Event()

    def evict() -> None:
        while not done.wait(0.05):
            if last_whole_checkpoint(output):
                server.evict(server.wait_for("Running"))
                return

    thread = threading.Thread(target=evict)
    thread.start()
    result = train("pod", "kubernetes", max_steps=12)
    done.set()
    thread.join()
    assert len(server.created) == 2
    unbroken = train("unbroken", "local", max_steps=12)
    same(result, unbroken)
    assert [attempt["first_step"] > 0 for attempt in result["attempts"]] == [False, True]


@pytest.mark.slow
@pytest.mark.usefixtures("configure")
def test_two_nodes_train_together(
    server: ClusterServer, home: Path, train: Callable[..., dict[str, Any]], local: dict[str, Any]
) -> None:
    # Two ranks with half of the batch each see the rows that one sees, in another order.
    server.node.gpus = 2
    result = train("nodes", "kubernetes", nodes=2, per_device_train_batch_size=2)
    assert (result["steps"], result["rows"], result["val_rows"]) == (STEPS, 16, 4)
    assert result["loss"] == pytest.approx(local["loss"], rel=0.05)
    assert [name.partition("/")[0] for name in server.created] == ["services", "jobs"]
    assert (server.pods, server.others) == ({}, {})
    job = home / "stages" / "nodes" / "job"
    assert read_json(job / "attempt.json")["env"]["PET_MASTER_ADDR"] == "127.0.0.1"
    assert (job / "nodes" / "1" / "ready.json").is_file()
    # The rows were made ready once, by the first node alone, and read by the ranks of both.
    assert (job / "job.log").read_text(encoding="utf-8", errors="replace").count("the rows are ready after") == 1
    argv = read_json(job / "attempt.json")["argv"]
    assert argv[argv.index("--cached_dataset") + 1] == str(home / "stages" / "nodes" / "tokenised" / "train")
    assert "--to_cached_dataset" not in argv
    # Each checkpoint holds the state of both ranks.
    (checkpoint,) = (Path(result["checkpoint"]),)
    assert {path.name for path in checkpoint.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
