"""All that can be said of a recipe without its model, its data and a GPU."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from medllm_ops.errors import MedllmError
from medllm_ops.models.families import Member, known_member
from medllm_ops.models.resolve import RANDOM, is_made_here
from medllm_ops.swift.arguments import check_arguments
from medllm_ops.swift.families import Status, registry, standing
from medllm_ops.swift.installed import is_installed
from medllm_ops.swift.lora import what_no_proof_is_for
from medllm_ops.swift.recipe import Recipe, StageRecipe, command_of, is_ours
from medllm_ops.swift.zero_config import check_deepspeed

NO_PROOF = "what it trains cannot be merged with proof, and a run merges every stage: take plain lora, or full"


@dataclass(frozen=True, slots=True)
class Checked:
    """A recipe that holds, and what a user should know of it nevertheless."""

    recipe: Recipe
    notes: tuple[str, ...]


def check_recipe(recipe: Recipe) -> Checked:
    """Hold a recipe against the installed ms-swift: names, values, model type and template.

    Nothing is fetched, and neither files nor the model need to be there. Where ms-swift is not installed, a note says
    what was left unchecked.

    :raises MedllmError: naming each argument that ms-swift would refuse, or that a merge would fail for.
    """
    notes: list[str] = []
    for name, stage in recipe.stages.items():
        if what := what_no_proof_is_for(stage.tuner_type, stage.extra):
            raise MedllmError(f"recipe {recipe.name}: stages.{name}: {what}: {NO_PROOF}")
    _check_longlora(recipe)
    if not is_installed():
        return Checked(recipe, ("ms-swift is not installed here: its names and values were not checked",))
    for name, stage in recipe.stages.items():
        try:
            check_arguments(command_of(name), swift_arguments(stage))
        except MedllmError as error:
            raise MedllmError(f"recipe {recipe.name}: stages.{name}: {error}") from error
        notes += [f"stages.{name}: {note}" for note in _notes(stage)]
    notes += check_deepspeed(recipe)
    _check_family_names(recipe)
    return Checked(recipe, (*notes, *_model_notes(recipe)))


def swift_arguments(stage: StageRecipe) -> dict[str, object]:
    """The arguments of a stage that are ms-swift's own, by name, as far as they have a value."""
    ours = {name for name in type(stage).model_fields if is_ours(name)}
    return stage.model_dump(mode="json", exclude=ours, exclude_none=True) | stage.extra


def _notes(stage: StageRecipe) -> list[str]:
    notes = []
    if stage.tuner_type == "full" and stage.learning_rate > 5e-4:
        notes.append(f"learning_rate {stage.learning_rate:g} is high for all weights; 1e-5 is usual")
    if stage.checkpoint == "best" and not stage.eval_steps:
        notes.append("checkpoint best has one checkpoint to choose from: eval_steps and save_steps are left out")
    return notes


def _check_longlora(recipe: Recipe) -> None:
    """Refuse what ends in an assertion of ms-swift, which has longlora's attention for llama only."""
    member = _member(recipe)
    kind = recipe.model_type or (member.model_type if member else None)
    stages = [name for name, stage in recipe.stages.items() if stage.tuner_type == "longlora"]
    if stages and kind is not None and "llama" not in kind:
        raise MedllmError(
            f"recipe {recipe.name}: stages.{stages[0]}.tuner_type longlora is for models of type llama, and "
            f"{recipe.model} is of type {kind}: take lora"
        )


def _member(recipe: Recipe) -> Member | None:
    name = recipe.model.removeprefix(RANDOM)
    return None if is_made_here(name) else known_member(name, recipe.model_type, recipe.template)


def _check_family_names(recipe: Recipe) -> None:
    known = registry()
    for what, value, names in (
        ("model_type", recipe.model_type, known["model_types"]),
        ("template", recipe.template, known["templates"]),
    ):
        if value is not None and value not in names:
            close = difflib.get_close_matches(value, names, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise MedllmError(f"recipe {recipe.name}: ms-swift knows no {what} {value}{hint}")


def _model_notes(recipe: Recipe) -> list[str]:
    notes = []
    member = _member(recipe)
    if member is not None:
        found = standing(member)
        notes.append(f"model {recipe.model}: {found.status.value} ({found.reason})")
        if member.remote_code and recipe.remote_code is None and found.status is not Status.UNSUPPORTED:
            notes.append("the model brings Python code of its own: a run needs its folder as model, and remote_code")
    return notes
