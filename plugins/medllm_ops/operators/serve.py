"""``ServeOperator``: an OpenAI endpoint, proven with a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import Context

from medllm_ops.operators.base import StepOperator


class ServeOperator(StepOperator):
    """Starts ``swift deploy`` on loopback with a generated key and proves it with a prompt.

    Returns ``{"url", "served_model_name", "prompt", "answer", "tokens", "seconds", "left_running", "enforced"}``; an
    answer of nothing but blanks fails it where the recipe enforces its gates. The key stays in the endpoint's own file.
    ``medllm-ops serve list`` and ``serve stop`` find and end what was left running.

    :param name: the endpoint's name. (templated)
    :param recipe: the recipe of the model, for its type and template. (templated)
    :param model: the absolute folder of the model. (templated)
    :param keep: leave the endpoint running after the proof. (templated)
    """

    template_fields: Sequence[str] = (*StepOperator.template_fields, "name", "recipe", "model", "keep")

    def __init__(self, *, name: str, recipe: str, model: str, keep: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.recipe = recipe
        self.model = model
        self.keep = keep

    def execute(self, context: Context) -> dict[str, Any]:
        """Serve and prove, and return what was asked and answered."""
        from medllm_ops.serving.prove import serve_model

        self.skip_unless_enabled()
        keep = str(self.keep).lower() in ("true", "1")
        return serve_model(name=self.name, recipe=self.recipe, model=self.model, output_dir=self.output_dir, keep=keep)

    def on_kill(self) -> None:
        """End the endpoint: a task that is run again proves it anew."""
        from medllm_ops.serving.registry import stop_service

        stop_service(self.name)
