"""Recipes: the stages of a training and their ms-swift 4.6 arguments, validated before anything starts."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, ValidationError, field_validator, model_validator
from typing_extensions import TypedDict

from medllm_ops.errors import MedllmError
from medllm_ops.home import include
from medllm_ops.models.resolve import RANDOM, check_remote_code
from medllm_ops.swift.parameters_2024 import SUCCESSORS
from medllm_ops.swift.recipe_names import DEEPSPEED_NAMES, OWNED_BY_THE_CHAIN, Scalar, Scheduler, TunerType
from medllm_ops.swift.recipe_preference import PreferenceRecipe
from medllm_ops.swift.recipe_stage import StageRecipe
from medllm_ops.yaml_file import read_yaml, shortened

__all__ = [
    "DEEPSPEED_NAMES",
    "OWNED_BY_THE_CHAIN",
    "PreferenceRecipe",
    "Recipe",
    "Scalar",
    "Scheduler",
    "StageRecipe",
    "TunerType",
    "command_of",
    "contradicted",
    "is_ours",
    "list_recipes",
    "load_recipe",
    "override",
    "parse_recipe",
    "read_recipe",
    "recipe_file",
]

StageName = Literal["pretrain", "sft", "self_cognition", "dpo"]
_COMMANDS: dict[str, Literal["pt", "sft", "rlhf"]] = {
    "pretrain": "pt",
    "sft": "sft",
    "self_cognition": "sft",
    "dpo": "rlhf",
}


class _Stages(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    pretrain: StageRecipe
    sft: StageRecipe
    self_cognition: StageRecipe
    dpo: PreferenceRecipe


class Recipe(BaseModel):
    """A base model and the stages it goes through."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, description="What the recipe is called; that of a file that ships is its name.")
    description: str = Field("", description="What it is for, and what is known of it.")
    model: str = Field(
        min_length=1,
        description="A folder, a hub id, a model made here; random: before it takes its shape only.",
    )
    model_type: str | None = Field(None, description="ms-swift's family; left out: found by ms-swift.")
    template: str | None = Field(None, description="ms-swift's template; left out: the family's own.")
    torch_dtype: Literal["float32", "float16", "bfloat16"] | None = Field(None, description="Left out: the model's.")
    system: str | None = Field(None, description="System prompt; empty: none; left out: the template's own.")
    hub: Literal["modelscope", "huggingface"] = Field("modelscope", description="Where a hub id is fetched from.")
    remote_code: str | None = Field(
        None,
        pattern="^xxh3:[0-9a-f]{32}$",
        description="The hash of the Python code in the model's folder, which then may run; left out: none may.",
    )
    enforce_gates: bool = Field(
        True, strict=True, description="Fail the run where a gate does not pass; false only for test models."
    )
    stages: Annotated[dict[StageName, StageRecipe], GetPydanticSchema(lambda _, make: make(_Stages))] = Field(
        description="The stages by name, each with settings of its own."
    )

    @property
    def allow_remote_code(self) -> bool:
        """Whether the model's folder may bring Python code of its own: just the code of this hash."""
        return self.remote_code is not None

    @field_validator("name", "model")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("it is blank: give it a value")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Recipe:
        if not self.stages:
            raise ValueError("give at least one stage")
        if self.remote_code and not Path(self.model).is_absolute():
            raise ValueError(
                "remote_code needs a model that is an absolute path: a hub could send other code next time"
            )
        first, stage = next(iter(self.stages.items()))
        if self.model.startswith(RANDOM) and stage.tuner_type != "full":
            raise ValueError(f"random weights need tuner_type full in their first stage: {first} would adapt noise")
        for name, stage in self.stages.items():
            if wrong := contradicted(self.torch_dtype, stage.extra):
                raise ValueError(
                    f"stages.{name}.extra.{wrong} contradicts torch_dtype {self.torch_dtype}: leave {wrong} out, or "
                    "give another torch_dtype"
                )
        return self


def contradicted(torch_dtype: str | None, extra: Mapping[str, Any]) -> str | None:
    """The one of fp16 and bf16 that a stage switches on beside the other, which ms-swift takes from ``torch_dtype``."""
    for dtype, on, other in (("float16", "fp16", "bf16"), ("bfloat16", "bf16", "fp16")):
        if torch_dtype == dtype and extra.get(other) and extra.get(on) is not False:
            return other
    return None


def is_ours(name: str) -> bool:
    """Whether a field of a stage is no argument of ms-swift."""
    about = PreferenceRecipe.model_fields[name].json_schema_extra
    return isinstance(about, dict) and bool(about.get("ours"))


def command_of(stage: str) -> Literal["pt", "sft", "rlhf"]:
    """The command of ms-swift that trains a stage of this name."""
    return _COMMANDS[stage]


def list_recipes() -> dict[str, Path]:
    """The recipes that ship, by name."""
    return {path.stem: path for path in sorted((include() / "swift_configs").glob("*.yaml"))}


def recipe_file(name_or_path: str) -> Path:
    """The file of a recipe.

    :raises MedllmError: if there is none, with those that ship.
    """
    recipes = list_recipes()
    path = recipes.get(name_or_path, Path(name_or_path))
    if not path.is_file():
        raise MedllmError(f"recipe {name_or_path!r} is neither a file nor one of {', '.join(recipes)}")
    return path


def load_recipe(name_or_path: str) -> Recipe:
    """Read and validate a recipe that is to be run now.

    :raises MedllmError: as :func:`read_recipe`; also for a model folder whose code is not the code that the recipe
        allows.
    """
    recipe = read_recipe(name_or_path)
    if recipe.remote_code:
        check_remote_code(Path(recipe.model), recipe.remote_code)
    return recipe


def read_recipe(name_or_path: str) -> Recipe:
    """Read and validate a recipe; neither its files nor its model need to be there.

    :raises MedllmError: if there is none, or naming each field that is wrong and what is allowed.
    """
    path = recipe_file(name_or_path)
    try:
        values = read_yaml(path)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MedllmError(f"recipe {path} is not YAML: {error}") from error
    return parse_recipe(values, str(path))


def parse_recipe(values: Any, where: str) -> Recipe:
    """Validate what stands in a recipe.

    :raises MedllmError: naming each field that is wrong and what is allowed.
    """
    if not isinstance(values, dict):
        raise MedllmError(f"recipe {where} is not a mapping")
    return _validate(values, where)


def override(recipe: Recipe, stage: str, **values: Any) -> Recipe:
    """The recipe with some fields of one stage replaced; steps replace epochs, and epochs steps.

    :raises MedllmError: naming the field and what is allowed.
    """
    rows = recipe.model_dump(mode="json")
    if stage not in rows["stages"]:
        raise MedllmError(f"recipe {recipe.name} has no stage {stage}: it has {', '.join(rows['stages'])}")
    replaced = rows["stages"][stage]
    for one, other in (("max_steps", "num_train_epochs"), ("num_train_epochs", "max_steps")):
        if one in values:
            replaced[other] = None
    replaced |= values
    return _validate(rows, f"{recipe.name} with {values}")


def _validate(values: dict[str, Any], where: str) -> Recipe:
    stages = values.get("stages")
    if isinstance(stages, dict) and (empty := [str(name) for name, stage in stages.items() if stage is None]):
        # Left out like any key without a value, the stage would not be trained, and nobody would say so.
        raise MedllmError(f"recipe {where}: stages.{empty[0]} has no settings: give it some, or remove it")
    try:
        # A key without a value is a key that was left out: ms-swift would read it as the word None.
        return Recipe.model_validate(_without_nulls(values))
    except RecursionError as error:
        raise MedllmError(f"recipe {where} holds itself, or is nested too deeply") from error
    except ValidationError as error:
        # A value that fits no kind of a union is told once, not once a kind.
        problems = dict.fromkeys(_sentence(problem) for problem in error.errors())
        raise MedllmError(f"recipe {where}: {'; '.join(problems)}") from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _sentence(problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    where, name = ".".join(location) or "recipe", location[-1] if location else ""
    if problem["type"] == "extra_forbidden":
        if name in SUCCESSORS:
            return f"{where} is a name of ms-swift 1.x: {SUCCESSORS[name]}"
        if name in PreferenceRecipe.model_fields and name not in StageRecipe.model_fields and len(location) > 2:
            return f"{where} is a field of the stage dpo only"
        known = _names_at(location)
        close = difflib.get_close_matches(name, known, n=1)
        further = "further ms-swift arguments go under extra" if len(location) > 2 else f"there are {', '.join(known)}"
        hint = f"; did you mean {close[0]}?" if close else f"; {further}"
        return f"{where} is unknown{hint}"
    if "extra" in location[:-1]:
        argument = ".".join(location[: location.index("extra") + 2])
        return f"{argument} must be a text, a number, true or false, or a list of them"
    if problem["type"] == "value_error":
        return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
    field = PreferenceRecipe.model_fields.get(name) or Recipe.model_fields.get(name)
    about = f": {field.description}" if field and field.description else ""
    if problem["type"] == "missing":
        return f"{where} is missing{about}"
    return f"{where}: {problem['msg']} (got {shortened(problem['input'])}){about}"


def _names_at(location: list[str]) -> list[str]:
    """The names that there are at the place of a name that there is not."""
    if location[:-1] == ["stages"]:
        return list(_COMMANDS)
    if "stages" not in location:
        return list(Recipe.model_fields)
    return list((PreferenceRecipe if "dpo" in location[:2] else StageRecipe).model_fields)
