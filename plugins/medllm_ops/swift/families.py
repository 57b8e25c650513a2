"""What works of the model families with the packages that are installed: computed, never claimed.

Three things decide: what ms-swift itself requires of a model type, whether transformers has the class, and whether a
tiny twin was trained with just these versions (``trained.json``, written by the slow tests).
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.models.families import FILE, Member, known_member
from medllm_ops.models.resolve import RANDOM, is_made_here
from medllm_ops.swift.installed import installed, is_installed
from medllm_ops.swift.recipe import Recipe

RESULTS = FILE.with_name("trained.json")
_DECIDING = ("ms-swift", "transformers", "peft", "torch")


class Status(StrEnum):
    """How a member stands with the installed packages."""

    TRAINED = "trained here"
    NOT_PROVEN = "not proven with these versions"
    OTHER_ENVIRONMENT = "needs another environment"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "not known here"


@dataclass(frozen=True, slots=True)
class Standing:
    """A status and the sentence that gives its reason."""

    status: Status
    reason: str

    @property
    def refused(self) -> bool:
        """Whether nothing should be started with it."""
        return self.status in (Status.OTHER_ENVIRONMENT, Status.UNSUPPORTED)


def versions() -> dict[str, str]:
    """The versions that a result depends on, without build tags such as ``+cpu``."""
    return {name: Version(importlib.metadata.version(name)).public for name in _DECIDING}


def standing(member: Member) -> Standing:
    """How a member stands with the packages that are installed here.

    :raises MedllmError: if ms-swift is installed and cannot be imported.
    """
    if not is_installed():
        return Standing(Status.UNKNOWN, "ms-swift is not installed here")
    swift = importlib.metadata.version("ms-swift")
    known = registry()
    kind = known["types"].get(member.model_type)
    if kind is None:
        return Standing(Status.UNSUPPORTED, f"ms-swift {swift} has no model type {member.model_type}")
    requires = next((kind["requires"][model] for model in member.models if model in kind["requires"]), kind["general"])
    if unmet := [sentence for text in (*requires, *member.requires) if (sentence := unmet_requirement(text))]:
        return Standing(Status.OTHER_ENVIRONMENT, f"one with {', '.join(unmet)}")
    if not member.remote_code and member.architecture not in known["classes"]:
        return Standing(
            Status.UNSUPPORTED,
            f"transformers {importlib.metadata.version('transformers')} has no {member.architecture}",
        )
    return _recorded(member)


def _recorded(member: Member) -> Standing:
    results = results_by_key()
    result, here = results.get(member.key), versions()
    if result is None:
        own_code = "it brings code of its own, and " if member.remote_code else ""
        return Standing(Status.NOT_PROVEN, f"{own_code}no twin of it was trained")
    if different := [
        f"{name} {result['versions'].get(name)}" for name in here if result["versions"].get(name) != here[name]
    ]:
        return Standing(Status.NOT_PROVEN, f"a twin of it was trained with {', '.join(different)}")
    if failure := result.get("failure"):
        return Standing(Status.UNSUPPORTED, failure)
    return Standing(Status.TRAINED, "a tiny twin went through pretraining, merge, instruction tuning and merge")


def check_family(recipe: Recipe, model: str | None = None) -> Standing | None:
    """Refuse a recipe whose model cannot be trained with the packages that are installed here.

    :param model: in place of the recipe's own.
    :return: how the model stands, or None if no family has it.
    :raises MedllmError: with the reason, for models that need another environment or are not supported.
    """
    name = (model or recipe.model).removeprefix(RANDOM)
    member = None if is_made_here(name) else known_member(name, recipe.model_type, recipe.template)
    if member is None:
        return None
    found = standing(member)
    if found.refused:
        raise MedllmError(f"{name} {found.status.value}: {found.reason}")
    return found


def unmet_requirement(text: str) -> str | None:
    """A requirement as ms-swift writes it, with what is installed instead; None if it is met."""
    requirement = Requirement(text)
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{text} (not installed)"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{text} ({Version(version).public} is installed)"


def results_by_key() -> dict[str, dict[str, Any]]:
    """The recorded results of twins, by :attr:`Member.key`."""
    return dict(read_json(RESULTS)) if RESULTS.is_file() else {}


def record(key: str, result: dict[str, Any]) -> None:
    """Write one result into ``trained.json``, in place of an older one."""
    write_json(RESULTS, dict(sorted((results_by_key() | {key: result}).items())))


def registry() -> dict[str, Any]:
    """What ms-swift knows of the families' model types, and which of their classes transformers has.

    :raises MedllmError: if ms-swift is not installed or cannot be imported.
    """
    return dict(installed()["models"])
