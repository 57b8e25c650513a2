"""One training of an old script in the making: fields, comments, and what a human has to decide."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from medllm_ops.models.families import Member
from medllm_ops.swift.migrate.calls import Argument, Call
from medllm_ops.swift.parameters_2024 import SUCCESSORS
from medllm_ops.swift.recipe import PreferenceRecipe, StageName, StageRecipe

NUMBERS = {name: number for number, name in enumerate(SUCCESSORS, start=1)}
# Recipe-wide, so the caller deals with them.
OF_THE_RECIPE = frozenset(
    {
        "dtype",
        "model",
        "model_cache_dir",
        "model_id_or_path",
        "model_revision",
        "model_type",
        "system",
        "template",
        "template_type",
        "torch_dtype",
        "use_hf",
    }
)


@dataclass(slots=True)
class Stage:
    """A stage in the making.

    :param comments: what stood there, by the field that it became.
    :param gone: what stood there and is no field.
    :param human: what somebody has to decide.
    """

    name: StageName
    call: Call
    member: Member | None
    fields: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, list[str]] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    human: list[str] = field(default_factory=list)

    @property
    def then(self) -> bool:
        """Whether the call is of ms-swift 1.x: today, model is required."""
        return "model" not in self.call.arguments

    @property
    def model(self) -> type[StageRecipe]:
        """What its fields have to agree with."""
        return PreferenceRecipe if self.name == "dpo" else StageRecipe

    @property
    def adapts(self) -> bool:
        """Whether it trains adapters."""
        return bool(self.fields.get("tuner_type", "lora") != "full")

    def put(self, name: str, value: Any, comment: str) -> None:
        """Set a field; the comment says where it comes from."""
        self.fields[name] = value
        self.comments.setdefault(name, []).append(comment)

    def put_extra(self, name: str, value: Any, comment: str) -> None:
        """Set an argument of ms-swift that has no field."""
        self.extra[name] = value
        self.comments.setdefault("extra", []).append(comment)

    def ask(self, argument: Argument, why: str) -> None:
        """Leave an argument to a human."""
        self.human.append(f"{self.call.file}, line {argument.line}: {described(argument)}: {why}")


SECRETS = ("_token", "_key", "_secret", "password")


def described(argument: Argument) -> str:
    """An argument as it stood there, with its number among the 27 if it is one of them; a secret is not repeated."""
    number = NUMBERS.get(argument.name)
    text = "(not repeated here)" if argument.name.endswith(SECRETS) else argument.text
    return f"{argument.name} = {text}" + (f" ({number} of 27: {SUCCESSORS[argument.name]})" if number else "")
