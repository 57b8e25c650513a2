"""The merge proof: it passes true merges of every kind it knows, and names what is wrong with the others."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.swift.lora import NotProvableError, read_adapter
from medllm_ops.swift.proof import check_files, check_tensors, prove

Q = "model.layers.0.self_attn.q_proj.weight"
NORM = "model.layers.1.input_layernorm.weight"


def shard_of(folder: Path, tensor: str) -> Path:
    return folder / read_json(folder / "model.safetensors.index.json")["weight_map"][tensor]


def failures(base: Path, adapter: Path, merged: Path, dtype: str | None = None) -> list[str]:
    return check_tensors(base, adapter, merged, dtype)["failures"]


def test_a_true_merge_passes_as_a_process(tiny_model: Path, adapter: Path, merged: Path, tmp_path: Path):
    out = tmp_path / "proof.json"
    argv = ["--base", tiny_model, "--adapter", adapter, "--merged", merged, "--out", out, "--stage", "sft"]
    done = subprocess.run(
        [sys.executable, "-m", "medllm_ops.swift.proof", *map(str, argv)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    proof = read_json(out)
    assert proof["passed"]
    assert proof["failures"] == []
    assert (proof["stage"], proof["dtype"]) == ("sft", "float32")
    assert (proof["adapted_tensors"], proof["unchanged_tensors"]) == (14, 12)
    assert 0 <= proof["max_abs_diff"] <= proof["tolerance"] < 1e-6
    assert (
        0 <= proof["logits"]["max_abs_diff"] <= proof["logits"]["tolerance"] < 0.01 * proof["logits"]["adapter_effect"]
    )
    assert proof["logits"]["prompts"] >= 4
    assert 0 < proof["relative_change"]["min"] <= proof["relative_change"]["max"]


def test_a_zeroed_adapter_fails(tiny_model: Path, adapter: Path, tmp_path: Path, edit_tensors, merge_with_peft):
    zero = Path(shutil.copytree(adapter, tmp_path / "zero"))

    def clear(tensors: dict[str, Any]) -> None:
        for name, tensor in tensors.items():
            if "lora_B" in name:
                tensor.zero_()

    edit_tensors(zero / "adapter_model.safetensors", clear)
    assert failures(tiny_model, zero, merge_with_peft(tiny_model, zero)) == [
        "the adapter is zero: B*A is 0 for every module, so it changes nothing"
    ]


def test_one_corrupted_element_of_an_adapted_tensor_fails(tiny_model, adapter, merged_copy, edit_tensors):
    edit_tensors(shard_of(merged_copy, Q), lambda tensors: tensors[Q][3, 5].add_(1e-5))
    (failure,) = failures(tiny_model, adapter, merged_copy)
    assert failure.startswith(f"{Q}: differs from base + scale*B*A")


def test_one_flipped_bit_of_an_unchanged_tensor_fails(tiny_model, adapter, merged_copy, edit_tensors):
    edit_tensors(shard_of(merged_copy, NORM), lambda tensors: tensors[NORM][:1].mul_(1 + 2**-23))
    (failure,) = failures(tiny_model, adapter, merged_copy)
    assert failure.startswith(f"{NORM}: no adapter changes it")


@pytest.mark.parametrize("alpha", [16, 8.1])
def test_a_wrong_scale_fails_in_every_adapted_tensor(tiny_model, adapter, merged, tmp_path, alpha):
    other = Path(shutil.copytree(adapter, tmp_path / "other"))
    config = read_json(other / "adapter_config.json")
    write_json(other / "adapter_config.json", {**config, "lora_alpha": alpha})
    named = {failure.split(":")[0] for failure in failures(tiny_model, other, merged)}
    assert len(named) == 14
    assert Q in named


def test_a_half_written_shard_fails(tiny_model, adapter, merged_copy):
    shard = shard_of(merged_copy, Q)
    shard.write_bytes(shard.read_bytes()[:-100])
    proof = prove(tiny_model, adapter, merged_copy)
    assert not proof["passed"]
    assert str(shard) in proof["failures"][0]
    assert "cut off" in proof["failures"][0]


def test_a_missing_shard_fails(tiny_model, adapter, merged_copy):
    shard = shard_of(merged_copy, Q)
    shard.unlink()
    assert str(shard) in prove(tiny_model, adapter, merged_copy)["failures"][0]


def test_a_missing_and_an_extra_tensor_fail(tiny_model, adapter, merge_with_peft, edit_tensors):
    merged = merge_with_peft(tiny_model, adapter)

    def rename(tensors: dict[str, Any]) -> None:
        tensors["model.extra.weight"] = tensors.pop(NORM)

    edit_tensors(merged / "model.safetensors", rename)
    assert failures(tiny_model, adapter, merged) == [
        f"{NORM}: missing in the merged model",
        "model.extra.weight: in the merged model, but not in the base",
    ]


def test_a_changed_dtype_fails_unless_it_was_asked_for(tiny_model, adapter, merge_with_peft):
    merged = merge_with_peft(tiny_model, adapter, dtype="bfloat16")
    assert f"{Q}: bfloat16 in the merged model, float32 expected" in failures(tiny_model, adapter, merged)
    assert failures(tiny_model, adapter, merged, "bfloat16") == []


def test_not_a_number_fails(tiny_model, adapter, merged_copy, edit_tensors):
    edit_tensors(shard_of(merged_copy, Q), lambda tensors: tensors[Q][0, 0].fill_(math.nan))
    edit_tensors(shard_of(merged_copy, NORM), lambda tensors: tensors[NORM][:1].fill_(math.inf))
    found = failures(tiny_model, adapter, merged_copy)
    assert [failure.split(":")[0] for failure in found] == [Q, NORM]
    assert all("NaN" in failure for failure in found)


def test_in_bfloat16_a_forgotten_update_fails_though_it_is_near_the_rounding(tmp_path, make_adapter, edit_tensors):
    """Updates smaller than the spacing of bfloat16 hide in a tolerance; the surviving share does not."""
    from medllm_ops.models.tiny import make_tiny_model

    base = make_tiny_model(tmp_path / "base", dtype="bfloat16")
    small = make_adapter(base)

    def shrink(tensors: dict[str, Any]) -> None:
        for name, tensor in tensors.items():
            if "lora_B" in name:
                tensor.mul_(0.01)

    edit_tensors(small / "adapter_model.safetensors", shrink)
    found = failures(base, small, base)
    assert any(failure.startswith(f"{Q}: holds 0 times the adapter's update") for failure in found)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_true_merges_in_half_precision_pass_with_logits(tmp_path, make_adapter, merge_with_peft, dtype):
    from medllm_ops.models.tiny import make_tiny_model

    base = make_tiny_model(tmp_path / "base", dtype=dtype)
    adapter = make_adapter(base)
    proof = prove(base, adapter, merge_with_peft(base, adapter, dtype=dtype))
    assert proof["failures"] == []
    assert proof["dtype"] == dtype
    assert proof["logits"]["max_abs_diff"] < proof["logits"]["adapter_effect"]


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.0.mlp.up_proj": 3}},
        {"modules_to_save": ["input_layernorm"], "target_modules": ["q_proj", "v_proj"]},
        {"bias": "lora_only", "target_modules": ["q_proj", "k_proj"]},
    ],
    ids=["rslora", "patterns", "modules_to_save", "bias"],
)
def test_true_merges_of_other_lora_settings_pass(tiny_model, make_adapter, merge_with_peft, settings):
    adapter = make_adapter(tiny_model, **settings)
    assert prove(tiny_model, adapter, merge_with_peft(tiny_model, adapter))["failures"] == []


def test_a_replaced_module_that_was_not_taken_over_fails(tiny_model, make_adapter, merge_with_peft, edit_tensors):
    adapter = make_adapter(tiny_model, modules_to_save=["input_layernorm"], target_modules=["q_proj"])
    merged = merge_with_peft(tiny_model, adapter)
    edit_tensors(merged / "model.safetensors", lambda tensors: tensors[NORM].fill_(1))
    (failure,) = failures(tiny_model, adapter, merged)
    assert failure.startswith(NORM)
    assert "the adapter's own tensor" in failure


def test_an_embedding_update_is_transposed(tmp_path, make_adapter, merge_with_peft):
    from medllm_ops.models.tiny import make_tiny_model

    base = make_tiny_model(tmp_path / "base", tie_word_embeddings=False)
    adapter = make_adapter(base, target_modules=["embed_tokens", "q_proj"])
    assert failures(base, adapter, merge_with_peft(base, adapter)) == []


def test_a_tied_head_may_be_saved_too_but_must_equal_the_embedding(tiny_model, adapter, merge_with_peft, edit_tensors):
    merged, head, embedding = merge_with_peft(tiny_model, adapter), "lm_head.weight", "model.embed_tokens.weight"
    file = merged / "model.safetensors"
    edit_tensors(file, lambda tensors: tensors.update({head: tensors[embedding].clone()}))
    assert failures(tiny_model, adapter, merged) == []
    edit_tensors(file, lambda tensors: tensors[head][7].add_(1))
    assert failures(tiny_model, adapter, merged) == [f"{head}: tied to {embedding} in the config, but not equal to it"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
        ({"init_lora_weights": "lora-ga"}, "lora-ga"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
    ],
)
def test_other_tuners_are_not_provable(adapter: Path, tmp_path: Path, change: dict[str, Any], word: str):
    other = Path(shutil.copytree(adapter, tmp_path / "other"))
    write_json(other / "adapter_config.json", {**read_json(other / "adapter_config.json"), **change})
    with pytest.raises(NotProvableError, match=f"not provable.*{word}"):
        read_adapter(other)


def test_broken_adapters_are_named(adapter: Path, tmp_path: Path, edit_tensors: Callable[..., None]):
    other = Path(shutil.copytree(adapter, tmp_path / "other"))
    weights = other / "adapter_model.safetensors"
    edit_tensors(weights, lambda tensors: tensors.pop(f"base_model.model.{Q.removesuffix('.weight')}.lora_B.weight"))
    with pytest.raises(MedllmError, match=r"self_attn\.q_proj has only a LoRA A"):
        read_adapter(other)
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(MedllmError, match=r"adapter_model\.safetensors: .*cannot be read"):
        read_adapter(other)
    weights.unlink()
    with pytest.raises(MedllmError, match="no weights in the safetensors format"):
        read_adapter(other)


def test_files_beside_the_weights_are_checked(tiny_model: Path, merged_copy: Path):
    assert check_files(tiny_model, merged_copy, "float32") == []
    config = read_json(merged_copy / "config.json")
    stale = {**config, "quantization_config": {"quant_method": "gguf"}, "dtype": "bfloat16"}
    (merged_copy / "config.json").write_text(json.dumps(stale))
    for name in ("generation_config.json", "tokenizer.json", "chat_template.jinja"):
        (merged_copy / name).unlink()
    found = "; ".join(check_files(tiny_model, merged_copy, "float32"))
    for word in ("generation_config", "tokenizer is missing", "chat template", "quantization_config", "says bfloat16"):
        assert word in found


def test_logits_that_differ_fail_though_the_tensors_agree(tiny_model: Path, adapter: Path, merged_copy: Path):
    config = read_json(merged_copy / "config.json")
    config["rope_parameters"]["rope_theta"] = 100.0
    write_json(merged_copy / "config.json", config)
    (failure,) = prove(tiny_model, adapter, merged_copy)["failures"]
    assert failure.startswith("logits differ")


def test_another_tokenizer_fails(tiny_model: Path, adapter: Path, merged_copy: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(merged_copy)
    tokenizer.add_tokens(["胸闷"])
    tokenizer.save_pretrained(merged_copy)
    assert "encodes the prompts differently" in prove(tiny_model, adapter, merged_copy)["failures"][0]
