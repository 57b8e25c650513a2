"""Kills of what is no training: the merge and its proof, our own evaluation, and serving."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from faults.kills import KILL, TERM
from faults.world import Watched, wait_for
from medllm_ops.compute.processes import marked_processes
from medllm_ops.datasets.identity import Identity
from medllm_ops.errors import MedllmError
from medllm_ops.evaluation.evaluate import EvaluationRequest, evaluate_models, labels_of
from medllm_ops.files import file_hash, read_json, write_json, write_json_lines
from medllm_ops.serving.prove import serve_model
from medllm_ops.serving.registry import find_service, service_directory
from medllm_ops.swift.merge_stage import merge_stage
from medllm_ops.swift.train import TrainResult


def both(first: signal.Signals) -> Any:
    """The two signals in turn."""
    return cycle([TERM, KILL] if first == TERM else [KILL, TERM])


named = pytest.mark.parametrize("first", [TERM, KILL], ids=lambda number: number.name)


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of the tiny model."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def merge(tmp_path: Path, tiny_model: Path, adapter: Path) -> Watched:
    """The merge of a stage into ``models/merged``."""
    stage, out = tmp_path / "stage", tmp_path / "models" / "merged"
    checkpoint = Path(shutil.copytree(adapter, stage / "output" / "checkpoint-4"))
    figures: dict[str, Any] = {"steps": 4, "max_steps": 4, "loss": 1.0, "eval_loss": 1.0, "seconds": 1.0}
    figures |= {"rows": 8, "val_rows": 2, "tokens_per_second": 1.0}
    result = TrainResult("key", "sft", **figures, checkpoint=str(checkpoint), output_dir=str(checkpoint.parent))
    write_json(stage / "result.json", asdict(result))

    def work(place: Any) -> dict[str, Any]:
        return merge_stage("sft", "tiny", str(tiny_model), str(stage), str(out), place)

    return Watched(stage / "merge" / "job", tmp_path / "freezer", work)


def check_merge(merge: Watched, tmp_path: Path) -> Path:
    merge.start()
    assert merge.succeed()["passed"]
    merge.assert_clear()
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["merged"]
    return tmp_path / "models" / "merged"


def kill_merge(merge: Watched, role: str, moment: str, number: signal.Signals, tmp_path: Path) -> None:
    merge.start_frozen(moment)
    merge.strike(role, number)
    assert isinstance(merge.end(), MedllmError)
    merge.assert_clear()
    assert not (tmp_path / "models" / "merged").exists()


@pytest.mark.slow
@named
@pytest.mark.parametrize("role", ["supervisor", "merge", "swift"])
def test_a_merge_that_is_killed_in_its_export_and_in_its_proof_is_made_whole_afterwards(
    merge: Watched, tmp_path: Path, role: str, first: signal.Signals
) -> None:
    for moment, number in zip(("export", "proof"), both(first), strict=False):
        kill_merge(merge, role, moment, number, tmp_path)
    check_merge(merge, tmp_path)


def test_a_merge_whose_supervisor_is_killed_is_made_whole_afterwards(
    merge: Watched, tmp_path: Path, tiny_model: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, scripted: None
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ready = tmp_path / "ready"
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), adapter)
    model.merge_and_unload().save_pretrained(ready)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(ready)
    monkeypatch.setenv("FAKE_MERGED", str(ready))
    kill_merge(merge, "supervisor", "export", KILL, tmp_path)
    merged = check_merge(merge, tmp_path)
    assert file_hash(merged / "model.safetensors") == file_hash(ready / "model.safetensors")


@pytest.fixture
def evaluation(tmp_path: Path, tiny_model: Path, repository: Path) -> Watched:
    """Our own evaluation of the tiny model and a copy of it."""
    rows = [{"id": f"a:{n}", "messages": [{"role": "assistant", "content": f"a sentence {n}"}]} for n in range(6)]
    write_json_lines(tmp_path / "dataset" / "val" / "a.jsonl", rows)
    write_json(tmp_path / "dataset" / "manifest.json", {"sets": {"a": {"stage": "pretrain", "val": 6}}})
    merged = Path(shutil.copytree(tiny_model, tmp_path / "merged"))
    write_json(merged / "merge.json", {"stage": "pretrain"})
    request = EvaluationRequest(
        {"base": tiny_model, "pretrain": merged},
        "qwen2",
        "qwen2_5",
        "",
        tmp_path / "dataset",
        repository / "include" / "datasets" / "identity" / "gate.yaml",
        Identity("杏林小医", "MedBuddy", "杏林实验室", "Xinglin Lab"),
        tmp_path / "evaluation",
        labels_of(["pretrain"]),
        enforce_gates=False,
    )
    return Watched(tmp_path / "evaluation" / "job", tmp_path / "freezer", lambda place: evaluate_models(request, place))


@pytest.mark.slow
@pytest.mark.parametrize("role", ["supervisor", "swift"])
def test_an_evaluation_that_is_killed_is_made_whole_afterwards(evaluation: Watched, tmp_path: Path, role: str) -> None:
    for number in (TERM, KILL):
        evaluation.start_frozen("score")
        evaluation.strike(role, number)
        assert isinstance(evaluation.end(), MedllmError)
        evaluation.assert_clear()
        assert not (tmp_path / "evaluation" / "heldout.json").exists()
    evaluation.start()
    assert isinstance(evaluation.succeed(), dict)
    evaluation.assert_clear()
    losses = read_json(tmp_path / "evaluation" / "heldout.json")["sources"]["a"]["losses"]
    assert losses["base"] == losses["pretrain"] > 0


@pytest.fixture
def serving(tmp_path: Path, tiny_model: Path) -> Watched:
    """A model that is served, asked, and stopped."""

    def work(place: Any) -> dict[str, Any]:
        return serve_model("faults", "tiny", str(tiny_model), str(tmp_path / "served"), False)

    return Watched(service_directory("faults") / "job", tmp_path / "freezer", work)


def assert_not_served(job: str) -> None:
    wait_for(lambda: not list(marked_processes(job)), 60)
    assert find_service("faults") is None


@pytest.mark.slow
@pytest.mark.parametrize("role", ["supervisor", "swift"])
@named
def test_an_endpoint_that_is_killed_while_it_starts_leaves_nothing(
    serving: Watched, tmp_path: Path, role: str, first: signal.Signals
) -> None:
    serving.start_frozen("deploy")
    service = find_service("faults")
    assert service
    os.kill(serving.victim(role), first)
    serving.thaw()
    # Without its supervisor an endpoint starts all the same, is proven, and is ended by who asked for it.
    goes_on = (role, first) == ("supervisor", KILL)
    assert isinstance(serving.end(), dict if goes_on else MedllmError)
    assert_not_served(service.job_id)
    assert (tmp_path / "served" / "serving.json").exists() == goes_on
    serving.start()
    assert serving.succeed()["tokens"] > 0
    assert_not_served(service.job_id)


@pytest.mark.slow
def test_an_endpoint_whose_asker_was_killed_is_ended_by_the_next(serving: Watched, tmp_path: Path) -> None:
    pid = os.fork()
    if not pid:
        try:
            serving.work(serving.place)
        finally:
            os._exit(0)
    service = wait_for(lambda: find_service("faults"))
    wait_for(lambda: list(marked_processes(service.job_id)))
    os.kill(pid, KILL)
    os.waitpid(pid, 0)
    assert list(marked_processes(service.job_id))
    serving.start()
    assert serving.succeed()["tokens"] > 0
    assert_not_served(service.job_id)
