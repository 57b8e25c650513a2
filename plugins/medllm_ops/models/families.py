"""The six model families of the recipes: their members, types, templates, modules and sizes; no claims.

What works with the installed packages is computed elsewhere: :mod:`medllm_ops.swift.families`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medllm_ops.errors import MedllmError
from medllm_ops.yaml_file import read_yaml

FILE = Path(__file__).with_name("families.yaml")
Training = Literal["qlora", "lora", "full"]

# Bytes for each weight, without activations: 4 bits and their scales; bfloat16; bfloat16 weights and gradients with
# AdamW's two moments and a float32 copy.
BYTES_PER_WEIGHT: dict[Training, float] = {"qlora": 0.6, "lora": 2.0, "full": 16.0}


class Member(BaseModel):
    """Models of one kind: they share ms-swift's model type and template."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model_type: str = Field(min_length=1, description="ms-swift's model type.")
    template: str = Field(min_length=1, description="ms-swift's template.")
    models: dict[str, float | None] = Field(min_length=1, description="ModelScope ids, with billions of parameters.")
    architecture: str = Field(min_length=1, description="The class that the model's config.json names.")
    attention: list[str] = Field(min_length=1, description="The modules that DEFAULT meant in ms-swift 1.x.")
    target_modules: list[str] = Field(["all-linear"], min_length=1, description="What adapters can be trained on here.")
    remote_code: bool = Field(False, description="The model's folder brings Python code of its own.")
    listed: bool = Field(True, description="ms-swift lists the ids; otherwise a recipe names type and template.")
    requires: list[str] = Field([], description="Packages that it needs beside those that ms-swift asks for.")
    note: str = Field("", description="What else a user must know.")
    twin: dict[str, Any] = Field({}, description="What the twin's configuration needs beside small sizes.")
    twin_tokens: list[str] = Field([], description="Special tokens that the template cannot do without.")

    @property
    def name(self) -> str:
        """The name of the member: its newest, or largest, model."""
        return next(reversed(self.models))

    @property
    def key(self) -> str:
        """What a recorded result belongs to: models that differ in nothing else train alike."""
        return f"{self.model_type}/{self.template}/{self.architecture}"

    def gigabytes(self, model: str, training: Training) -> float | None:
        """Memory for the weights and what belongs to each of them, in GB (10^9 bytes), without activations."""
        billions = self.models[model]
        return None if billions is None else billions * BYTES_PER_WEIGHT[training]


class Family(BaseModel):
    """A family, its oldest member first."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    title: str
    members: list[Member] = Field(min_length=1)


@cache
def families() -> dict[str, Family]:
    """The families by name."""
    return {name: Family.model_validate(values) for name, values in read_yaml(FILE).items()}


def members() -> list[Member]:
    """The members of all families."""
    return [member for family in families().values() for member in family.members]


def find_member(model: str) -> Member:
    """The member that a model id belongs to, or the last one of a model type.

    :raises MedllmError: with the families there are.
    """
    member = known_member(model)
    if member is None:
        raise MedllmError(f"{model!r} is in none of the families {', '.join(families())}: see docs/families.md")
    return member


def known_member(model: str, model_type: str | None = None, template: str | None = None) -> Member | None:
    """The member that a recipe's model belongs to, or None if no family has it.

    :param model: a model id of either hub, or a folder's path: its last part decides.
    :param model_type: as in a recipe; for models whose name tells nothing.
    :param template: likewise.
    """
    wanted = _last_part(model)
    for member in members():
        if wanted in map(_last_part, member.models):
            return member
    kind = model_type or model
    fitting = [each for each in members() if each.model_type == kind and template in (None, each.template)]
    return fitting[-1] if fitting else None


def model_of_2024(name: str) -> str | None:
    """The model id behind a model type of ms-swift 1.x, such as ``qwen_14b_chat`` or ``internlm-20b-chat``.

    There, the type was the model's name in small letters, its parts in an order of their own.
    """
    models = {model: _parts(_last_part(model)) for member in members() for model in member.models}
    # Some types said chat where the model's name does not, or left out the base that it has.
    for of_the_model, of_the_type in ([], []), (["chat"], []), ([], ["base"]):
        wanted = sorted([*_parts(name), *of_the_type])
        for model, parts in models.items():
            if sorted([*parts, *of_the_model]) == wanted:
                return model
    return None


def _last_part(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1].lower()


def _parts(name: str) -> list[str]:
    return sorted(part for part in re.split(r"[-_.]", name.lower()) if part)
