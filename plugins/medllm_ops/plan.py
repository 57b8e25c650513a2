"""What is decided about a run before it starts, and frozen in its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from medllm_ops.errors import MedllmError
from medllm_ops.files import write_json, write_whole
from medllm_ops.home import include
from medllm_ops.parameters import Parameters
from medllm_ops.run import LATEST, Run


def make_plan(run: Run) -> dict[str, Any]:
    """Check everything that can be checked before a GPU is asked for, and freeze it in the run's directory.

    :return: ``{"run_dir", "model", "sources": {name: [files]}, "corpus", "stages": [names]}``.
    :raises MedllmError: one sentence that says what is wrong and what is allowed.
    """
    from medllm_ops.models.resolve import check_model_name, refuse_remote_code, resolve_model
    from medllm_ops.sources import UNRECOGNISED, get_source
    from medllm_ops.swift.arguments import check_names
    from medllm_ops.swift.recipe import load_recipe, override

    parameters = run.parameters
    recipe = load_recipe(parameters.recipe)
    changes = {
        "max_steps": parameters.max_steps or None,
        "num_train_epochs": (not parameters.max_steps and parameters.num_train_epochs) or None,
        "learning_rate": parameters.learning_rate or None,
        "max_length": parameters.max_length or None,
        "seed": parameters.seed,
    }
    for stage in parameters.stages:
        if stage not in recipe.stages:
            raise MedllmError(f"recipe {recipe.name} has no stage {stage}: it has {', '.join(recipe.stages)}")
        for name in recipe.stages[stage].instruction_sets:
            get_source(name)
        if extra := recipe.stages[stage].extra:
            check_names("pt" if stage == "pretrain" else "sft", extra)
        recipe = override(recipe, stage, **{name: value for name, value in changes.items() if value is not None})
    model = parameters.model or recipe.model
    check_model_name(model)
    corpus, found = _found(parameters)
    wanted = parameters.sources or list(found)
    if missing := [name for name in wanted if name not in found]:
        where = f"corpus version {corpus['version']}" if corpus else str(_raw_folder(parameters))
        raise MedllmError(f"{where} has nothing of {', '.join(missing)}; it has {', '.join(found) or 'none at all'}")
    trained = {get_source(name).stage for name in wanted if name != UNRECOGNISED}
    for stage in parameters.stages:
        if stage in ("pretrain", "sft") and stage not in trained:
            raise MedllmError(f"stage {stage} is on, but none of {', '.join(wanted)} has rows for it: switch it off")
    with write_whole(run.recipe_file) as file:
        values = recipe.model_dump(mode="json", exclude_none=True)
        file.write(yaml.safe_dump(values, allow_unicode=True, sort_keys=False).encode())
    for source, target in (("gate.yaml", run.gate_file), ("rows.jsonl", run.identity_file)):
        with write_whole(target) as file:
            file.write((include() / "datasets" / "identity" / source).read_bytes())
    folder = resolve_model(model, recipe.hub)
    if not recipe.allow_remote_code:
        refuse_remote_code(folder)
    decided = {
        "run_dir": str(run.directory),
        "model": str(folder),
        "sources": {name: [str(path) for path in found[name]] for name in wanted},
        "corpus": corpus,
        "stages": list(parameters.stages),
    }
    write_json(run.plan_file, decided)
    return decided


def _raw_folder(parameters: Parameters) -> Path:
    return Path(parameters.raw).expanduser().resolve() if parameters.raw else include() / "datasets" / "demo"


def _found(parameters: Parameters) -> tuple[dict[str, Any] | None, dict[str, list[Path]]]:
    """The version of the corpus that the run trains on, or else none; and its sources, with their raw files."""
    if parameters.corpus:
        from medllm_ops.corpus.reader import open_corpus

        snapshot = open_corpus(version=None if parameters.corpus == LATEST else parameters.corpus)
        return {"url": snapshot.storage.url, "version": snapshot.version}, {name: [] for name in snapshot.sources}
    from medllm_ops.sources import list_files

    raw = _raw_folder(parameters)
    if not raw.is_dir():
        raise MedllmError(f"the folder of raw files {raw} does not exist")
    return None, {name: files for name, files in list_files(raw).items() if files}
