"""What each step of the chain does to a run; their order is in :mod:`medllm_ops.chain`.

Every step reads what the steps before it left in the run's directory and leaves its own result there, whole or
not at all; a step that is repeated with nothing changed finds its result and returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medllm_ops.compute.job import Place
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json
from medllm_ops.run import Run

RUN_DATASET = "medllm_train"
"""The name of the datasets that runs build of the corpus."""


def plan(run: Run, place: Place) -> dict[str, Any]:
    """Check everything that can be checked before a GPU is asked for; see :func:`medllm_ops.plan.make_plan`."""
    from medllm_ops.plan import make_plan

    return make_plan(run)


def convert_arguments(run: Run, source: str) -> dict[str, Any]:
    """What the conversion of one source takes, as JSON."""
    return {
        "source": source,
        "files": read_json(run.plan_file)["sources"][source],
        "output_dir": str(run.converted(source)),
        "sample": run.parameters.rows_per_source,
    }


def convert(run: Run, place: Place) -> dict[str, Any]:
    """Convert every source of the run, one after the other; a run that takes a dataset has none."""
    from medllm_ops.datasets.convert import convert_source

    return {name: convert_source(**convert_arguments(run, name)) for name in read_json(run.plan_file)["sources"]}


def curate(run: Run, place: Place) -> dict[str, Any]:
    """Make a dataset of the converted rows, or of the corpus, or take the one that is there."""
    from medllm_ops.curation.curate import curate as curate_files
    from medllm_ops.curation.settings import read_settings
    from medllm_ops.curation.workers import cores, cores_for
    from medllm_ops.report.data.build import build_data_report

    decided = read_json(run.plan_file)
    evalsets = [Path(path) for path in run.parameters.evalsets]
    if decided["corpus"]:
        from medllm_ops.datasets.build import build_dataset

        built = build_dataset(
            RUN_DATASET,
            corpus=decided["corpus"]["url"],
            version=decided["corpus"]["version"],
            sources=run.parameters.sources or None,
            settings=read_settings(run.curation_file),
            evalsets=evalsets,
            workers=cores(),
            allow_licences=run.parameters.allow_licences,
        )
        run.take_dataset(built.directory)
    elif decided["dataset"]:
        run.take_dataset(Path(decided["dataset"]))
    else:
        files = [run.converted(name) / "records.jsonl" for name in decided["sources"]]
        settings = read_settings(run.curation_file)
        curate_files(files, run.curated, settings, evalsets=evalsets, worker_count=cores_for(files))
    page = build_data_report(run.curated)
    return {"directory": str(page.parents[1]), "report": str(page)}


def sets(run: Run, place: Place) -> dict[str, Any]:
    """Make the sets of each stage, the identity set among them."""
    from medllm_ops.datasets.sets import IdentitySettings, arrange
    from medllm_ops.evaluation.gates import IdentityGate

    parameters = run.parameters
    identity, questions = None, []
    if parameters.self_cognition:
        gate = IdentityGate.read(run.gate_file)
        questions = [*(each.prompt for each in gate.identity), *(each.prompt for each in gate.controls)]
        stage = _recipe(run).stages["self_cognition"]
        identity = IdentitySettings(
            rows=run.identity_file,
            identity=parameters.identity,
            identity_rows=stage.identity_rows,
            instruction_rows=stage.instruction_rows,
            val_share=stage.val_share,
            seed=parameters.seed,
            instruction_sets=tuple(stage.instruction_sets),
        )
    there = read_json(run.curated / "manifest.json")["sources"]
    sources = [name for name in there if name in (parameters.sources or there)]
    pairs = _recipe(run).stages["dpo"].preference_sets if parameters.dpo else ()
    arrange(run.curated, sources, parameters.stages, identity, run.sets, pairs, questions)
    return {"directory": str(run.sets), "sets": read_json(run.sets / "sets.json")}


def export(run: Run, place: Place) -> dict[str, Any]:
    """Freeze the dataset: rows that fit, counted with the model's own tokenizer and template."""
    from medllm_ops.curation.settings import read_settings
    from medllm_ops.curation.write.fit import Room, fit
    from medllm_ops.curation.write.tokens import load_tokenizer, tokenizer_hash
    from medllm_ops.datasets.export import SetSettings
    from medllm_ops.datasets.export import export as export_dataset
    from medllm_ops.datasets.identity import SET_NAME
    from medllm_ops.swift.counting import count_tokens
    from medllm_ops.swift.template import TemplateSettings

    recipe = _recipe(run)
    chunk = read_settings(run.curation_file).chunk
    stages = {
        name: SetSettings(stage, recipe.stages[stage].max_length, recipe.stages[stage].labelled, name == SET_NAME)
        for name, stage in read_json(run.sets / "sets.json").items()
    }

    def cut(rows: Sequence[dict[str, Any]], limit: int) -> Iterator[list[dict[str, Any]]]:
        room = Room(limit, chunk.overhead, chunk.turn_overhead, chunk.dialogues)
        return (fitted.rows for fitted in fit(rows, room, load_tokenizer(run.base_model)))

    template = TemplateSettings(run.base_model, recipe.model_type, recipe.template, recipe.system)
    context = [str(run.base_model), recipe.model_type, recipe.template, recipe.system, chunk.model_dump(mode="json")]
    context.append(tokenizer_hash(run.base_model))
    counter = partial(count_tokens, template=template)
    manifest = export_dataset(run.sets, stages, counter, cut, run.dataset, context)
    return {"directory": str(run.dataset), "sets": manifest["sets"]}


def preflight(run: Run, place: Place) -> dict[str, Any]:
    """Hold what the stages need against what there is; see :mod:`medllm_ops.swift.preflight.preflight`."""
    from medllm_ops.swift.preflight.preflight import preflight_run

    return preflight_run(run)


def train_arguments(run: Run, stage: str) -> dict[str, Any]:
    """What the training of one stage takes, as JSON."""
    return {
        "stage": stage,
        "recipe": str(run.recipe_file),
        "model": str(run.model_before(stage)),
        "dataset": str(run.dataset),
        "output_dir": str(run.stage(stage)),
    }


def train(stage: str, run: Run, place: Place) -> dict[str, Any]:
    """Train one stage on its own sets of the frozen dataset."""
    from medllm_ops.swift.train import train_stage

    return train_stage(**train_arguments(run, stage), place=place)


def merge_arguments(run: Run, stage: str) -> dict[str, Any]:
    """What the merge of one stage takes, as JSON; the checkpoint is the stage's result."""
    return {
        "stage": stage,
        "recipe": str(run.recipe_file),
        "model": str(run.model_before(stage)),
        "stage_dir": str(run.stage(stage)),
        "output_dir": str(run.merged(stage)),
    }


def merge(stage: str, run: Run, place: Place) -> dict[str, Any]:
    """Merge a stage's adapter into its model, with proof."""
    from medllm_ops.swift.merge_stage import merge_stage

    return merge_stage(**merge_arguments(run, stage), place=place)


def evaluate(run: Run, place: Place) -> dict[str, Any]:
    """Score the base and every stage's model; fail if a gate does not pass.

    :raises MedllmError: naming the gates that failed.
    """
    from medllm_ops.evaluation.evaluate import EvaluationRequest, evaluate_models, labels_of

    recipe = _recipe(run)
    labels = labels_of(run.parameters.stages)
    request = EvaluationRequest(
        models={"base": run.base_model} | {label: run.merged(stage) for stage, label in labels.items()},
        labels=labels,
        beta=recipe.stages["dpo"].beta if "dpo" in labels else None,
        model_type=recipe.model_type,
        template=recipe.template,
        system=recipe.system,
        dataset=run.dataset,
        gate_file=run.gate_file,
        identity=run.parameters.identity,
        directory=run.evaluation,
        remote_code=recipe.remote_code,
        enforce_gates=recipe.enforce_gates,
    )
    return evaluate_models(request, place)


def serve_arguments(run: Run) -> dict[str, Any]:
    """What serving the final model takes, as JSON."""
    return {
        "name": run.name,
        "recipe": str(run.recipe_file),
        "model": str(run.final_model),
        "output_dir": str(run.directory / "serving"),
        "keep": run.parameters.keep_serving,
    }


def serve(run: Run, place: Place) -> dict[str, Any]:
    """Serve the final model, prove it with a prompt, and leave it running only if the run says so.

    :raises MedllmError: if the recipe enforces its gates and the run's last evaluation did not pass them.
    """
    from medllm_ops.serving.prove import serve_model

    if _recipe(run).enforce_gates and run.state_of("evaluate") != "success":
        raise MedllmError(f"run {run.name} has not passed its gates, so it is not served: evaluate it first")
    return serve_model(**serve_arguments(run))


def report(run: Run, place: Place) -> dict[str, Any]:
    """Write ``report.json`` and ``report.html`` of whatever the run has so far; publish it if all passed.

    :raises MedllmError: if the run did not pass.
    """
    from medllm_ops.report.build import build_report, publish_latest

    result = build_report(run.directory)
    if not result.passed:
        raise MedllmError(f"run {run.name} did not pass; see {run.directory / 'report.html'}")
    publish_latest(run.directory)
    return {"report": str(run.directory / "report.html"), "passed": result.passed}


def _recipe(run: Run) -> Any:
    from medllm_ops.swift.recipe import load_recipe

    return load_recipe(str(run.recipe_file))
