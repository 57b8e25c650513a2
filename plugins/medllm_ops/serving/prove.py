"""Serve a model and prove it with a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import write_json
from medllm_ops.serving.endpoint import EndpointRequest, ask, start_endpoint
from medllm_ops.serving.registry import stop_service
from medllm_ops.swift.recipe import load_recipe

PROMPT = "What helps against a common cold?"


def serve_model(
    name: str, recipe: str, model: str, output_dir: str, keep: bool, prompt: str = PROMPT
) -> dict[str, Any]:
    """Serve a model, ask it, write ``serving.json``, and stop it unless it is to be kept.

    An endpoint of the same name, left by an earlier run, is stopped first.

    :return: ``{"url", "served_model_name", "prompt", "answer", "seconds", "tokens", "left_running", "enforced"}``.
    :raises MedllmError: if it does not start, or gives no token, or nothing but blanks where the recipe enforces its
        gates; nothing is left running then.
    """
    settings = load_recipe(recipe)
    stop_service(name)
    service = start_endpoint(EndpointRequest.of_recipe(name, Path(model), settings))
    proven = False
    try:
        reply = ask(service, [{"role": "user", "content": prompt}])
        # A random model may say nothing but line ends; where the recipe enforces no gates, tokens are enough.
        if not reply["tokens"] or (settings.enforce_gates and not reply["answer"].strip()):
            raise MedllmError(f"endpoint {name} gave an empty answer to {prompt!r}")
        proven = True
    finally:
        if not (proven and keep):
            stop_service(name)
    result = {
        "url": service.url,
        "served_model_name": service.model_name,
        "prompt": prompt,
        **reply,
        "left_running": keep,
        "enforced": settings.enforce_gates,
    }
    write_json(Path(output_dir, "serving.json"), result)
    return result
