"""Recipes: the stages of a training and their ms-swift 4.6 arguments, validated before anything starts."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from medllm_ops.errors import MedllmError
from medllm_ops.home import include
from medllm_ops.swift.parameters_2024 import SUCCESSORS
from medllm_ops.yaml_file import read_yaml

Scalar = bool | int | float | str
TunerType = Literal[
    "lora", "full", "longlora", "adalora", "llamapro", "adapter", "vera", "boft", "fourierft", "reft", "bone"
]
Scheduler = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
]
DEEPSPEED_NAMES = ("zero0", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")

# What the chain decides for every job: a recipe that sets one of them would break a promise of ours. Rows are counted,
# split, cut to length and mixed before ms-swift sees them, and every run ends at its last step.
OWNED_BY_THE_CHAIN = frozenset(
    {
        "adapters",
        "add_version",
        "cached_dataset",
        "cached_val_dataset",
        "check_model",
        "columns",
        "create_checkpoint_symlink",
        "custom_dataset_info",
        "data_seed",
        "dataset",
        "eval_strategy",
        "ignore_args_error",
        "ignore_data_skip",
        "interleave_prob",
        "lazy_tokenize",
        "load_args",
        "load_data_args",
        "load_from_cache_file",
        "loss_scale",
        "max_epochs",
        "model",
        "model_author",
        "model_name",
        "model_type",
        "output_dir",
        "predict_with_generate",
        "push_to_hub",
        "report_to",
        "resume_from_checkpoint",
        "resume_only_model",
        "save_only_model",
        "save_strategy",
        "split_dataset_ratio",
        "streaming",
        "strict",
        "system",
        "template",
        "torch_dtype",
        "truncation_strategy",
        "use_chat_template",
        "use_hf",
        "val_dataset",
    }
)
# Words of ms-swift 1.x that are taken for a module's name today, and fail once the model is loaded.
_MODULE_WORDS = {
    "ALL": "write all-linear",
    "AUTO": "list the modules, such as q_proj and v_proj",
    "DEFAULT": "list the modules, such as q_proj and v_proj",
    "EMBEDDING": "write all-embedding",
}


class StageRecipe(BaseModel):
    """The settings of one stage, under ms-swift's own names unless said otherwise."""

    # Strict: a text is no number, and neither is true.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tuner_type: TunerType = Field("lora", description="What is trained: adapters of a kind, or all weights (full).")
    lora_rank: int = Field(8, ge=1, le=1024, description="Rank of the LoRA matrices.")
    lora_alpha: int = Field(32, ge=1, le=4096, description="LoRA scale times rank.")
    lora_dropout: float = Field(0.05, ge=0, lt=1, description="Share of LoRA inputs dropped in training.")
    target_modules: list[str] = Field(["all-linear"], min_length=1, description="Module names that get adapters.")
    learning_rate: float = Field(1e-4, gt=0, le=0.01, description="Peak learning rate.")
    lr_scheduler_type: Scheduler = Field("cosine", description="Course of the learning rate, by transformers' name.")
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the rate rises.")
    weight_decay: float = Field(0.1, ge=0, lt=1, description="AdamW's weight decay.")
    num_train_epochs: float | None = Field(None, gt=0, le=1000, description="Passes over the rows.")
    max_steps: int | None = Field(None, gt=0, description="Optimizer steps; exactly one of steps and epochs.")
    per_device_train_batch_size: int = Field(1, ge=1, le=4096, description="Rows in a batch of one device.")
    per_device_eval_batch_size: int = Field(1, ge=1, le=4096, description="Likewise; no longer follows the train one.")
    gradient_accumulation_steps: int = Field(1, ge=1, le=4096, description="Batches in one optimizer step.")
    max_length: int | None = Field(
        None, gt=0, description="Most tokens of a row. Left out: the model's maximum. -1 is not unlimited."
    )
    eval_steps: int | None = Field(None, gt=0, description="Steps between evaluations; left out: at the end.")
    save_steps: int | None = Field(None, gt=0, description="Steps between checkpoints; left out: at the end.")
    save_total_limit: int | None = Field(
        2, ge=2, description="Checkpoints kept: the best and the last survive. With 1, the last is deleted at the end."
    )
    logging_steps: int = Field(5, ge=1, description="Steps between log lines.")
    seed: int = Field(42, ge=0, lt=2**32, description="Of initialisation, order and dropout.")
    gradient_checkpointing: bool = Field(True, description="Recompute activations: less memory, more time.")
    packing: bool = Field(False, description="Fill sequences with several rows; needs flash attention.")
    attn_impl: str | None = Field(None, description="Attention kernel, such as flash_attn.")
    deepspeed: str | None = Field(
        None, description="zero0 to zero3, zero2_offload, zero3_offload, or a file's absolute path."
    )
    checkpoint: Literal["best", "last"] = Field("last", description="Ours: which checkpoint is merged.")
    eval_rows: int = Field(
        0, ge=0, description="Ours: validation rows of each set scored on the way, the first ones; 0: all."
    )
    val_share: float = Field(0.1, gt=0, lt=1, description="Ours: share of each set's records for validation.")
    identity_rows: int = Field(0, ge=0, description="Ours: self-cognition rows in the mix, over both sides.")
    instruction_rows: int = Field(0, ge=0, description="Ours: instruction rows in the mix, over both sides.")
    instruction_sets: list[str] = Field(
        [], description="Ours: the sets they are drawn from, those of them that the run has; empty: all of sft."
    )
    extra: dict[str, Scalar | list[Scalar]] = Field({}, description="Any further ms-swift argument, by its name.")

    @field_validator("max_length", mode="before")
    @classmethod
    def _not_unlimited(cls, value: Any) -> Any:
        if value == -1:
            raise ValueError("-1 meant unlimited in ms-swift 1.x and drops every row today; leave max_length out")
        return value

    @field_validator("target_modules")
    @classmethod
    def _no_words_of_2024(cls, modules: list[str]) -> list[str]:
        for word in modules:
            if word in _MODULE_WORDS:
                raise ValueError(f"{word} is a word of ms-swift 1.x: {_MODULE_WORDS[word]}")
        return modules

    @field_validator("deepspeed")
    @classmethod
    def _name_or_file(cls, value: str | None) -> str | None:
        if value is not None and value not in DEEPSPEED_NAMES and not Path(value).is_absolute():
            raise ValueError(f"give one of {', '.join(DEEPSPEED_NAMES)}, or the absolute path of a configuration")
        return value

    @field_validator("extra")
    @classmethod
    def _known_traps(cls, extra: dict[str, Scalar | list[Scalar]]) -> dict[str, Scalar | list[Scalar]]:
        for name, value in extra.items():
            if value == []:
                raise ValueError(f"{name} has no value: leave it out")
        if isinstance(extra.get("freeze_parameters"), int | float):
            raise ValueError(f"freeze_parameters: {SUCCESSORS['freeze_parameters']}")
        if extra.get("lora_dtype", "float32") not in ("float16", "bfloat16", "float32"):
            raise ValueError(f"lora_dtype: {SUCCESSORS['lora_dtype']}")
        return extra

    @model_validator(mode="after")
    def _agree(self) -> StageRecipe:
        if (self.max_steps is None) == (self.num_train_epochs is None):
            raise ValueError("give exactly one of max_steps and num_train_epochs")
        if typed := sorted(set(self.extra) & set(type(self).model_fields)):
            raise ValueError(f"extra may not repeat {', '.join(typed)}: it is a field of its own")
        if owned := sorted(set(self.extra) & OWNED_BY_THE_CHAIN):
            raise ValueError(f"extra may not set {', '.join(owned)}: the chain decides it")
        if self.checkpoint == "best" and self.eval_steps != self.save_steps:
            raise ValueError("checkpoint best needs eval_steps equal to save_steps: only a scored one can be the best")
        if (self.packing or self.extra.get("padding_free")) and not (self.attn_impl or "").startswith("flash"):
            raise ValueError("packing and padding_free need attn_impl flash_attn: without it rows would see each other")
        return self


class Recipe(BaseModel):
    """A base model and the stages it goes through."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    description: str = ""
    model: str = Field(min_length=1, description="A folder, a hub id, or a model made here.")
    model_type: str | None = Field(None, description="ms-swift's family; left out: found by ms-swift.")
    template: str | None = Field(None, description="ms-swift's template; left out: the family's own.")
    torch_dtype: Literal["float32", "float16", "bfloat16"] | None = Field(None, description="Left out: the model's.")
    system: str | None = Field(None, description="System prompt; empty: none; left out: the template's own.")
    hub: Literal["modelscope", "huggingface"] = "modelscope"
    allow_remote_code: bool = Field(False, description="Let a local model folder bring Python code of its own.")
    enforce_gates: bool = Field(
        True, description="Fail the run where a gate does not pass; false only for test models."
    )
    stages: dict[Literal["pretrain", "sft", "self_cognition"], StageRecipe] = Field(min_length=1)


def list_recipes() -> dict[str, Path]:
    """The recipes that ship, by name."""
    return {path.stem: path for path in sorted((include() / "swift_configs").glob("*.yaml"))}


def load_recipe(name_or_path: str) -> Recipe:
    """Read and validate a recipe.

    :raises MedllmError: if there is none, or naming each field that is wrong and what is allowed.
    """
    recipes = list_recipes()
    path = recipes.get(name_or_path, Path(name_or_path))
    if not path.is_file():
        raise MedllmError(f"recipe {name_or_path!r} is neither a file nor one of {', '.join(recipes)}")
    try:
        values = read_yaml(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MedllmError(f"recipe {path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise MedllmError(f"recipe {path} is not a mapping")
    return _validate(values, str(path))


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
    try:
        # A key without a value is a key that was left out: ms-swift would read it as the word None.
        return Recipe.model_validate(_without_nulls(values))
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
        known = StageRecipe.model_fields if "stages" in location else Recipe.model_fields
        close = difflib.get_close_matches(name, list(known), n=1)
        hint = f"; did you mean {close[0]}?" if close else "; further ms-swift arguments go under extra"
        return f"{where} is unknown{hint}"
    if "extra" in location[:-1]:
        argument = ".".join(location[: location.index("extra") + 2])
        return f"{argument} must be a text, a number, true or false, or a list of them"
    if problem["type"] == "value_error":
        return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
    field = StageRecipe.model_fields.get(name) or Recipe.model_fields.get(name)
    about = f": {field.description}" if field and field.description else ""
    return f"{where}: {problem['msg']} (got {problem['input']!r}){about}"
