"""The GPUs of this host, by NVIDIA's own library through ``nvidia-smi``; declared slots where it shows none."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

import psutil

from medllm_ops.compute.settings import allowed_gpus, declared_slots
from medllm_ops.errors import MedllmError

ASK_SECONDS = 30
# What nvidia-smi answers without a GPU (6), without a driver (9) and without the library (12).
_NO_GPU = (6, 9, 12)


@dataclass(frozen=True, slots=True)
class Slot:
    """What a job that wants a GPU holds: a GPU, or a declared place where none can be seen.

    :param device: what ``CUDA_VISIBLE_DEVICES`` names it; None for a declared one.
    :param memory: in MiB; 0 if unknown. :param used: likewise.
    """

    name: str
    device: str | None = None
    model: str = ""
    memory: int = 0
    used: int = 0


def find_slots() -> list[Slot]:
    """All slots of this host.

    :raises MedllmError: if ``MEDLLM_GPUS`` names a GPU that is not there.
    """
    rows = _ask("--query-gpu=index,uuid,name,memory.total,memory.used")
    gpus = {int(row[0]): Slot(f"gpu-{row[0]}", row[1], row[2], _number(row[3]), _number(row[4])) for row in rows}
    allowed = allowed_gpus()
    if not gpus:
        return [Slot(f"slot-{number}") for number in range(declared_slots())]
    if allowed is None:
        return list(gpus.values())
    if missing := sorted(allowed - set(gpus)):
        raise MedllmError(f"MEDLLM_GPUS names GPU {missing[0]}, but this host has {', '.join(map(str, sorted(gpus)))}")
    return [gpus[number] for number in sorted(allowed)]


def holders() -> dict[str, list[str]]:
    """Which processes compute on each GPU: its device to sentences such as ``pid 123 (python)``."""
    found: dict[str, list[str]] = {}
    for device, pid, memory in _ask("--query-compute-apps=gpu_uuid,pid,used_memory"):
        try:
            name = psutil.Process(int(pid)).name()
        except (psutil.Error, ValueError):
            # In a container the driver tells the pids of the host.
            name = "of another container or user"
        found.setdefault(device, []).append(f"pid {pid} ({name}, {memory} MiB)")
    return found


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _ask(query: str) -> list[list[str]]:
    """The rows that ``nvidia-smi`` answers with; none if it is not there, or there is no driver or no GPU.

    :raises MedllmError: if it fails otherwise: then nobody knows which GPU is free.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASK_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MedllmError(f"nvidia-smi does not say what the GPUs do: {error}") from error
    if done.returncode in _NO_GPU:
        return []
    if done.returncode != 0:
        reason = (done.stdout + done.stderr).strip()[:200]
        raise MedllmError(f"nvidia-smi does not say what the GPUs do: exit code {done.returncode}: {reason}")
    return [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
