"""One training stage: from a request to a proven result, resumed where an earlier attempt stopped."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medllm_ops.compute.job import Job, Place, job_id
from medllm_ops.errors import MedllmError
from medllm_ops.files import count_lines, file_hash, read_json, text_hash, to_json_line, write_json
from medllm_ops.models.resolve import check_remote_code
from medllm_ops.swift.checkpoints import is_whole, last_whole_checkpoint, step_of
from medllm_ops.swift.command import build, parse_kept_rows, parse_logged_rows, rows_scored
from medllm_ops.swift.progress import Progress, read_end, read_progress
from medllm_ops.swift.recipe import StageRecipe, load_recipe

log = logging.getLogger(__name__)

LOG_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What to train.

    :param stage: the stage's name in the chain; ``pretrain`` runs ``swift pt``, the others ``swift sft``.
    :param recipe: the validated settings of the stage.
    :param model_dir: the absolute folder of the model to start from.
    :param train_files: JSON lines in the ms-swift format; ``val_files`` likewise, for the losses on the way.
    :param directory: the stage's own: its job, its output and its ``result.json``.
    :param tokens: the tokens in ``train_files``, for the speed.
    """

    stage: str
    recipe: StageRecipe
    model_dir: Path
    model_type: str | None
    template: str | None
    train_files: tuple[Path, ...]
    val_files: tuple[Path, ...]
    directory: Path
    torch_dtype: str | None = None
    system: str | None = None
    tokens: int = 0

    @property
    def output_dir(self) -> Path:
        """Where ms-swift writes its checkpoints and logs."""
        return self.directory / "output"

    def key(self) -> str:
        """A hash of everything that decides the result: settings, model and data."""
        files = [file_hash(path) for path in (*self.train_files, *self.val_files)]
        model = [str(self.model_dir), file_hash(self.model_dir / "config.json")]
        weights = [(path.name, path.stat().st_size) for path in sorted(self.model_dir.glob("*.safetensors"))]
        # A model that was merged anew has the same sizes and another proof.
        proof = self.model_dir / "merge.json"
        model += [file_hash(proof)] if proof.is_file() else []
        settings = [
            self.stage,
            self.recipe.model_dump(mode="json"),
            self.model_type,
            self.template,
            self.torch_dtype,
            self.system,
        ]
        return text_hash(to_json_line([settings, model, weights, files]).decode())


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished stage. ``loss`` is the last logged training loss; ``seconds`` is the wall time of the last attempt."""

    key: str
    stage: str
    steps: int
    max_steps: int
    loss: float
    eval_loss: float | None
    seconds: float
    rows: int
    val_rows: int
    tokens_per_second: float
    checkpoint: str
    output_dir: str


def train(request: TrainRequest, place: Place, on_progress: Callable[[Progress], Any] | None = None) -> TrainResult:
    """Train, or return the result that is already there, or go on from the last whole checkpoint.

    :raises MedllmError: if the data are empty, the training failed, stopped short of its steps, diverged, or kept
        other rows than it was given.
    """
    result_file = request.directory / "result.json"
    rows, val_rows = _count_rows(request)
    key = request.key()
    if result_file.is_file() and (row := read_json(result_file))["key"] == key and Path(row["checkpoint"]).is_dir():
        log.info("%s: already trained, %s", request.stage, row["checkpoint"])
        return TrainResult(**row)
    result_file.unlink(missing_ok=True)
    job_directory = request.directory / "job"
    if place.running(job_directory, key):
        log.info("%s: found its job again, still running", request.stage)
        job = Job.read(job_directory)
        first_step = _logged_step(request)
    else:
        job = _prepare(request, key, job_directory, place)
        first_step = _resumed_step(job)
    outcome = place.run(job, _Watch(request, on_progress, first_step))
    try:
        result = _verify(request, job, rows, val_rows, outcome.seconds)
    except MedllmError:
        # It ended with exit code 0 and is no success: the next try must not take it for one.
        job.result_file.unlink(missing_ok=True)
        raise
    write_json(result_file, asdict(result))
    return result


def train_stage(
    stage: str,
    recipe: str,
    model: str,
    dataset: str,
    output_dir: str,
    place: Place,
    on_progress: Callable[[Progress], Any] | None = None,
) -> dict[str, Any]:
    """Train one stage of a recipe on its own sets of a frozen dataset; see :func:`train`.

    :param recipe: a recipe's name or file; :param model: the folder to start from.
    :param dataset: a folder with ``manifest.json``, ``train/`` and ``val/``.
    :raises MedllmError: also if the recipe or the dataset has nothing for the stage.
    """
    settings = load_recipe(recipe)
    if stage not in settings.stages:
        raise MedllmError(f"recipe {settings.name} has no stage {stage}: it has {', '.join(settings.stages)}")
    # Each step that loads the model asks again: a parameter of the run may name another folder than the recipe.
    check_remote_code(Path(model), settings.remote_code)
    manifest = read_json(Path(dataset, "manifest.json"))
    sets = {name: figures for name, figures in manifest["sets"].items() if figures["stage"] == stage}
    if not sets:
        raise MedllmError(f"dataset {dataset} has no set for stage {stage}")
    request = TrainRequest(
        stage=stage,
        recipe=settings.stages[stage],
        model_dir=Path(model),
        model_type=settings.model_type,
        template=settings.template,
        train_files=tuple(Path(dataset, "train", f"{name}.jsonl") for name in sets),
        val_files=tuple(Path(dataset, "val", f"{name}.jsonl") for name in sets),
        directory=Path(output_dir),
        torch_dtype=settings.torch_dtype,
        system=settings.system,
        tokens=sum(figures["tokens"] for figures in sets.values()),
    )
    return asdict(train(request, place, on_progress))


def _prepare(request: TrainRequest, key: str, directory: Path, place: Place) -> Job:
    """Clear away what cannot be used, and make the job that goes on from what can."""
    # A job of other settings, or one that lost its supervisor, would go on writing into the cleared folder.
    place.stop(job_id(directory))
    _start_clean_unless_same(request, key)
    resume_from = last_whole_checkpoint(request.output_dir)
    if resume_from:
        log.info("%s: going on from %s", request.stage, resume_from)
    _remove_half_checkpoints(request.output_dir)
    command = build(
        request.recipe,
        "pt" if request.stage == "pretrain" else "sft",
        model_dir=request.model_dir,
        model_type=request.model_type,
        template=request.template,
        torch_dtype=request.torch_dtype,
        system=request.system,
        train_files=request.train_files,
        val_files=request.val_files,
        output_dir=request.output_dir,
        resume_from=resume_from,
    )
    return Job(job_id(directory), key, command.argv, directory, command.env)


def _resumed_step(job: Job) -> int:
    """The step of the checkpoint that the job's command resumes from, or 0."""
    flag = "--resume_from_checkpoint"
    return step_of(Path(job.argv[job.argv.index(flag) + 1])) if flag in job.argv else 0


def _logged_step(request: TrainRequest) -> int:
    progress = read_progress(request.output_dir, 1, 0.0)
    return progress.step if progress else 0


def _count_rows(request: TrainRequest) -> tuple[int, int]:
    for path in (request.model_dir / "config.json", *request.train_files, *request.val_files):
        if not path.is_file():
            raise MedllmError(f"stage {request.stage}: {path} does not exist")
    rows = sum(count_lines(path) for path in request.train_files)
    val_rows = sum(rows_scored(path, request.recipe.eval_rows) for path in request.val_files)
    if not rows or not val_rows:
        raise MedllmError(
            f"stage {request.stage}: {rows} rows for training and {val_rows} for validation; both must have some"
        )
    return rows, val_rows


def _start_clean_unless_same(request: TrainRequest, key: str) -> None:
    """Checkpoints of other settings or data must not be resumed from."""
    mark = request.directory / "key.json"
    if mark.is_file() and read_json(mark)["key"] == key:
        return
    if request.directory.exists():
        shutil.rmtree(request.directory)
    write_json(mark, {"key": key})


def _remove_half_checkpoints(output_dir: Path) -> None:
    for path in output_dir.glob("checkpoint-*"):
        if path.is_dir() and not is_whole(path):
            log.warning("removing the half-written %s", path)
            shutil.rmtree(path)


class _Watch:
    """Tells the progress of a training from ``first_step`` on, when it moves and at most every few seconds."""

    def __init__(self, request: TrainRequest, on_progress: Callable[[Progress], Any] | None, first_step: int) -> None:
        recipe = request.recipe
        self._output_dir = request.output_dir
        self._rows_per_step = recipe.per_device_train_batch_size * (recipe.gradient_accumulation_steps or 1)
        self._stage = request.stage
        self._tell = on_progress or self._log
        self._started = time.monotonic()
        self._first_step = first_step
        self._told_step, self._told_at = _logged_step(request), 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def __call__(self) -> None:
        if self.seconds - self._told_at < (LOG_SECONDS if self._tell == self._log else 1.0):
            return
        progress = read_progress(self._output_dir, self._rows_per_step, self.seconds, self._first_step)
        if progress and progress.step != self._told_step:
            self._told_step, self._told_at = progress.step, self.seconds
            self._tell(progress)

    def _log(self, progress: Progress) -> None:
        log.info("%s: %s", self._stage, progress)


def _verify(request: TrainRequest, job: Job, rows: int, val_rows: int, seconds: float) -> TrainResult:
    """Believe the training only where its own files say so: an exit code of 0 proves nothing."""
    name = f"stage {request.stage}"
    end = read_end(request.output_dir)
    if end is None:
        raise MedllmError(f"{name}: ms-swift ended well but left no last line in {request.output_dir}/logging.jsonl")
    if end.step == 0 or end.step != end.max_steps:
        raise MedllmError(f"{name}: stopped at step {end.step} of {end.max_steps}")
    if not math.isfinite(end.loss):
        raise MedllmError(f"{name}: the loss is {end.loss} at step {end.step}: the training diverged")
    if request.recipe.packing:
        # There, the last line of logging.jsonl counts packed sequences.
        kept = parse_logged_rows(job.log.read_text(encoding="utf-8", errors="replace"))
    else:
        kept = parse_kept_rows(end.summary)
    if kept != (rows, val_rows):
        raise MedllmError(f"{name}: ms-swift kept {kept} rows (train, val) of the {(rows, val_rows)} it was given")
    checkpoint = end.best_checkpoint if request.recipe.checkpoint == "best" else end.last_checkpoint
    if checkpoint is None or not checkpoint.is_dir():
        raise MedllmError(f"{name}: no {request.recipe.checkpoint} checkpoint in {request.output_dir}")
    steps = end.step - _resumed_step(job)
    seen = steps * request.recipe.per_device_train_batch_size * (request.recipe.gradient_accumulation_steps or 1)
    return TrainResult(
        key=job.key,
        stage=request.stage,
        steps=end.step,
        max_steps=end.max_steps,
        loss=end.loss,
        eval_loss=end.eval_loss,
        seconds=seconds,
        rows=rows,
        val_rows=val_rows,
        tokens_per_second=request.tokens / rows * seen / seconds,
        checkpoint=str(checkpoint),
        output_dir=str(request.output_dir),
    )
