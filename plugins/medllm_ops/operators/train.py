"""``SwiftSftOperator``: one training stage by ms-swift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from medllm_ops.compute.job import Place
from medllm_ops.operators.base import JobOperator, Work


class SwiftSftOperator(JobOperator):
    """Trains one stage of a recipe: continued pretraining, instruction tuning, self-cognition or alignment.

    A retry finds its job again where it still runs, and goes on from the last whole checkpoint where it does not.
    Succeeds only if every step was made, the loss is finite, and ms-swift kept every row it was given. Returns
    ``{"stage", "steps", "max_steps", "loss", "eval_loss", "seconds", "rows", "val_rows", "tokens_per_second",
    "checkpoint", "output_dir", "attempts", "rewards", "key"}``; ``rewards`` has the last margins and accuracies of an
    alignment, and is empty otherwise.

    :param stage: ``pretrain`` (``swift pt``), ``sft`` or ``self_cognition`` (``swift sft``), ``dpo`` (``swift rlhf``:
        dpo, kto or orpo, as the recipe says). (templated)
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

    def begin(self, place: Place) -> Work:
        """Submit the training, or find it or its result again."""
        from medllm_ops.swift.train import begin, stage_request

        return begin(stage_request(self.stage, self.recipe, self.model, self.dataset, self.output_dir), place)

    def figures(self, result: Any) -> dict[str, Any]:
        """The figures of a training."""
        return asdict(result)
