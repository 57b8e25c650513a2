"""Hold a migrated stage against the model of recipes: what no recipe may hold is left to a human."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from medllm_ops.errors import MedllmError
from medllm_ops.swift.arguments import check_arguments
from medllm_ops.swift.check import NO_PROOF
from medllm_ops.swift.lora import what_no_proof_is_for
from medllm_ops.swift.migrate.stage import Stage
from medllm_ops.swift.recipe import StageRecipe, command_of, contradicted

_CONFLICTING = (
    "checkpoint",
    "packing",
    "quant_bits",
    "quant_method",
    "ref_model",
    "rpo_alpha",
    "desirable_weight",
    "undesirable_weight",
)


def fit(stage: Stage) -> None:
    """Take out what no recipe may hold, and leave it to a human."""
    for _ in range(len(stage.fields) + len(stage.extra) + 2):
        values = {name: value for name, value in stage.fields.items() if value is not None}
        problems = _problems(stage.model, values | ({"extra": stage.extra} if stage.extra else {}))
        if not problems:
            break
        for place, why in problems:
            _take_out(stage, place, why)
    tuner = str(stage.fields.get("tuner_type", "lora"))
    if what_no_proof_is_for(tuner, {}):
        _take_out(stage, "tuner_type", NO_PROOF)
    for name, value in list(stage.extra.items()):
        if what_no_proof_is_for("lora", {name: value}) and tuner != "full":
            _take_out(stage, f"extra.{name}", NO_PROOF)
            continue
        try:
            check_arguments(command_of(stage.name), {name: value})
        except MedllmError as error:
            _take_out(stage, f"extra.{name}", str(error))


def leave_out_contradicted(stage: Stage, torch_dtype: str | None) -> None:
    """Take out a precision that the recipe's own contradicts."""
    if wrong := contradicted(torch_dtype, stage.extra):
        _take_out(stage, f"extra.{wrong}", f"it contradicts torch_dtype {torch_dtype}")


def _problems(kind: type[StageRecipe], values: dict[str, Any]) -> list[tuple[str, str]]:
    try:
        kind.model_validate(values)
    except ValidationError as error:
        found: dict[str, str] = {}
        for problem in error.errors():
            place = ".".join(map(str, problem["loc"][: 2 if problem["loc"][:1] == ("extra",) else 1]))
            found.setdefault(place, problem["msg"].removeprefix("Value error, "))
        return list(found.items())
    return []


def _take_out(stage: Stage, place: str, why: str) -> None:
    if place == "":
        place = next((name for name in _CONFLICTING if name in stage.fields), "extra")
    if place.startswith("extra"):
        # The reason names what is wrong, unless it is the whole of it.
        words = re.findall(r"\w+", place if "." in place else why)
        blamed = [name for name in stage.extra if name in words] or list(stage.extra)
        for name in blamed:
            value = stage.extra.pop(name)
            stage.human.append(f"{stage.call.place}: {name} {value!r} is not in the recipe: {why}")
        return
    told = "; ".join(stage.comments.pop(place, [])) or place
    stage.human.append(
        f"{stage.call.place}: {place} {stage.fields.pop(place, None)!r} is not in the recipe ({told}): {why}"
    )
    if place in ("num_train_epochs", "max_steps") and not {"num_train_epochs", "max_steps"} & set(stage.fields):
        stage.put("num_train_epochs", 1.0, "what stood there cannot be used")
    stage.fields.pop("quant_method" if place == "quant_bits" else "", None)
    stage.fields.pop("quant_bits" if place == "quant_method" else "", None)
