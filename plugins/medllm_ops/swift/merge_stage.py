"""The merge of one trained stage, as a job that is found again after a crash."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm_ops.compute.job import Job, Place, job_id
from medllm_ops.errors import MedllmError
from medllm_ops.files import file_hash, read_json, text_hash, to_json_line, write_json
from medllm_ops.models.resolve import check_remote_code
from medllm_ops.swift.adopt import is_full_checkpoint
from medllm_ops.swift.merge import input_hashes
from medllm_ops.swift.merge_request import MergeRequest, base_dtype
from medllm_ops.swift.recipe import load_recipe
from medllm_ops.swift.train import TrainResult, read_result


def job_directory(stage_dir: Path) -> Path:
    """Where the merge of a stage keeps its job."""
    return stage_dir / "merge" / "job"


@dataclass(frozen=True, slots=True)
class Merge:
    """A merge that was begun."""

    job: Job
    model: str
    result_file: Path

    def finish(self, place: Place) -> dict[str, Any]:
        """Wait for the end, and return ``{"model", "passed", "max_abs_diff", "tolerance", "seconds"}``.

        :raises MedllmError: if the merge or its proof failed.
        """
        place.wait(self.job)
        proof = read_json(self.result_file)["proof"]
        figures = {name: proof[name] for name in ("passed", "max_abs_diff", "tolerance", "seconds")}
        return {"model": self.model} | figures


def begin(stage: str, recipe: str, model: str, stage_dir: str, output_dir: str, place: Place) -> Merge:
    """Submit the merge of the checkpoint that a stage chose into the model it was trained on, or find it again.

    :param model: the folder that the stage started from.
    :param stage_dir: the stage's folder, with its ``result.json``.
    :param output_dir: the merged model's folder: whole and proven, or absent.
    """
    settings = load_recipe(recipe)
    check_remote_code(Path(model), settings.remote_code)
    directory = job_directory(Path(stage_dir))
    request = MergeRequest(
        stage=stage,
        base=Path(model),
        adapter=Path(_trained(stage, Path(stage_dir)).checkpoint),
        out=Path(output_dir),
        logs=directory.parent,
        model_type=settings.model_type,
        template=settings.template,
        trust_remote_code=settings.allow_remote_code,
    )
    request_file, result_file = directory.parent / "request.json", directory.parent / "merged.json"
    write_json(request_file, request.to_row())
    inputs: Any = input_hashes(request, request.dtype or base_dtype(request.base))
    if is_full_checkpoint(request.adapter):
        inputs = [inputs, {file.name: file_hash(file) for file in sorted(request.adapter.glob("model*.safetensors"))}]
    key = text_hash(to_json_line([inputs, request.to_row()]).decode())
    # Where all weights were trained, the checkpoint is the model.
    module = "medllm_ops.swift.adopt" if is_full_checkpoint(request.adapter) else "medllm_ops.swift.merge"
    argv = (sys.executable, "-m", module, str(request_file), str(result_file))
    job = Job(job_id(directory), key, argv, directory)
    if not request.out.is_dir():
        # It may have been merged before and removed since.
        job.result_file.unlink(missing_ok=True)
    return Merge(place.submit(job), output_dir, result_file)


def _trained(stage: str, stage_dir: Path) -> TrainResult:
    if done := read_result(stage_dir):
        return done
    raise MedllmError(f"stage {stage} was not trained yet: {stage_dir} has no result.json")


def merge_stage(stage: str, recipe: str, model: str, stage_dir: str, output_dir: str, place: Place) -> dict[str, Any]:
    """Merge a stage; see :func:`begin` and :meth:`Merge.finish`."""
    return begin(stage, recipe, model, stage_dir, output_dir, place).finish(place)
