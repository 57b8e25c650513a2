"""``SwiftSftOperator``: one training stage by ms-swift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import Context

from medllm_ops.compute.places import place_for
from medllm_ops.operators.base import JobOperator


class SwiftSftOperator(JobOperator):
    """Trains one stage of a recipe: continued pretraining, instruction tuning or self-cognition.

    A retry finds its job again where it still runs, and goes on from the last whole checkpoint where it does not.
    Succeeds only if every step was made, the loss is finite, and ms-swift kept every row it was given. Returns
    ``{"stage", "steps", "max_steps", "loss", "eval_loss", "seconds", "rows", "val_rows", "tokens_per_second",
    "checkpoint", "output_dir", "key"}``.

    :param stage: ``pretrain`` (``swift pt``), ``sft`` or ``self_cognition`` (``swift sft``). (templated)
    :param recipe: the name of a recipe in ``include/swift_configs``, or a path. (templated)
    :param model: the absolute folder of the model to start from. (templated)
    :param dataset: a frozen dataset: ``manifest.json``, ``train/``, ``val/``. (templated)
    :param output_dir: the stage's folder: job, checkpoints, ``result.json``. (templated)
    """

    template_fields: Sequence[str] = (*JobOperator.template_fields, "stage", "recipe", "model", "dataset")

    def __init__(self, *, stage: str, recipe: str, model: str, dataset: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stage = stage
        self.recipe = recipe
        self.model = model
        self.dataset = dataset

    def execute(self, context: Context) -> dict[str, Any]:
        """Train, and return the figures."""
        from medllm_ops.swift.train import train_stage

        self.skip_unless_enabled()
        return train_stage(
            stage=self.stage,
            recipe=self.recipe,
            model=self.model,
            dataset=self.dataset,
            output_dir=self.output_dir,
            place=place_for(self.where),
        )
