"""What nvidia-smi says, by a program of that name that we wrote: there is no GPU here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from medllm_ops.compute import gpus
from medllm_ops.compute.settings import declared_slots, trainer_mode
from medllm_ops.errors import MedllmError

TWO = """
case "$1" in
--query-gpu*) printf '0, GPU-aaa, NVIDIA H100 80GB HBM3, 81559, 4\\n1, GPU-bbb, NVIDIA H100 80GB HBM3, 81559, 900\\n';;
*) printf 'GPU-bbb, {pid}, 896\\nGPU-bbb, 4000000, [N/A]\\n';;
esac
"""


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a program of that name into the path."""

    def write(script: str) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return write


def test_gpus_are_slots_with_their_memory(nvidia_smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(TWO.replace("{pid}", str(os.getpid())))
    first, second = gpus.find_slots()
    assert (first.name, first.device, first.memory, first.used) == ("gpu-0", "GPU-aaa", 81559, 4)
    assert second.device == "GPU-bbb"
    monkeypatch.setenv("MEDLLM_GPUS", "1")
    assert gpus.find_slots() == [second]
    monkeypatch.setenv("MEDLLM_GPUS", "1,7")
    with pytest.raises(MedllmError, match="MEDLLM_GPUS names GPU 7, but this host has 0, 1"):
        gpus.find_slots()
    monkeypatch.setenv("MEDLLM_GPUS", "first")
    with pytest.raises(MedllmError, match="MEDLLM_GPUS=first: numbers with commas"):
        gpus.find_slots()


def test_who_computes_is_named(nvidia_smi: Callable[[str], None]) -> None:
    nvidia_smi(TWO.replace("{pid}", str(os.getpid())))
    ours, others = gpus.holders()["GPU-bbb"]
    assert ours.startswith(f"pid {os.getpid()} (")
    assert others == "pid 4000000 (of another container or user, [N/A] MiB)"


@pytest.mark.parametrize("script", ["exit 9", "exit 6", "exit 12"])
def test_without_a_gpu_slots_are_declared(
    nvidia_smi: Callable[[str], None], script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(script)
    assert [slot.name for slot in gpus.find_slots()] == ["slot-0"]
    monkeypatch.setenv("MEDLLM_SLOTS", "2")
    assert [slot.name for slot in gpus.find_slots()] == ["slot-0", "slot-1"]
    assert gpus.find_slots()[0].device is None
    assert gpus.holders() == {}


def test_a_driver_that_fails_is_no_host_without_gpus(nvidia_smi: Callable[[str], None]) -> None:
    nvidia_smi("echo Unable to determine the device handle; exit 255")
    with pytest.raises(MedllmError, match="exit code 255: Unable to determine the device handle"):
        gpus.find_slots()


def test_settings_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trainer_mode() == "on-demand"
    for name, value in (("MEDLLM_SLOTS", "0"), ("MEDLLM_SLOTS", "many"), ("MEDLLM_SLOTS", "65")):
        monkeypatch.setenv(name, value)
        with pytest.raises(MedllmError, match=f"MEDLLM_SLOTS={value}"):
            declared_slots()
    monkeypatch.setenv("MEDLLM_TRAINER", "service")
    assert trainer_mode() == "service"
    monkeypatch.setenv("MEDLLM_TRAINER", "sometimes")
    with pytest.raises(MedllmError, match="it is on-demand or service"):
        trainer_mode()
