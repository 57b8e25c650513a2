from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

import pytest

from medllm_ops.compute import gpus
from medllm_ops.compute.gpus import Slot
from medllm_ops.compute.lease import Leases
from medllm_ops.compute.processes import ProcessIdentity
from medllm_ops.compute.spool import Spool
from medllm_ops.curation.settings import LicenceSettings
from medllm_ops.swift.preflight import checks
from medllm_ops.swift.preflight.cards import find_card
from medllm_ops.swift.preflight.checks import (
    device_problems,
    disk_problem,
    gpus_free,
    licence_findings,
    package_problems,
    port_problem,
)
from medllm_ops.swift.recipe import StageRecipe

GPUS = [Slot("gpu-0", "uuid-0", "Tesla T4", 15_360, 10), Slot("gpu-1", "uuid-1", "NVIDIA L4", 23_034, 10)]


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path))
    monkeypatch.setattr(checks, "find_slots", lambda: GPUS)
    monkeypatch.setattr(checks, "holders", dict)


@pytest.mark.usefixtures("two_gpus")
def test_gpus_that_are_held_or_busy_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus_free(2) == ([], [])
    (problem,), _ = gpus_free(3)
    assert "this host has 2" in problem
    Leases(Spool().folder / "leases").take("job-a", 1, GPUS, {}, ProcessIdentity(1, 0.0))
    assert gpus_free(1) == ([], [])
    _, (warning,) = gpus_free(2)
    assert "gpu-0 by job job-a" in warning
    monkeypatch.setattr(checks, "holders", lambda: {"uuid-1": ["pid 7 (python, 900 MiB)"]})
    _, (warning,) = gpus_free(1)
    assert "0 free" in warning
    assert "gpu-1 by pid 7" in warning


def test_declared_slots_are_counted_like_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path))
    monkeypatch.setenv("MEDLLM_SLOTS", "2")
    monkeypatch.setattr(gpus.shutil, "which", lambda name: None)
    assert gpus_free(2) == ([], [])
    (problem,), _ = gpus_free(3)
    assert "3 GPUs are wanted, and MEDLLM_SLOTS declares 2" in problem


@pytest.mark.usefixtures("two_gpus")
def test_the_smallest_card_of_the_host_counts() -> None:
    card = checks.host_card()
    assert card is not None
    assert (card.name, card.memory) == ("T4", 15.0)


def test_a_host_without_gpus_has_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus.shutil, "which", lambda name: None)
    assert checks.host_card() is None


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} on 127.0.0.1 cannot be used: held by" in str(port_problem(port))
    assert port_problem(port) is None
    assert port_problem(70_000) is not None


def test_a_disk_without_room_is_named(tmp_path: Path) -> None:
    assert disk_problem(1, tmp_path / "not" / "yet") is None
    problem = disk_problem(1e18, tmp_path / "not" / "yet")
    assert problem is not None
    assert "save_total_limit" in problem


def test_what_a_device_cannot_do_is_named() -> None:
    flash = StageRecipe(max_steps=1, attn_impl="flash_attn", extra={"use_liger_kernel": True})
    assert len(device_problems("sft", flash, "float32", None)) == 2
    assert device_problems("sft", flash, "bfloat16", find_card("L4")) == []
    assert "float16" in device_problems("sft", flash, "bfloat16", find_card("T4"))[0]
    assert "attn_impl" in device_problems("sft", flash, "float16", find_card("T4"))[0]
    assert device_problems("sft", StageRecipe(max_steps=1), "float32", None) == []


def test_licences_that_are_denied_stop_and_unknown_ones_are_told() -> None:
    sources = {"mine": {"licences": {"CC-BY-NC-4.0": 3, "": 2}}, "other": {"licences": {"CC0-1.0": 9}}}
    problems, warnings = licence_findings(sources, LicenceSettings(deny=("*-NC-*",)))
    assert "mine has 3 rows under CC-BY-NC-4.0" in problems[0]
    assert not warnings
    problems, warnings = licence_findings(sources, LicenceSettings())
    assert not problems
    assert warnings == [next(text for text in warnings if "mine (2 rows)" in text)]
    assert licence_findings(sources, LicenceSettings(deny=("*",)), used=["absent"]) == ([], [])


def test_few_bits_need_a_gpu_unless_their_library_has_kernels_for_processors() -> None:
    few = StageRecipe(max_steps=1, quant_method="bnb", quant_bits=4)
    assert device_problems("sft", few, "float32", None) == []
    (told,) = device_problems("sft", few.model_copy(update={"quant_method": "eetq"}), "float32", None)
    assert told == "stages.sft.quant_method eetq: that needs a GPU, and there is none here: leave it out"


def test_half_precision_needs_a_gpu() -> None:
    stage = StageRecipe(max_steps=1, extra={"bf16": True, "fp16": False})
    assert device_problems("sft", stage, "bfloat16", None) == [
        "torch_dtype bfloat16: that needs a GPU, and there is none here: give float32",
        "stages.sft.extra.bf16 true: that needs a GPU, and there is none here: leave it out",
    ]
    assert device_problems("sft", stage, "bfloat16", find_card("L4")) == []
    pure = StageRecipe(max_steps=1, extra={"bf16": False})
    assert device_problems("sft", pure, "bfloat16", None) == []


def test_a_package_that_a_setting_needs_and_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = StageRecipe(
        max_steps=1,
        quant_method="bnb",
        quant_bits=4,
        attn_impl="flash_attn",
        deepspeed="zero2",
        extra={"use_liger_kernel": True},
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    told = package_problems("sft", stage, find_card("L4"))
    assert [text.partition(" is not")[0].rpartition(" ")[2] for text in told] == [
        "bitsandbytes",
        "deepspeed",
        "flash-attn",
        "liger-kernel",
    ]
    assert told[0] == (
        "stages.sft.quant_method bnb: bitsandbytes is not installed here: pip install bitsandbytes, or leave it out"
    )
    # Without a GPU, the last two are refused for that.
    assert len(package_problems("sft", stage, None)) == 2
    assert package_problems("sft", StageRecipe(max_steps=1), find_card("L4")) == []
