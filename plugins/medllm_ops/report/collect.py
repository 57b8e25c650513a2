"""Read what the steps of a run left on disk. A step that was not run leaves nothing, and that is no error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json
from medllm_ops.parameters import STAGES
from medllm_ops.report.flow import source_flows
from medllm_ops.report.model import (
    Answer,
    ControlLoss,
    Curve,
    Extremes,
    Gate,
    IdentityFigures,
    LogitsProof,
    MergeFigures,
    ModelFigures,
    ModelLabel,
    Point,
    PreferenceFigures,
    Ranking,
    Results,
    RewardCurve,
    ServingFigures,
    StageFigures,
    Timing,
    Wanted,
)
from medllm_ops.report.part import Part
from medllm_ops.report.rows import DataSet, LedgerRow
from medllm_ops.swift.progress import STEP_KEY, read_log, rewards_of

REPORT_TASK = "report"
MAX_POINTS = 1000

AnyPart = TypeVar("AnyPart", bound=Part)
Taken = TypeVar("Taken")


@dataclass(slots=True)
class Ledgers:
    """The ledger rows by the step that wrote them, each list in the order of the rows' way."""

    convert: dict[str, LedgerRow] = field(default_factory=dict)
    curate: list[LedgerRow] = field(default_factory=list)
    sets: list[LedgerRow] = field(default_factory=list)
    export: list[LedgerRow] = field(default_factory=list)

    def rows(self) -> list[LedgerRow]:
        """All of them, in order."""
        return [*self.convert.values(), *self.curate, *self.sets, *self.export]


@dataclass(frozen=True, slots=True)
class Collected:
    """The results, and what only the verdict needs: the ledgers by step, and the evaluation's own gates."""

    results: Results
    ledgers: Ledgers
    evaluation_gates: list[Gate]


class _RunFiles:
    """The JSON files of a run, with the time of the newest one that was read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.newest = 0.0

    def take(self, how: Callable[[Any], Taken], *parts: str) -> Taken | None:
        """What ``how`` makes of a file's content, or None if there is no such file.

        :raises MedllmError: naming the file, if its content is not what its step writes.
        """
        path = self.directory.joinpath(*parts)
        if not path.is_file():
            return None
        self.newest = max(self.newest, path.stat().st_mtime)
        try:
            return how(read_json(path))
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise MedllmError(f"{path} is not what its step writes ({reason}): run that step again") from error

    def names(self, folder: str) -> list[str]:
        """The names of the folders in a folder, sorted; hidden ones are half-made."""
        paths = sorted(self.directory.joinpath(folder).glob("*/"))
        return [path.name for path in paths if not path.name.startswith(".")]


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """What the evaluation measured: losses by source and model, scored rows by source, and its own gates."""

    losses: dict[str, dict[ModelLabel, Any]]
    rows: dict[str, int]
    gates: list[Gate]

    @classmethod
    def from_row(cls, row: Any) -> _HeldOut:
        sources = row["sources"].items()
        return cls(
            {name: dict(source["losses"]) for name, source in sources},
            {name: source["rows"] for name, source in sources},
            [pick(Gate, gate) for gate in row["gates"]],
        )


def collect(directory: Path) -> Collected:
    """Read a run's directory.

    :raises MedllmError: if there is no such directory, or a file in it is not what its step writes.
    """
    if not directory.is_dir():
        raise MedllmError(f"no report can be made: the run directory {directory} does not exist")
    files = _RunFiles(directory)
    run = files.take(dict, "run.json") or {}
    parameters = run.get("parameters", {})
    plan = files.take(dict, "plan.json") or {}
    wanted = Wanted(
        sources=list(plan.get("sources", [])) or files.names("convert"),
        corpus="version {version} of {url}".format(**plan["corpus"]) if plan.get("corpus") else None,
        dataset=plan.get("dataset"),
        stages=plan.get("stages") or [stage for stage in STAGES if parameters.get(stage, stage != "dpo")],
        serving=parameters.get("serve", True),
    )
    ledgers = _ledgers(files, wanted.sources)
    held_out = files.take(_HeldOut.from_row, "evaluation", "heldout.json") or _HeldOut({}, {}, [])
    sets = files.take(partial(_sets, held_out), "dataset", "manifest.json") or []
    stages = [each for stage in wanted.stages if (each := _stage(files, stage))]
    merges = [proof for stage in wanted.stages if (proof := files.take(_merge, "merged", stage, "merge.json"))]
    preference = files.take(_preference, "evaluation", "preference.json")
    identity = files.take(_identity, "evaluation", "identity.json")
    serving = files.take(partial(pick, ServingFigures), "serving", "serving.json")
    # The report's own task still runs while the report is written.
    timings = [each for each in files.take(_timings, "timings.json") or [] if each.task != REPORT_TASK]
    started = run.get("started")
    finished = datetime.fromtimestamp(files.newest).astimezone() if files.newest else None
    results = Results(
        run=run.get("run", directory.name),
        started=started,
        finished=finished.isoformat(timespec="seconds") if finished else None,
        seconds=_seconds(timings, started, finished),
        parameters=parameters,
        wanted=wanted,
        model=_model(directory, plan, merges),
        sources=source_flows(ledgers.convert, ledgers.curate, ledgers.sets, ledgers.export, sets),
        sets=sets,
        ledger=ledgers.rows(),
        stages=stages,
        merges=merges,
        heldout=held_out.losses,
        preference=preference,
        identity=identity,
        serving=serving,
        timings=timings,
    )
    return Collected(results, ledgers, held_out.gates)


def pick(kind: type[AnyPart], row: Mapping[str, Any]) -> AnyPart:
    """Make a part of the report from a step's result, which may tell more than the report does."""
    return kind.model_validate({name: row[name] for name in kind.model_fields if name in row})


def _ledgers(files: _RunFiles, sources: Iterable[str]) -> Ledgers:
    def rows(folder: str) -> list[LedgerRow]:
        return files.take(lambda ledger: [LedgerRow.model_validate(row) for row in ledger], folder, "ledger.json") or []

    ledgers = Ledgers(curate=rows("curated"), sets=rows("sets"), export=rows("dataset"))
    for name in sources:
        if row := files.take(LedgerRow.model_validate, "convert", name, "ledger.json"):
            ledgers.convert[name] = row
    return ledgers


def _sets(held_out: _HeldOut, manifest: Any) -> list[DataSet]:
    return [
        pick(DataSet, {**figures, "name": name, "heldout_rows": held_out.rows.get(name)})
        for name, figures in manifest["sets"].items()
    ]


def _stage(files: _RunFiles, stage: str) -> StageFigures | None:
    # The log of a resumed training has some steps twice: the later line is the one that counts.
    train: dict[int, Any] = {}
    val: dict[int, Any] = {}
    rewards: dict[str, dict[int, Any]] = {}
    for line in read_log(files.directory / "stages" / stage / "output"):
        if STEP_KEY in line:
            step = int(line[STEP_KEY].partition("/")[0])
            if "loss" in line:
                train[step] = line["loss"]
            if "eval_loss" in line:
                val[step] = line["eval_loss"]
            for name, value in rewards_of(line).items():
                rewards.setdefault(name, {})[step] = value
    curves = {
        "curve": Curve(train=_thinned(train), val=_thinned(val)),
        "reward_curve": RewardCurve.model_validate({name: _thinned(points) for name, points in rewards.items()}),
    }
    return files.take(
        lambda row: pick(StageFigures, {**row, "name": row["stage"], **curves}), "stages", stage, "result.json"
    )


def _thinned(losses: Mapping[int, Any]) -> list[Point]:
    """At most ``MAX_POINTS`` of the points, evenly over the steps, the first and the last among them."""
    points = sorted(losses.items())
    if len(points) <= MAX_POINTS:
        return points
    last = len(points) - 1
    return [points[round(number * last / (MAX_POINTS - 1))] for number in range(MAX_POINTS)]


def _timings(rows: Any) -> list[Timing]:
    return [pick(Timing, row) for row in rows]


def _merge(row: Mapping[str, Any]) -> MergeFigures:
    logits, change = pick(LogitsProof, row.get("logits", {})), pick(Extremes, row.get("relative_change", {}))
    return pick(MergeFigures, {**row, "logits": logits, "relative_change": change})


def _identity(row: Mapping[str, Any]) -> IdentityFigures:
    answers = {kind: [pick(Answer, answer) for answer in row[kind]] for kind in ("prompts", "controls")}
    loss = pick(ControlLoss, row["control_loss"]) if row.get("control_loss") else None
    return pick(IdentityFigures, {**row, **answers, "control_loss": loss})


def _preference(row: Mapping[str, Any]) -> PreferenceFigures:
    gates = [pick(Gate, gate) for gate in row["gates"]]
    return pick(PreferenceFigures, {**row, "gates": gates, "ranking": pick(Ranking, row["ranking"])})


def _model(directory: Path, plan: Mapping[str, Any], merges: list[MergeFigures]) -> ModelFigures:
    proven = [merge.stage for merge in merges if merge.passed]
    final = proven[-1] if proven else None
    folder = str(directory / "merged" / final) if final else None
    return ModelFigures(base=plan.get("model"), final=folder, final_stage=final)


def _seconds(timings: Iterable[Timing], started: str | None, finished: datetime | None) -> float | None:
    """The sum of all tasks; where nobody timed them (Airflow does it itself), the time from start to last result."""
    timed = [timing.seconds or 0.0 for timing in timings]
    if timed:
        return sum(timed)
    if started is None or finished is None:
        return None
    begin = datetime.fromisoformat(started)
    return max(0.0, (finished - (begin if begin.tzinfo else begin.astimezone())).total_seconds())
