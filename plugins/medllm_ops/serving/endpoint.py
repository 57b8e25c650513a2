"""``swift deploy`` on loopback with a key of its own, believed only when it answers with the model just started."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from medllm_ops.compute.job import Job
from medllm_ops.compute.ports import LOOPBACK, free_port, port_holder
from medllm_ops.errors import MedllmError
from medllm_ops.models.resolve import check_remote_code, refuse_remote_code
from medllm_ops.serving.registry import Service, check_alive, start_service, stop_service
from medllm_ops.swift.environment import process_environment
from medllm_ops.swift.recipe import Recipe

START_SECONDS = 600.0
ANSWER_SECONDS = 300.0
POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """What to serve.

    :param name: the service's name, for ``serve list`` and ``serve stop``.
    :param port: None takes a free one.
    :param backend: ms-swift's ``infer_backend``: ``transformers``, or ``vllm``, ``sglang``, ``lmdeploy`` on GPUs.
    :param allow_remote_code: let the model's folder bring Python code of its own: ms-swift always executes such code.
    """

    name: str
    model: Path
    model_type: str | None = None
    template: str | None = None
    system: str | None = None
    torch_dtype: str | None = None
    port: int | None = None
    host: str = LOOPBACK
    backend: str = "transformers"
    allow_remote_code: bool = False

    @classmethod
    def of_recipe(cls, name: str, model: Path, recipe: Recipe) -> EndpointRequest:
        """Serve a model as the recipe says that it was trained.

        :raises MedllmError: if the model's folder brings other code than the recipe allows.
        """
        check_remote_code(model, recipe.remote_code)
        return cls(
            name=name,
            model=model,
            model_type=recipe.model_type,
            template=recipe.template,
            system=recipe.system,
            torch_dtype=recipe.torch_dtype,
            allow_remote_code=recipe.allow_remote_code,
        )


def start_endpoint(request: EndpointRequest, start_seconds: float = START_SECONDS) -> Service:
    """Start an endpoint and wait until it answers.

    :raises MedllmError: if the model's folder is missing or brings code of its own that is not allowed, the port is
        taken, the process ends, or another model answers; nothing is left running.
    """
    if not request.model.is_dir():
        raise MedllmError(f"model folder {request.model} does not exist")
    if not request.allow_remote_code:
        refuse_remote_code(request.model)
    key = secrets.token_urlsafe(24)
    # A name that nobody else can answer with tells this endpoint from one that had the port before.
    model_name = f"{request.name}-{secrets.token_hex(3)}"
    port = request.port or free_port()
    service = Service(request.name, "endpoint", request.host, port, model_name, str(request.model), key)
    arguments = service.directory / "arguments.json"
    argv = (sys.executable, "-m", "medllm_ops.serving.deploy", str(arguments))
    environment = process_environment(service.directory / "cache")
    job = start_service(service, argv, environment, {arguments.name: _flags(request, service)})
    try:
        _wait(service, job, start_seconds)
    except BaseException:
        stop_service(service.name)
        raise
    return service


def _flags(request: EndpointRequest, service: Service) -> list[str]:
    options = {
        "model": request.model,
        "model_type": request.model_type,
        "template": request.template,
        "system": request.system,
        "torch_dtype": request.torch_dtype,
        "infer_backend": request.backend,
        "host": service.host,
        "port": service.port,
        "api_key": service.secret,
        "served_model_name": service.model_name,
        "load_args": "false",
        "verbose": "false",
        "log_interval": -1,
    }
    return [part for name, value in options.items() if value is not None for part in (f"--{name}", str(value))]


def _wait(service: Service, job: Job, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        check_alive(job)
        try:
            names = model_names(service)
        except httpx.TransportError:
            time.sleep(POLL_SECONDS)
            continue
        except MedllmError:
            names = []
        ours = service.listening()
        if ours and service.model_name in names:
            return
        if names or not ours:
            answer = f"the models {', '.join(names)}" if names else "something else"
            raise MedllmError(
                f"{service.url} answers with {answer}, not with {service.model_name}; port {service.port} is"
                f" {port_holder(service.port)}; log {job.log}"
            )
        # A backend may listen before its model is loaded.
        time.sleep(POLL_SECONDS)
    raise MedllmError(
        f"endpoint {service.name} did not answer with model {service.model_name} within {seconds:.0f} s;"
        f" log {job.log} ends:\n{job.log_tail()}"
    )


def model_names(service: Service) -> list[str]:
    """What ``/v1/models`` answers.

    :raises httpx.TransportError: if nobody answers.
    :raises MedllmError: if the answer is no list of models.
    """
    response = httpx.get(f"{service.url}/models", headers=_headers(service), timeout=10)
    try:
        response.raise_for_status()
        return [str(model["id"]) for model in response.json()["data"]]
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
        raise MedllmError(f"{service.url}/models answered with no list of models: {error}") from error


def _headers(service: Service) -> dict[str, str]:
    return {"Authorization": f"Bearer {service.secret}"}


def ask(service: Service, messages: Sequence[dict[str, str]], max_tokens: int = 64) -> dict[str, Any]:
    """Ask an endpoint; greedy, so that the same model gives the same answer.

    :return: ``{"answer", "tokens", "seconds"}``.
    :raises MedllmError: if it does not answer, or not with an answer.
    """
    started = time.monotonic()
    body = {"model": service.model_name, "messages": list(messages), "max_tokens": max_tokens, "temperature": 0}
    where = f"endpoint {service.name} at {service.url}"
    try:
        response = httpx.post(
            f"{service.url}/chat/completions", json=body, headers=_headers(service), timeout=ANSWER_SECONDS
        )
    except httpx.TransportError as error:
        raise MedllmError(f"{where} did not answer: {error}") from error
    if response.is_error:
        raise MedllmError(f"{where} refused ({response.status_code}): {response.text[:500]}")
    try:
        row = response.json()
        return {
            "answer": row["choices"][0]["message"]["content"] or "",
            "tokens": row["usage"]["completion_tokens"],
            "seconds": time.monotonic() - started,
        }
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise MedllmError(f"{where} gave no answer that can be read: {response.text[:500]}") from error
