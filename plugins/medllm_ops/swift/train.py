"""One training stage: from a request to a proven result, resumed where an earlier attempt stopped."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from medllm_ops.compute.job import Job, Place, job_id
from medllm_ops.errors import MedllmError
from medllm_ops.files import count_lines, read_json, write_json
from medllm_ops.models.resolve import check_remote_code
from medllm_ops.swift import frozen
from medllm_ops.swift.attempts import read_attempts
from medllm_ops.swift.command import parse_kept_rows, parse_logged_rows, rows_repeated, rows_scored
from medllm_ops.swift.environment import process_environment
from medllm_ops.swift.leftovers import refuse_unless_ours, start_clean_unless_same
from medllm_ops.swift.progress import Progress, read_end, read_progress
from medllm_ops.swift.recipe import StageRecipe, load_recipe
from medllm_ops.swift.recipe_stage import MOST
from medllm_ops.swift.request import TrainRequest

REQUEST_FILE = "request.json"
log = logging.getLogger(__name__)

LOG_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished stage. ``loss`` is the last logged training loss; ``seconds`` is the wall time of the last attempt.

    ``rewards`` has the last logged margins and accuracies of an alignment; see
    :func:`medllm_ops.swift.progress.rewards_of`. ``attempts`` tells every start of ms-swift, with its cause of ending
    and what was changed for the next one.
    """

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
    attempts: list[dict[str, Any]] = field(default_factory=list)
    rewards: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Training:
    """A training that was begun, or one that was finished before: then without a job."""

    request: TrainRequest
    rows: int
    val_rows: int
    job: Job | None
    result: TrainResult | None = None

    def finish(self, place: Place, on_progress: Callable[[Progress], Any] | None = None) -> TrainResult:
        """Wait for the end, and prove it.

        :raises MedllmError: as :func:`train`.
        """
        if self.job is None:
            assert self.result is not None
            return self.result
        place.wait(self.job, _Watch(self.request, on_progress))
        try:
            result = _verify(self.request, self.job, self.rows, self.val_rows)
        except MedllmError:
            # It ended with exit code 0 and is no success: the next try must not take it for one.
            self.job.result_file.unlink(missing_ok=True)
            raise
        write_json(self.request.directory / "result.json", asdict(result))
        return result


def read_result(stage_dir: Path) -> TrainResult | None:
    """The result of a stage, if it was ever finished; its folders are named as they lie now."""
    path = stage_dir / "result.json"
    if not path.is_file():
        return None
    done = TrainResult(**read_json(path))
    # The whole run may have been moved, or restored elsewhere.
    output = stage_dir / "output"
    return replace(done, checkpoint=str(output / Path(done.checkpoint).name), output_dir=str(output))


def begin(request: TrainRequest, place: Place) -> Training:
    """Submit a training, or find it again, or the result that is already there.

    :raises MedllmError: if the data are empty, missing or no rows, or the folder holds what no training has made.
    """
    result_file = request.directory / "result.json"
    rows, val_rows = _count_rows(request)
    key = request.key()
    # Before its result is read, or removed: it may be of something else.
    refuse_unless_ours(request.directory, key)
    if (done := read_result(request.directory)) and done.key == key and Path(done.checkpoint).is_dir():
        log.info("%s: already trained, %s", request.stage, done.checkpoint)
        return Training(request, rows, val_rows, None, done)
    result_file.unlink(missing_ok=True)
    directory = request.directory / "job"
    if not place.running(directory, key):
        for path in (*request.train_files, *request.val_files):
            # ms-swift would need minutes to say that one is none, and not which.
            for _ in frozen.read_rows(path):
                pass
        # A job of other settings, or one that lost its supervisor, would go on writing into the cleared folder.
        place.stop(directory)
        start_clean_unless_same(request.directory, key)
        write_json(directory / REQUEST_FILE, request.to_row())
    argv = (sys.executable, "-m", "medllm_ops.swift.attempts", str(directory / REQUEST_FILE))
    environment = process_environment(request.directory / "cache")
    job = place.submit(
        Job(job_id(directory), key, argv, directory, environment, request.recipe.gpus, request.recipe.nodes)
    )
    return Training(request, rows, val_rows, job)


def train(request: TrainRequest, place: Place, on_progress: Callable[[Progress], Any] | None = None) -> TrainResult:
    """Train, or return the result that is already there, or go on from the last whole checkpoint.

    :raises MedllmError: if the data are empty, the training failed, stopped short of its steps, diverged, or kept
        other rows than it was given.
    """
    return begin(request, place).finish(place, on_progress)


def stage_request(stage: str, recipe: str, model: str, dataset: str, output_dir: str) -> TrainRequest:
    """The training of one stage of a recipe on its own sets of a frozen dataset.

    :param recipe: a recipe's name or file; :param model: the folder to start from.
    :param dataset: a folder with ``manifest.json``, ``train/`` and ``val/``.
    :raises MedllmError: if the recipe or the dataset has nothing for the stage.
    """
    settings = load_recipe(recipe)
    if stage not in settings.stages:
        raise MedllmError(f"recipe {settings.name} has no stage {stage}: it has {', '.join(settings.stages)}")
    # Each step that loads the model asks again: a parameter of the run may name another folder than the recipe.
    check_remote_code(Path(model), settings.remote_code)
    sets = frozen.sets_of(Path(dataset), stage)
    if not sets:
        raise MedllmError(f"dataset {dataset} has no set for stage {stage}")
    return TrainRequest(
        stage=stage,
        recipe=_with_length(settings.stages[stage], sets),
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


def _with_length(recipe: StageRecipe, sets: Mapping[str, Any]) -> StageRecipe:
    """The settings of a stage with the length that its rows were made to fit, where the recipe names none.

    ms-swift would take a length of its own from the model's configuration, which can be another one.
    """
    longest = max((int(figures.get("max_length", 0)) for figures in sets.values()), default=0)
    if recipe.max_length is not None or not 0 < longest <= MOST:
        return recipe
    return recipe.model_copy(update={"max_length": longest})


def train_stage(
    stage: str,
    recipe: str,
    model: str,
    dataset: str,
    output_dir: str,
    place: Place,
    on_progress: Callable[[Progress], Any] | None = None,
) -> dict[str, Any]:
    """Train one stage; see :func:`stage_request` and :func:`train`."""
    return asdict(train(stage_request(stage, recipe, model, dataset, output_dir), place, on_progress))


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
    if min(rows, val_rows) < (ranks := request.recipe.ranks):
        raise MedllmError(
            f"stage {request.stage}: {rows} rows for training and {val_rows} for validation are fewer than its {ranks} "
            "GPUs: lower gpus or nodes in the recipe"
        )
    return rows, val_rows


class _Watch:
    """Tells the progress of a training when it moves and at most every few seconds.

    The pace is that of the steps which it has seen made: its job may have run for hours before it was found again.
    """

    def __init__(self, request: TrainRequest, on_progress: Callable[[Progress], Any] | None) -> None:
        self._output_dir = request.output_dir
        self._rows_per_step = request.recipe.rows_a_step
        self._stage = request.stage
        self._tell = on_progress or self._log
        self._started = time.monotonic()
        self._told_step, self._told_at = _logged_step(request), 0.0
        self._first_step, self._since = -1, 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def __call__(self) -> None:
        if self.seconds - self._told_at < (LOG_SECONDS if self._tell == self._log else 1.0):
            return
        now = self.seconds
        progress = read_progress(self._output_dir, self._rows_per_step, now - self._since, self._first_step)
        if progress and progress.step != self._told_step:
            if self._first_step < 0 or progress.step < self._first_step:
                self._first_step, self._since = progress.step, now
                progress = replace(progress, seconds=0.0, rows_per_second=None, first_step=progress.step)
            self._told_step, self._told_at = progress.step, now
            self._tell(progress)

    def _log(self, progress: Progress) -> None:
        log.info("%s: %s", self._stage, progress)


def _verify(request: TrainRequest, job: Job, rows: int, val_rows: int) -> TrainResult:
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
    if kept != (rows + rows_repeated(rows, request.recipe.ranks), val_rows):
        raise MedllmError(f"{name}: ms-swift kept {kept} rows (train, val) of the {(rows, val_rows)} it was given")
    checkpoint = end.best_checkpoint if request.recipe.checkpoint == "best" else end.last_checkpoint
    if checkpoint is None or not checkpoint.is_dir():
        raise MedllmError(f"{name}: no {request.recipe.checkpoint} checkpoint in {request.output_dir}")
    attempts = read_attempts(request)
    last = attempts[-1]
    seen = (end.step - last.first_step) * last.batch * last.accumulation * request.recipe.ranks
    return TrainResult(
        key=job.key,
        stage=request.stage,
        steps=end.step,
        max_steps=end.max_steps,
        loss=end.loss,
        eval_loss=end.eval_loss,
        seconds=last.seconds,
        rows=rows,
        val_rows=val_rows,
        tokens_per_second=request.tokens / rows * seen / last.seconds,
        checkpoint=str(checkpoint),
        output_dir=str(request.output_dir),
        attempts=[asdict(attempt) for attempt in attempts],
        rewards=end.rewards,
    )
