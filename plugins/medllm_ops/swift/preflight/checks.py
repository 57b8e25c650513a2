"""What this host and the data say: GPUs, ports, disk, memory, hashes, licences. Each finding is one sentence."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import psutil

from medllm_ops.compute.gpus import find_slots, holders
from medllm_ops.compute.lease import Leases
from medllm_ops.compute.ports import LOOPBACK, check_port_free
from medllm_ops.compute.spool import Spool
from medllm_ops.curation.settings import LicenceSettings
from medllm_ops.curation.write.licences import check_licences
from medllm_ops.datasets.licences import duties, licences_of_sources
from medllm_ops.errors import MedllmError
from medllm_ops.swift.preflight.cards import Card, card_of
from medllm_ops.swift.preflight.memory import GIBI
from medllm_ops.swift.recipe import StageRecipe

# The module of each library that packs weights, and what to install for it.
_QUANTISERS = {
    "bnb": ("bitsandbytes", "bitsandbytes"),
    "hqq": ("hqq", "hqq"),
    "eetq": ("eetq", "eetq"),
    "quanto": ("optimum", "optimum-quanto"),
}


def host_card() -> Card | None:
    """The smallest GPU of this host that jobs may have; None without any.

    :raises MedllmError: if nobody can tell.
    """
    found = [card for slot in find_slots() if (card := card_of(slot))]
    return min(found, key=lambda card: card.memory) if found else None


def gpus_free(wanted: int) -> tuple[list[str], list[str]]:
    """Problems and warnings about this host's GPUs: there must be enough, and it is better if they are free.

    :raises MedllmError: if nobody can tell which are free.
    """
    slots, busy = find_slots(), holders()
    gpus = [slot for slot in slots if slot.device]
    if len(slots) < wanted:
        what = f"this host has {len(gpus)}" if gpus else f"MEDLLM_SLOTS declares {len(slots)} without any"
        return [f"{wanted} GPUs are wanted, and {what}: lower gpus in the recipe, or give other ones"], []
    held = Leases(Spool().folder / "leases").held()
    taken = [f"{slot.name} by job {held[slot.name].job}" for slot in slots if slot.name in held]
    taken += [f"{slot.name} by {', '.join(busy[slot.device])}" for slot in gpus if slot.device and slot.device in busy]
    free = len(slots) - len({text.partition(" ")[0] for text in taken})
    if free < wanted and taken:
        return [], [f"{wanted} wanted, {free} free: {'; '.join(taken)}: the job waits until they are given back"]
    return [], []


def port_problem(port: int, host: str = LOOPBACK) -> str | None:
    """Why a port cannot be listened on, or None."""
    try:
        check_port_free(host, port)
    except MedllmError as error:
        return f"{error}; end what listens there, or name another one"
    return None


def disk_problem(needed: float, folder: Path) -> str | None:
    """Why a folder has no room for so many bytes, or None."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed <= free:
        return None
    return (
        f"checkpoints, tokenised rows and merged models need {needed / GIBI:.1f} GiB on disk, {there} has "
        f"{free / GIBI:.1f} free: lower save_total_limit, raise save_steps, or make room (MEDLLM_HOME)"
    )


def host_memory() -> tuple[float, float]:
    """GiB of this host: all, and free."""
    memory = psutil.virtual_memory()
    return memory.total / GIBI, memory.available / GIBI


def device_problems(name: str, stage: StageRecipe, dtype: str | None, card: Card | None) -> list[str]:
    """What a stage asks for that its device cannot do."""
    where = f"stages.{name}"
    if card is not None:
        if dtype == "bfloat16" and not card.bfloat16:
            return [f"torch_dtype bfloat16: {card.name} has no tensor cores for it: give float16"]
        if (stage.attn_impl or "").startswith("flash") and not card.bfloat16:
            return [f"{where}.attn_impl {stage.attn_impl}: {card.name} is too old for it: give sdpa, and no packing"]
        return []
    asked = {
        # transformers refuses mixed precision without a GPU.
        f"extra.{name} true": bool(stage.extra.get(name))
        for name in ("bf16", "fp16")
    } | {
        f"attn_impl {stage.attn_impl}": (stage.attn_impl or "").startswith("flash"),
        # bitsandbytes has kernels for processors; the other libraries have none.
        f"quant_method {stage.quant_method}": stage.quant_method not in (None, "bnb"),
        "extra.use_liger_kernel true": bool(stage.extra.get("use_liger_kernel")),
    }
    # Half precision weights make ms-swift switch it on, unless the recipe says otherwise.
    mixed = {"bfloat16": "bf16", "float16": "fp16"}.get(dtype or "")
    on = mixed is not None and stage.extra.get(mixed) is not False
    half = [f"torch_dtype {dtype}: that needs a GPU, and there is none here: give float32"] if on else []
    return half + [
        f"{where}.{what}: that needs a GPU, and there is none here: leave it out"
        for what, is_set in asked.items()
        if is_set
    ]


def package_problems(name: str, stage: StageRecipe, card: Card | None) -> list[str]:
    """Packages that a stage's settings need on the host that trains, and that are not installed here.

    What needs a GPU anyway is left to :func:`device_problems` where there is none.
    """
    where = f"stages.{name}"
    wanted: dict[str, tuple[str, str] | None] = {
        f"{where}.quant_method {stage.quant_method}": _QUANTISERS.get(stage.quant_method or ""),
        f"{where}.deepspeed {stage.deepspeed}": ("deepspeed", "deepspeed") if stage.deepspeed else None,
    }
    if card is not None:
        flash = (stage.attn_impl or "").startswith(("flash_attn", "flash_attention_2"))
        wanted[f"{where}.attn_impl {stage.attn_impl}"] = ("flash_attn", "flash-attn") if flash else None
        liger = bool(stage.extra.get("use_liger_kernel"))
        wanted[f"{where}.extra.use_liger_kernel true"] = ("liger_kernel", "liger-kernel") if liger else None
    return [
        f"{what}: {package[1]} is not installed here: pip install {package[1]}, or leave it out"
        for what, package in wanted.items()
        if package and importlib.util.find_spec(package[0]) is None
    ]


def licence_findings(
    sources: Mapping[str, Any], settings: LicenceSettings, used: Collection[str] | None = None
) -> tuple[list[str], list[str]]:
    """Problems and warnings about the licences of the rows that are trained on.

    :param sources: of a curated dataset's manifest: for each ``licences``, how many rows stand under each.
    :param used: the sources that are trained on; None: all.
    """
    chosen = {name: row for name, row in sources.items() if used is None or name in used}
    known = licences_of_sources()
    counts: dict[str, dict[str, int]] = {}
    for name, row in chosen.items():
        counts[name] = {}
        for licence, rows in row.get("licences", {}).items():
            told = licence or known.get(name, "")
            counts[name][told] = counts[name].get(told, 0) + rows
    problems = []
    try:
        check_licences(counts, settings)
    except MedllmError as error:
        problems.append(str(error))
    unknown = [f"{name} ({rows['']:,} rows)" for name, rows in sorted(counts.items()) if rows.get("")]
    warnings = []
    if unknown and not problems:
        warnings.append(
            f"nothing is known of the licences of {', '.join(unknown)}: what comes of them is yours to answer for"
        )
    for name, duty in duties(chosen).items():
        if duty["terms"]:
            warnings.append(f"{name}: {duty['terms'].strip()}")
    return problems, warnings
