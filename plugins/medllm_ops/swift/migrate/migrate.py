"""From scripts of ms-swift 1.x to a recipe: nothing of them is executed, and nothing in them is lost unseen."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import write_whole
from medllm_ops.models.families import Member, known_member, model_of_2024
from medllm_ops.swift.families import registry
from medllm_ops.swift.installed import is_installed
from medllm_ops.swift.migrate import rules
from medllm_ops.swift.migrate.calls import Argument, Call, Script
from medllm_ops.swift.migrate.fit import leave_out_contradicted
from medllm_ops.swift.migrate.python_script import read_python
from medllm_ops.swift.migrate.shell_script import read_shell
from medllm_ops.swift.migrate.stage import OF_THE_RECIPE, described
from medllm_ops.swift.migrate.translate import translate_stage
from medllm_ops.swift.migrate.write import write_recipe
from medllm_ops.swift.recipe import Recipe, StageName, parse_recipe
from medllm_ops.yaml_file import read_yaml_text

_PRETRAINING = re.compile(r"(?:^|[^a-z])(?:pt|pre_?train(?:ing)?|cpt)(?:[^a-z]|$)")
_IDENTITY = re.compile(r"self_?cogn|identity|cognition")
_ORDER: tuple[StageName, ...] = ("pretrain", "sft", "self_cognition", "dpo")


@dataclass(frozen=True, slots=True)
class Migrated:
    """A recipe made of old scripts.

    :param text: the recipe with its comments.
    :param human: what somebody has to decide; it stands in the recipe too.
    """

    recipe: Recipe
    text: str
    human: tuple[str, ...]


def migrate_files(files: Sequence[Path], out: Path) -> Migrated:
    """Migrate scripts and write the recipe to ``out``, whole or not at all.

    :raises MedllmError: if a file cannot be read, none of them trains anything, or ``out`` is there already.
    """
    if out.exists():
        raise MedllmError(f"{out} is there already: name another file")
    scripts = []
    for file in files:
        try:
            scripts.append((file.name, _read_text(file)))
        except (OSError, UnicodeDecodeError, SyntaxError) as error:
            raise MedllmError(f"{file} cannot be read as text: {error}") from error
    migrated = migrate(scripts, out.stem)
    with write_whole(out) as target:
        target.write(migrated.text.encode())
    return migrated


def _read_text(file: Path) -> str:
    """The text of a script, without a mark at its beginning; a Python script may name another encoding (PEP 263)."""
    if file.suffix == ".py":
        with tokenize.open(file) as script:
            return script.read()
    return file.read_text(encoding="utf-8-sig")


def migrate(scripts: Sequence[tuple[str, str]], name: str) -> Migrated:
    """Migrate scripts that belong to one chain.

    :param scripts: names and texts; what ends in ``.py`` is Python, everything else a shell's.
    :param name: the recipe's.
    :raises MedllmError: if a script cannot be read, or none of them trains anything.
    """
    script = _read(scripts)
    human = list(script.leftovers)
    trainings = [call for call in script.calls if call.kind in ("pretrain", "train", "align")]
    if not trainings:
        found = "; ".join(f"{call.name} in line {call.line}: {_today(call)}" for call in script.calls)
        files = ", ".join(file for file, _ in scripts)
        left = f"; to be read: {'; '.join(script.leftovers)}" if script.leftovers else ""
        raise MedllmError(f"{files}: no training of ms-swift is in it; {found or 'nor anything else of it'}{left}")
    calls = _stages(trainings, human)
    values, comments = _recipe_values(calls, human)
    member = known_member(str(values["model"]), values.get("model_type"), values.get("template"))
    stages = [translate_stage(stage, calls[stage], member) for stage in _ORDER if stage in calls]
    for stage in stages:
        leave_out_contradicted(stage, values.get("torch_dtype"))
    if member and member.remote_code:
        human.append(f"{values['model']} brings Python code of its own: model has to be its folder, see remote_code")
    for stage in stages:
        human += stage.human
    others = [
        f"{call.place}: {call.name}({', '.join(map(described, call.arguments.values()))}): {_today(call)}"
        for call in script.calls
        if call.kind in rules.TODAY
    ]
    description = f"Made of {', '.join(dict.fromkeys(file for file, _ in scripts))} by medllm-ops recipe migrate."
    head = {"name": name or "migrated", "description": description, **values}
    text = write_recipe(head, comments, stages, others, human)
    return Migrated(parse_recipe(read_yaml_text(text), name), text, tuple(human))


def _today(call: Call) -> str:
    """What does the work of a call that is no training."""
    merges = any(call.arguments[name].value is True for name in rules.MERGING if name in call.arguments)
    return rules.TODAY["merge" if merges else call.kind]


def _read(scripts: Sequence[tuple[str, str]]) -> Script:
    whole = Script()
    for file, text in scripts:
        read = read_python if file.endswith(".py") else read_shell
        found = read(text, file)
        whole.calls += found.calls
        whole.leftovers += found.leftovers
    return whole


def _stages(trainings: Sequence[Call], human: list[str]) -> dict[StageName, Call]:
    """Which training is which stage."""
    calls: dict[StageName, Call] = {}
    for call in trainings:
        stage, sure = _stage_of(call)
        if stage in calls:
            told = "; ".join(described(argument) for argument in call.arguments.values())
            human.append(f"{call.place}: a second training for stage {stage} is not in the recipe: {told}")
            continue
        if not sure:
            human.append(f"{call.place}: nothing says which stage it is, so it is taken for {stage}")
        calls[stage] = call
    return calls


def _stage_of(call: Call) -> tuple[StageName, bool]:
    if call.kind == "pretrain":
        return "pretrain", True
    if call.kind == "align":
        return "dpo", True
    identity = call.arguments.get("self_cognition_sample")
    if identity and identity.value not in (0, None, False):
        return "self_cognition", True
    named = " ".join(
        [call.file, *call.hints, *(call.arguments[name].text for name in ("output_dir",) if name in call.arguments)]
    ).lower()
    if _IDENTITY.search(named):
        return "self_cognition", True
    data = [call.arguments[name].text for name in ("custom_train_dataset_path", "dataset") if name in call.arguments]
    if _PRETRAINING.search(named) or _PRETRAINING.search(" ".join(data).lower()):
        return "pretrain", True
    return "sft", bool(re.search(r"sft|instruct|chat", named))


def _recipe_values(calls: dict[StageName, Call], human: list[str]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """What holds for all stages: the first one's, because the later ones start from what was merged before."""
    values: dict[str, Any] = {"model": "name-a-model-here"}
    comments: dict[str, list[str]] = {}
    first = next(calls[stage] for stage in _ORDER if stage in calls)
    for call in sorted(calls.values(), key=lambda each: each is not first):
        arguments = {name: call.arguments[name] for name in sorted(OF_THE_RECIPE) if name in call.arguments}
        for argument in arguments.values():
            _recipe_value(argument, call, first, values, comments, human)
    talking = [call for stage, call in calls.items() if stage != "pretrain"]
    if "system" in values and any("system" not in call.arguments for call in talking):
        human.append(f"system {values['system']!r} was said for some stages only; in a recipe it holds for all")
    if "model" not in comments:
        human.append(f"{first.place}: no model is said that can be read: set model")
    return values, comments


def _recipe_value(
    argument: Argument,
    call: Call,
    first: Call,
    values: dict[str, Any],
    comments: dict[str, list[str]],
    human: list[str],
) -> None:
    place = f"{call.file}, line {argument.line}: {described(argument)}"
    if not argument.readable or argument.value is None or argument.value == []:
        human.append(f"{place}: it says nothing that a recipe can hold")
        return
    if argument.value == "AUTO" and argument.name in ("dtype", "torch_dtype", "template", "template_type"):
        comments.setdefault("description", []).append(f"{described(argument)}: left out, which means the same")
        return
    found = _recipe_fields(argument, call)
    if not found:
        human.append(f"{place}: see model, model_type and template of the recipe")
    is_first = call is first
    theirs = _model_types(first)
    if argument.name == "model_type" and theirs and theirs != _model_types(call):
        # A merged model keeps the type of the one that it was made of.
        human.append(f"{place}: {first.place} has another model, and a recipe has one")
        return
    for name, value in found.items():
        # A folder counts before the type that said what is in it; a template that is said counts before the type's own.
        said = argument.name == name or (name, argument.name) == ("template", "template_type")
        if (is_first or name == "system") and (name not in comments or (said and is_first)):
            values[name] = value
            comments.setdefault(name, []).append(described(argument))
        elif is_first or values.get(name) == value:
            comments.setdefault(name, []).append(f"{call.place}: {described(argument)}")
        elif name in ("model", "model_type", "template"):
            comments.setdefault(name, []).append(f"{call.place} started from the merged model: {described(argument)}")
        else:
            human.append(f"{place}: the first stage says {values.get(name)!r}, and a recipe has one {name}")


def _recipe_fields(argument: Argument, call: Call) -> dict[str, Any]:
    name, value = argument.name, argument.value
    if name == "model_type":
        return _model_type(str(value), today="model" in call.arguments)
    if name in ("model", "model_id_or_path", "model_cache_dir"):
        return ({"model": str(value)} if value else {}) | _of_member(known_member(str(value)))
    if name in ("template_type", "template"):
        template = rules.TEMPLATES.get(str(value), str(value))
        return {"template": template} if template and _is_known("templates", template) else {}
    if name in ("dtype", "torch_dtype"):
        return {"torch_dtype": rules.DTYPES[str(value)]} if str(value) in rules.DTYPES else {}
    if name == "use_hf":
        return {"hub": "huggingface" if value is True else "modelscope"}
    return {"system": str(value)} if name == "system" else {}


def _model_types(call: Call) -> set[str]:
    """The model type of a call as the registry writes it; of a call without one, nothing."""
    argument = call.arguments.get("model_type")
    return {str(argument.value).lower().replace("-", "_")} if argument and argument.readable else set()


def _model_type(value: str, *, today: bool) -> dict[str, Any]:
    """A model type of 1.x was a model's name; one of today is a family."""
    if today:
        return {"model_type": value} if _is_known("model_types", value) else {}
    model = model_of_2024(value)
    if model is None:
        return {}
    return {"model": model} | _of_member(known_member(model))


def _is_known(what: str, name: str) -> bool:
    """Whether the installed ms-swift knows a name; where it is not installed, nothing speaks against it."""
    return not is_installed() or name in registry()[what]


def _of_member(member: Member | None) -> dict[str, Any]:
    return {"model_type": member.model_type, "template": member.template} if member else {}
