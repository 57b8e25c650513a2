"""The trigger form, made of :class:`medllm_ops.parameters.Parameters`: one definition for the form, CLI and checks."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from medllm_ops.parameters import Parameters
from medllm_ops.sources import catalogue

_SECTIONS = {
    "Data": (
        "raw",
        "corpus",
        "dataset",
        "sources",
        "rows_per_source",
        "curation",
        "evalsets",
        "allow_licences",
        "max_retracted_share",
        "on_retracted",
    ),
    "Model and training": (
        "model",
        "recipe",
        "pretrain",
        "sft",
        "self_cognition",
        "dpo",
        "max_steps",
        "num_train_epochs",
        "learning_rate",
        "max_length",
        "seed",
    ),
    "Identity": ("name_zh", "name_en", "author_zh", "author_en"),
    "Service": ("serve", "keep_serving", "where"),
}
_OF_SOURCES = ("sources", "allow_licences")


def source_names() -> list[str]:
    """What a form offers where sources are named: those of the catalogue, of which no module is imported."""
    return [entry.name for entry in catalogue()]


def form(**defaults: Any) -> dict[str, Param]:
    """The Params of the DAG, each with title, description, limits and examples.

    :param defaults: other defaults than those of the parameters, by name.
    """
    properties = Parameters.model_json_schema()["properties"]
    sections = {name: section for section, names in _SECTIONS.items() for name in names}
    params = {}
    for name in sections:
        schema = {key: value for key, value in properties[name].items() if key not in ("default", "description")}
        if options := schema.pop("anyOf", None):
            schema["type"] = [option["type"] for option in options]
        if schema["type"] == "array":
            # A list that is left empty in the form arrives as null.
            schema["type"] = ["array", "null"]
        if name in _OF_SOURCES:
            schema["examples"] = source_names()
        if "const" in schema:
            schema["enum"] = [schema.pop("const")]
        params[name] = Param(
            defaults.get(name, properties[name].get("default", [])),
            description=properties[name]["description"],
            section=sections[name],
            **schema,
        )
    params["run_name"] = Param(
        None,
        type=["null", "string"],
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,119}$",
        title="Run name",
        description="The folder below runs/. Empty: made of the DAG run's id. A name that exists is gone on with.",
        section="Data",
    )
    return params


def check(values: dict[str, Any]) -> Parameters:
    """The form's values as parameters; see :meth:`medllm_ops.parameters.Parameters.check`."""
    return Parameters.check({name: value for name, value in values.items() if name != "run_name"})
