"""``medllm-ops serve``: start, list and stop what is served on this machine."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from medllm_ops.compute.ports import LOOPBACK
from medllm_ops.errors import MedllmError
from medllm_ops.home import home
from medllm_ops.serving.chat import CHAT_PORT, check_chat, start_chat
from medllm_ops.serving.chat_page import USER
from medllm_ops.serving.endpoint import EndpointRequest, start_endpoint
from medllm_ops.serving.registry import Service, list_services, stop_service
from medllm_ops.swift.recipe import load_recipe

serve_app = typer.Typer(no_args_is_help=True, help=__doc__)
console = Console(highlight=False, markup=False)
WATCH_SECONDS = 1.0
EXIT_INTERRUPTED = 130

Port = Annotated[int, typer.Option(min=1, max=65535, help="The chat page's port.")]
Host = Annotated[
    str,
    typer.Option(
        help="The chat page's address; 0.0.0.0 for other machines. The password is MEDLLM_CHAT_PASSWORD, there of at"
        " least 8 characters, or the one in serving/chat_password, made at first use."
    ),
]
EndpointPort = Annotated[
    int | None,
    typer.Option(min=1, max=65535, help="The endpoint's port, for a proxy in front of it.", show_default="a free one"),
]
Foreground = Annotated[bool, typer.Option(help="Stay, and end everything on Ctrl-C.")]


@serve_app.command()
def start(
    model: Annotated[Path, typer.Argument(help="The model's folder.")],
    recipe: Annotated[str, typer.Option(help="The recipe it was trained with: its type and template.")] = "demo",
    name: Annotated[str | None, typer.Option(help="The service's name; the folder's by default.")] = None,
    chat: Annotated[bool, typer.Option(help="A chat page in front of it.")] = True,
    host: Host = LOOPBACK,
    port: Port = CHAT_PORT,
    endpoint_port: EndpointPort = None,
    foreground: Foreground = False,
) -> None:
    """Serve a model folder."""
    of_recipe = EndpointRequest.of_recipe(name or model.resolve().name, model.resolve(), load_recipe(recipe))
    request = replace(of_recipe, port=endpoint_port)
    if chat:
        check_chat(host, port)
    console.print(f"starting {request.name}: under a minute for a small model", soft_wrap=True)
    with _interruptible(0 if foreground else EXIT_INTERRUPTED), ExitStack() as cleanup:
        endpoint = start_endpoint(request)
        cleanup.callback(_stop_undisturbed, endpoint.name)
        console.print(f"endpoint  {endpoint.url}  model {endpoint.model_name}", soft_wrap=True)
        console.print(f"API key   in {endpoint.file}", soft_wrap=True)
        services = [endpoint]
        if chat:
            services.append(start_chat(endpoint, host, port))
            console.print(f"chat      {services[-1].url}  user {USER}  password {services[-1].secret}", soft_wrap=True)
        if foreground:
            console.print("Ctrl-C ends it")
            _watch(services)
        else:
            console.print(f"`medllm-ops serve stop {endpoint.name}` ends it")
            cleanup.pop_all()


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def _interruptible(exit_code: int) -> Iterator[None]:
    """Take SIGTERM and a closed terminal like Ctrl-C, so that they leave nothing running either."""
    earlier = {signum: signal.signal(signum, signal.default_int_handler) for signum in _SIGNALS}
    try:
        yield
    except KeyboardInterrupt:
        console.print("ended")
        raise typer.Exit(exit_code) from None
    finally:
        for signum, handler in earlier.items():
            signal.signal(signum, handler)


def _stop_undisturbed(name: str) -> None:
    """End a service; a second Ctrl-C must not leave half of it."""
    for signum in _SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    stop_service(name)


def _watch(services: list[Service]) -> None:
    """Wait until the user ends it.

    :raises MedllmError: if one of the services ends by itself.
    """
    while all(service.running() for service in services):
        time.sleep(WATCH_SECONDS)
    ended = next(service for service in services if not service.running())
    raise MedllmError(f"{ended.kind} {ended.name} ended by itself; its log ended:\n{ended.log_tail()}")


@serve_app.command()
def latest(
    host: Host = LOOPBACK,
    port: Port = CHAT_PORT,
    endpoint_port: EndpointPort = None,
    foreground: Foreground = True,
) -> None:
    """Serve the model of the last finished run."""
    run = home() / "runs" / "latest"
    if not run.exists():
        raise MedllmError(f"no run has finished yet: {run} does not exist; `make run` makes one")
    from medllm_ops.run import Run

    the_run = Run.open(run.resolve())
    start(the_run.final_model, str(the_run.recipe_file), the_run.name, True, host, port, endpoint_port, foreground)


@serve_app.command("list")
def list_() -> None:
    """List what is served."""
    services = list_services()
    if not services:
        console.print("nothing is served")
        return
    table = Table()
    for heading in ("name", "kind", "address", "model"):
        table.add_column(heading, overflow="fold")
    for service in services:
        table.add_row(service.name, service.kind, service.url, service.model)
    console.print(table)


@serve_app.command()
def stop(
    name: Annotated[str | None, typer.Argument(help="The service's name.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Stop all.")] = False,
) -> None:
    """Stop a service, with every process of it; an endpoint takes its chat page along."""
    if everything == bool(name):
        raise MedllmError("give either a name or --all")
    names = [name] if name else [service.name for service in list_services()]
    ended = [service for item in names for service in stop_service(item)]
    for service in ended:
        console.print(f"stopped {service.kind} {service.name}", soft_wrap=True)
    if name and not ended:
        served = ", ".join(service.name for service in list_services()) or "nothing"
        raise MedllmError(f"nothing called {name} is served; there is {served}")
    if not ended:
        console.print("nothing is served")
