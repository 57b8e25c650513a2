"""What is decided about a run before it starts, and frozen in its directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from medllm_ops.errors import MedllmError
from medllm_ops.files import write_json, write_whole
from medllm_ops.home import include
from medllm_ops.parameters import Parameters
from medllm_ops.run import Run, default_run_name

if TYPE_CHECKING:
    from medllm_ops.datasets.identity import Identity
    from medllm_ops.swift.recipe import Recipe


def start(name: str | None, parameters: Parameters) -> Run:
    """Make a run, or find it again; whether it ends with an alignment is decided here, where the recipe decides it.

    Paths become absolute first: under the same words lies something else when they are typed in another folder.

    :param name: the run's; by default made of the parameters.
    :raises MedllmError: if there is no such recipe, or the name is taken by a run with other parameters.
    """
    from medllm_ops.swift.recipe import read_recipe

    parameters = _with_absolute_paths(parameters)
    aligned = parameters.dpo is None and "dpo" in read_recipe(parameters.recipe).stages
    return Run.create(name or default_run_name(parameters), parameters.settled(aligned))


def _with_absolute_paths(parameters: Parameters) -> Parameters:
    """What is a name, of a recipe that ships, a model of a hub, or a dataset, stays as it is."""
    from medllm_ops.datasets.store import is_folder
    from medllm_ops.models.resolve import RANDOM, is_made_here
    from medllm_ops.swift.recipe import list_recipes

    changes: dict[str, Any] = {
        name: _absolute(path) for name in ("raw", "curation") if (path := getattr(parameters, name))
    }
    changes["evalsets"] = [_absolute(path) for path in parameters.evalsets]
    if parameters.recipe not in list_recipes() and Path(parameters.recipe).is_file():
        changes["recipe"] = _absolute(parameters.recipe)
    if parameters.dataset and is_folder(parameters.dataset):
        changes["dataset"] = _absolute(parameters.dataset)
    model = (parameters.model or "").removeprefix(RANDOM)
    if model and not is_made_here(model) and Path(model).expanduser().is_dir():
        changes["model"] = f"{RANDOM if parameters.model != model else ''}{_absolute(model)}"
    return parameters.model_copy(update=changes)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def make_plan(run: Run) -> dict[str, Any]:
    """Check everything that can be checked before a GPU is asked for, and freeze it in the run's directory.

    :return: ``{"run_dir", "model", "sources": {name: [files]}, "corpus", "dataset", "stages": [names]}``; ``sources``
        has those that are converted: none, if the run takes the corpus or a dataset.
    :raises MedllmError: one sentence that says what is wrong and what is allowed.
    """
    from medllm_ops.curation.curate import check_files
    from medllm_ops.models.resolve import check_model_name, check_remote_code, resolve_model
    from medllm_ops.sources import UNRECOGNISED, get_source
    from medllm_ops.swift.check import check_recipe
    from medllm_ops.swift.families import check_family
    from medllm_ops.swift.recipe import PreferenceRecipe, load_recipe, override

    parameters = run.parameters
    if parameters.where == "kubernetes":
        from medllm_ops.compute.kubernetes.settings import read_settings

        read_settings().check_writable(run.directory)
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
        settings = recipe.stages[stage]
        paired = settings.preference_sets if isinstance(settings, PreferenceRecipe) else []
        for name in (*settings.instruction_sets, *paired):
            get_source(name)
        recipe = override(recipe, stage, **{name: value for name, value in changes.items() if value is not None})
    model = parameters.model or recipe.model
    check_model_name(model)
    # What ms-swift or transformers cannot train is refused before anything is fetched; without them, nothing is known.
    check_recipe(recipe)
    check_family(recipe, model)
    check_files(map(Path, parameters.evalsets))
    gate = include() / "datasets" / "identity" / "gate.yaml"
    if "self_cognition" in parameters.stages:
        _check_names(parameters.identity, gate)
    where = _where(parameters)
    wanted = parameters.sources or list(where.sources)
    if missing := [name for name in wanted if name not in where.sources]:
        there = ", ".join(where.sources) or "none at all"
        raise MedllmError(f"{where} has nothing of {', '.join(missing)}; it has {there}")
    trained = {get_source(name).stage for name in wanted if name != UNRECOGNISED}
    for stage in parameters.stages:
        if stage != "self_cognition" and stage not in trained:
            raise MedllmError(f"stage {stage} is on, but none of {', '.join(wanted)} has rows for it: switch it off")
        settings = recipe.stages[stage]
        if (
            isinstance(settings, PreferenceRecipe)
            and (sets := settings.preference_sets)
            and not set(sets) & set(wanted)
        ):
            raise MedllmError(
                f"recipe {recipe.name}: stages.dpo.preference_sets names {', '.join(sets)}, and this run has none of "
                f"them: it has {', '.join(wanted)}"
            )
    _freeze_curation(run, recipe)
    with write_whole(run.recipe_file) as file:
        values = recipe.model_dump(mode="json", exclude_none=True)
        file.write(yaml.safe_dump(values, allow_unicode=True, sort_keys=False).encode())
    for source, target in ((gate, run.gate_file), (gate.with_name("rows.jsonl"), run.identity_file)):
        with write_whole(target) as file:
            file.write(source.read_bytes())
    folder = resolve_model(model, recipe.hub)
    check_remote_code(folder, recipe.remote_code)
    decided = {
        "run_dir": str(run.directory),
        "model": str(folder),
        "sources": {name: where.files[name] for name in wanted if name in where.files},
        "corpus": where.corpus,
        "dataset": where.dataset,
        "stages": list(parameters.stages),
    }
    write_json(run.plan_file, decided)
    return decided


def _check_names(identity: Identity, gate: Path) -> None:
    """Judge the answers of a model that repeats each question, and answers the controls with their references.

    :raises MedllmError: if it would be taken for one that says who it is: these names cannot be judged.
    """
    from medllm_ops.evaluation.gates import IdentityGate, judge_identity

    questions = IdentityGate.read(gate)
    answers = [item.prompt for item in questions.identity]
    answers += [f"{item.prompt}\n{item.reference}" for item in questions.controls]
    said = {"answers": answers, "control_loss": 1.0}
    verdict = judge_identity(questions, identity, said, said)
    told = [row["after"] for row in verdict["prompts"] if row["ok"]]
    told += [row["after"] for row in verdict["controls"] if not row["ok"]]
    if told:
        names = ", ".join((identity.name_zh, identity.name_en, identity.author_zh, identity.author_en))
        raise MedllmError(
            f"one of the names {names} stands in the identity gate's own text {told[0]!r}: whether the model has learnt"
            " it could not be judged; choose another one"
        )


@dataclass(frozen=True, slots=True)
class _Where:
    """What a run's rows are taken from."""

    name: str
    sources: tuple[str, ...]
    files: Mapping[str, list[str]] = field(default_factory=dict)
    corpus: dict[str, Any] | None = None
    dataset: str | None = None

    def __str__(self) -> str:
        return self.name


def _where(parameters: Parameters) -> _Where:
    if parameters.corpus:
        from medllm_ops.corpus.reader import open_corpus

        snapshot = open_corpus(version=parameters.corpus)
        corpus = {"url": snapshot.storage.url, "version": snapshot.version}
        return _Where(f"corpus version {snapshot.version}", tuple(snapshot.sources), corpus=corpus)
    if parameters.dataset:
        from medllm_ops.datasets.retracted import check_retracted
        from medllm_ops.datasets.store import find_dataset

        dataset = find_dataset(parameters.dataset)
        if dataset.manifest.get("corpus"):
            check_retracted(dataset, parameters.max_retracted_share, parameters.on_retracted)
        sources = tuple(dataset.manifest["sources"])
        return _Where(f"dataset {dataset}", sources, dataset=str(dataset.directory))
    from medllm_ops.sources import list_files

    raw = Path(parameters.raw).expanduser().resolve() if parameters.raw else include() / "datasets" / "demo"
    if not raw.is_dir():
        raise MedllmError(f"the folder of raw files {raw} does not exist")
    files = {name: [str(path) for path in paths] for name, paths in list_files(raw).items() if paths}
    return _Where(str(raw), tuple(files), files=files)


def _freeze_curation(run: Run, recipe: Recipe) -> None:
    """The settings of curation as the form names them; the recipe's shares for validation fill what they leave open."""
    from medllm_ops.curation.settings import SetSettings, read_settings
    from medllm_ops.sources import catalogue

    parameters = run.parameters
    settings = read_settings(Path(parameters.curation).expanduser() if parameters.curation else None)
    sets = dict(settings.sets)
    for entry in catalogue():
        own = sets.get(entry.source.name, SetSettings())
        changes: dict[str, Any] = {}
        if own.val_share is None and entry.source.stage in recipe.stages:
            changes["val_share"] = recipe.stages[entry.source.stage].val_share
        if parameters.corpus and parameters.rows_per_source and own.count is None and own.weight is None:
            changes["count"] = parameters.rows_per_source
        sets[entry.source.name] = own.model_copy(update=changes)
    # The corpus is curated once for all runs, and not anew for each seed of a training.
    seed = settings.seed if parameters.corpus else parameters.seed
    frozen = settings.model_copy(update={"sets": sets, "seed": seed})
    with write_whole(run.curation_file) as file:
        values = frozen.model_dump(mode="json", exclude_none=True)
        file.write(yaml.safe_dump(values, allow_unicode=True, sort_keys=False).encode())
