"""Which runs trained on which dataset, and which models and services came of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm_ops.datasets.store import MANIFEST, Dataset, of_folder
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json
from medllm_ops.home import home
from medllm_ops.parameters import STAGES
from medllm_ops.serving.registry import Service, known_services


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A run with its dataset, and the models it has by now: stage to folder, in the order of the stages.

    ``dataset`` is the one that its rows were taken from; ``seen`` what was made of that for its own stages.
    """

    directory: Path
    dataset: Dataset
    seen: Dataset
    stages: tuple[str, ...]
    models: dict[str, Path]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.directory.name

    def models_after(self, stages: Iterable[str]) -> dict[str, Path]:
        """The models that one of these stages made, or that were trained on from there."""
        first = min((STAGES.index(stage) for stage in stages if stage in self.stages), default=len(STAGES))
        return {stage: path for stage, path in self.models.items() if STAGES.index(stage) >= first}


def trained_runs() -> Iterator[TrainedRun]:
    """All runs that have come so far that they have a dataset, by name."""
    for path in sorted((home() / "runs").glob("*/run.json")):
        # ``latest`` is a link to another of them.
        if not path.parent.is_symlink() and (run := _read(path.parent)):
            yield run


def find_run(name: str) -> TrainedRun:
    """A run by its name or folder; ``latest`` is the last one that finished.

    :raises MedllmError: if there is no such run, or it has no dataset yet.
    """
    folder = (Path(name) if "/" in name else home() / "runs" / name).resolve()
    if not (folder / "run.json").is_file():
        raise MedllmError(f"there is no run {name!r} (runs: {', '.join(run.name for run in trained_runs()) or 'none'})")
    if run := _read(folder):
        return run
    raise MedllmError(f"run {folder.name} has no dataset yet: nothing was trained")


def run_of_model(model: Path) -> TrainedRun:
    """The run that a model's folder lies in.

    :raises MedllmError: if it lies in none.
    """
    folder = model.expanduser().resolve()
    for parent in folder.parents:
        if (parent / "run.json").is_file():
            return find_run(str(parent))
    raise MedllmError(f"{model} does not lie in the folder of a run: nobody knows what it was trained on")


def stage_of(run: TrainedRun, source: str) -> str | None:
    """The stage that trains on a set, as far as it is known."""
    from medllm_ops.sources import get_source

    told = run.seen.manifest.get("sets", {}).get(source, {}).get("stage")
    if told:
        return str(told)
    try:
        return get_source(source).stage
    except MedllmError:
        return None


def services_of(models: Iterable[Path]) -> list[Service]:
    """What serves one of these models at this moment."""
    wanted = {path.resolve() for path in models}
    return [one for one in known_services() if Path(one.model).resolve() in wanted and one.running()]


def _read(folder: Path) -> TrainedRun | None:
    plan: dict[str, Any] = read_json(folder / "plan.json") if (folder / "plan.json").is_file() else {}
    # The first is a link, where the run takes a dataset that has a name.
    found = [of_folder(folder / name) for name in ("curated", "dataset") if (folder / name / MANIFEST).is_file()]
    if not found:
        return None
    stages = tuple(stage for stage in STAGES if stage in plan.get("stages", STAGES))
    models: dict[str, Path] = {stage: path for stage in stages if (path := folder / "merged" / stage).is_dir()}
    return TrainedRun(folder, found[0], found[-1], stages, models)
