"""A merge is there whole and proven, or not at all."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.swift import proof as proof_module
from medllm_ops.swift.merge import export_command, merge, proof_command
from medllm_ops.swift.merge_request import MergeRequest
from medllm_ops.swift.prepared import Processes, Waiting

Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def request_(tiny_model: Path, adapter: Path, tmp_path: Path) -> MergeRequest:
    return MergeRequest(
        stage="sft",
        base=tiny_model,
        adapter=adapter,
        out=tmp_path / "models" / "merged",
        logs=tmp_path / "logs",
        model_type="qwen2",
        template="qwen2_5",
    )


class FakeExport(Processes):
    """Copies a ready merge where swift export would write one, and runs the true proof in this process."""

    def __init__(self, ready: Path, damage: Callable[[Path], None] = lambda folder: None, code: int = 0) -> None:
        self.ready, self.damage, self.code = ready, damage, code
        self.commands: list[list[str]] = []

    def run(self, argv: list[str], environment: Mapping[str, str], log: Path) -> int:
        self.commands.append(argv)
        part = Path(argv[argv.index("--output_dir") + 1])
        assert not part.exists(), "swift export refuses a folder that exists"
        shutil.copytree(self.ready, part)
        self.damage(part)
        return self.code

    def prepare(self, argv: list[str], environment: Mapping[str, str], log: Path) -> Waiting:
        self.commands.append(argv)
        return ProofHere(argv)


class ProofHere:
    def __init__(self, argv: list[str]) -> None:
        self.argv = [part for part in argv[3:] if part != "--wait"]

    def finish(self) -> int:
        return proof_module.main(self.argv)

    def end(self) -> None:
        """Nothing runs."""


def left_behind(request: MergeRequest) -> list[str]:
    return sorted(file.name for file in request.out.parent.iterdir()) if request.out.parent.is_dir() else []


def test_swift_export_merges_and_the_proof_passes(request_: MergeRequest):
    result = merge(request_)
    assert result.folder == request_.out
    assert not result.reused
    assert left_behind(request_) == ["merged"]
    proof = read_json(request_.out / "merge.json")
    assert proof == result.proof
    assert (proof["stage"], proof["passed"], proof["dtype"]) == ("sft", True, "float32")
    assert proof["max_abs_diff"] <= proof["tolerance"]
    assert proof["logits"]["max_abs_diff"] <= proof["logits"]["tolerance"]
    again = merge(request_, FakeExport(request_.out, code=1))
    assert again.reused
    assert again.proof == proof


def test_a_merge_that_is_there_already_is_not_run_again(request_: MergeRequest, merged: Path):
    first, second = FakeExport(merged), FakeExport(merged)
    merge(request_, first)
    assert len(first.commands) == 2
    assert merge(request_, second).reused
    assert second.commands == []


def test_other_inputs_or_a_damaged_folder_are_merged_anew(request_: MergeRequest, merged: Path):
    merge(request_, FakeExport(merged))
    (request_.out / "tokenizer.json").unlink()
    assert not merge(request_, FakeExport(merged)).reused
    assert (request_.out / "tokenizer.json").is_file()
    adapter = Path(shutil.copytree(request_.adapter, request_.logs / "other"))
    config = read_json(adapter / "adapter_config.json")
    write_json(adapter / "adapter_config.json", {**config, "lora_dropout": 0.5})
    assert not merge(replace(request_, adapter=adapter), FakeExport(merged)).reused
    assert left_behind(request_) == ["merged"]


def test_a_failed_proof_leaves_nothing_and_names_the_tensor(request_, merged, merge_with_peft, edit_tensors):
    def corrupt(folder: Path) -> None:
        shard = folder / read_json(folder / "model.safetensors.index.json")["weight_map"][Q]
        edit_tensors(shard, lambda tensors: tensors[Q][0, 0].add_(1))

    with pytest.raises(MedllmError, match=rf"stage sft: the merged model is not base \+ adapter: {Q}"):
        merge(request_, FakeExport(merged, corrupt))
    assert left_behind(request_) == []


def test_a_half_written_shard_leaves_nothing_and_is_named(request_: MergeRequest, merged: Path):
    def cut(folder: Path) -> None:
        shard = sorted(folder.glob("*.safetensors"))[0]
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])

    with pytest.raises(MedllmError, match=r"model-00001-of-\d+\.safetensors: cut off"):
        merge(request_, FakeExport(merged, cut))
    assert left_behind(request_) == []


def test_a_failed_proof_keeps_the_older_merge(request_: MergeRequest, merged: Path):
    merge(request_, FakeExport(merged))
    before = read_json(request_.out / "merge.json")
    with pytest.raises(MedllmError, match="tokenizer is missing"):
        merge(
            replace(request_, max_shard_size="1GB"),
            FakeExport(merged, lambda folder: (folder / "tokenizer.json").unlink()),
        )
    assert read_json(request_.out / "merge.json") == before
    assert left_behind(request_) == ["merged"]


@pytest.mark.parametrize("code", [1, -9])
def test_a_failed_or_killed_export_leaves_nothing(request_: MergeRequest, merged: Path, code: int):
    with pytest.raises(MedllmError, match=rf"swift export ended with exit code {code}; see .*export\.log"):
        merge(request_, FakeExport(merged, code=code))
    assert left_behind(request_) == []


def test_what_a_killed_merge_left_is_cleared_away(request_: MergeRequest, merged: Path):
    part = request_.out.parent / ".merged.part"
    part.mkdir(parents=True)
    (part / "model-00001-of-00002.safetensors").write_bytes(b"half")
    merge(request_, FakeExport(merged))
    assert left_behind(request_) == ["merged"]


def test_an_older_merge_survives_a_kill_between_two_renames_and_its_copy_is_no_orphan(
    request_: MergeRequest, merged: Path
):
    merge(request_, FakeExport(merged))
    old = request_.out.parent / ".merged.123.old"
    request_.out.rename(old)
    with pytest.raises(MedllmError, match="exit code 1"):
        merge(replace(request_, max_shard_size="1GB"), FakeExport(merged, code=1))
    assert left_behind(request_) == ["merged"]
    # Killed behind the second rename: the new one is there, and the old one only takes room.
    shutil.copytree(request_.out, old)
    assert merge(request_, FakeExport(merged, code=1)).reused
    assert left_behind(request_) == ["merged"]


def test_two_merges_at_once_are_an_error_of_the_second(request_: MergeRequest, merged: Path):
    def again(folder: Path) -> None:
        with pytest.raises(MedllmError, match="merged is being made by another process"):
            merge(request_, FakeExport(merged))

    merge(request_, FakeExport(merged, again))
    assert left_behind(request_) == ["merged"]


def test_an_interrupt_leaves_nothing(request_: MergeRequest, merged: Path):
    def interrupt(folder: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(request_, FakeExport(merged, interrupt))
    assert left_behind(request_) == []


def test_sigterm_ends_the_export_and_leaves_nothing(request_: MergeRequest, tmp_path: Path):
    file = tmp_path / "request.json"
    write_json(file, request_.to_row())
    process = subprocess.Popen([sys.executable, "-m", "medllm_ops.swift.merge", str(file), str(tmp_path / "r.json")])
    try:
        deadline = time.monotonic() + 60
        while not (children := psutil.Process(process.pid).children()) and time.monotonic() < deadline:
            time.sleep(0.05)
        part = request_.out.parent / ".merged.part"
        part.mkdir()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    finally:
        process.kill()
    assert children
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert left_behind(request_) == []


def test_a_folder_that_no_merge_made_is_never_touched(request_: MergeRequest, merged: Path):
    request_.out.mkdir(parents=True)
    (request_.out / "thesis.txt").write_text("mine")
    with pytest.raises(MedllmError, match="was not made by a merge"):
        merge(request_, FakeExport(merged))
    assert (request_.out / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "is quantised"),
        ({"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}, "code of its own"),
    ],
)
def test_a_base_that_cannot_be_merged_is_refused_first(request_, tmp_path, config, message):
    base = Path(shutil.copytree(request_.base, tmp_path / "base"))
    write_json(base / "config.json", {**read_json(base / "config.json"), **config})
    with pytest.raises(MedllmError, match=message):
        merge(replace(request_, base=base), FakeExport(base))


def test_a_missing_adapter_is_refused_before_a_hub_is_asked(request_: MergeRequest, tmp_path: Path):
    runner = FakeExport(request_.base)
    with pytest.raises(MedllmError, match=r"no adapter_config\.json"):
        merge(replace(request_, adapter=tmp_path), runner)
    assert runner.commands == []


def test_swift_is_told_the_dtype_and_only_paths(request_: MergeRequest, tmp_path: Path):
    argv, environment = export_command(request_, tmp_path / "part", "bfloat16")
    options = dict(zip(argv[4::2], argv[5::2], strict=True))
    assert argv[:4] == [sys.executable, "-m", "medllm_ops.swift.launch", "swift.cli.export"]
    assert options["--torch_dtype"] == "bfloat16"
    assert options["--model"] == str(request_.base)
    assert options["--output_dir"] == str(tmp_path / "part")
    assert (options["--model_type"], options["--template"]) == ("qwen2", "qwen2_5")
    assert environment["HF_HUB_OFFLINE"] == "1"
    plain = replace(request_, model_type=None, template=None, device="cuda")
    assert not {"--model_type", "--template", "--device_map"} & set(export_command(plain, tmp_path, "float16")[0])


def test_the_proof_is_told_a_dtype_only_when_one_was_asked_for(request_: MergeRequest, tmp_path: Path):
    assert "--dtype" not in proof_command(request_, tmp_path, "float32", tmp_path / "p")[0]
    asked = replace(request_, dtype="bfloat16", trust_remote_code=True)
    argv = proof_command(asked, tmp_path, "bfloat16", tmp_path / "p")[0]
    assert argv[argv.index("--dtype") + 1] == "bfloat16"
    assert "--trust-remote-code" in argv


def test_swifts_arguments_of_training_do_not_quantise_the_merged_model(request_: MergeRequest, merged: Path):
    def add_arguments(folder: Path) -> None:
        values = {"quant_method": "bnb", "quant_bits": 4, "torch_dtype": "bfloat16", "model_type": "qwen2"}
        write_json(folder / "args.json", values)

    result = merge(request_, FakeExport(merged, add_arguments))
    arguments = read_json(result.folder / "args.json")
    assert (arguments["quant_method"], arguments["quant_bits"]) == (None, None)
    assert (arguments["torch_dtype"], arguments["model_type"]) == ("float32", "qwen2")


def test_a_request_survives_json(request_: MergeRequest, tmp_path: Path):
    write_json(tmp_path / "request.json", request_.to_row())
    assert MergeRequest.from_row(read_json(tmp_path / "request.json")) == request_


def test_what_an_adapter_says_of_its_training_is_not_loaded(tmp_path: Path) -> None:
    """Its args.json can name plugins, and ms-swift would import them."""
    request = MergeRequest(stage="sft", base=tmp_path, adapter=tmp_path, out=tmp_path / "out", logs=tmp_path / "logs")
    argv, _ = export_command(request, tmp_path / "part", "float32")
    assert argv[argv.index("--load_args") + 1] == "false"
