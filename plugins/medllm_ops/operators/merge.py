"""``MergeLoraOperator``: an adapter into its model, with proof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medllm_ops.compute.job import Place
from medllm_ops.operators.base import JobOperator, Work


class MergeLoraOperator(JobOperator):
    """Merges the adapter of a trained stage into the model it was trained on.

    The merged model gets its name only after a fresh process has proven, on what lies on disk, that it is base
    plus adapter and nothing else. Returns the figures of ``merge.json``.

    :param stage: the stage that was trained. (templated)
    :param recipe: the recipe it was trained with. (templated)
    :param model: the absolute folder of the model that the adapter belongs to. (templated)
    :param stage_dir: the stage's folder, with its ``result.json``. (templated)
    :param output_dir: the folder of the merged model, whole or absent. (templated)
    """

    template_fields: Sequence[str] = (*JobOperator.template_fields, "stage", "recipe", "model", "stage_dir")

    def __init__(self, *, stage: str, recipe: str, model: str, stage_dir: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stage = stage
        self.recipe = recipe
        self.model = model
        self.stage_dir = stage_dir

    def begin(self, place: Place) -> Work:
        """Submit the merge, or find it or its result again."""
        from medllm_ops.swift.merge_stage import begin

        return begin(self.stage, self.recipe, self.model, self.stage_dir, self.output_dir, place)

    def job_directory(self) -> Path:
        """Beside the stage's own job: the merged folder holds nothing but the model."""
        from medllm_ops.swift.merge_stage import job_directory

        return job_directory(Path(self.stage_dir))
