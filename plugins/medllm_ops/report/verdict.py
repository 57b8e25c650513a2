"""The verdict on a run: everything that was wanted is there, every gate passed, every row is accounted for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from medllm_ops.report.collect import Collected, Ledgers
from medllm_ops.report.flow import source_of, subject, way_of
from medllm_ops.report.model import Answer, Gate, IdentityFigures, PreferenceFigures, Results
from medllm_ops.report.rows import DataSet

NOT_RUN = "not run"


def judge(collected: Collected) -> list[Gate]:
    """All gates of a run, in the order of its steps. A part that was wanted and is not there fails its gate."""
    results = collected.results
    wanted = results.wanted
    return [
        *_failed_tasks(results),
        *_ledger(collected.ledgers, results),
        Gate(
            name="dataset is frozen",
            passed=bool(results.sets),
            detail=f"{len(results.sets)} sets" if results.sets else NOT_RUN,
        ),
        *_training(results),
        *_merging(results),
        *_held_out(results),
        *collected.evaluation_gates,
        *(_preferences(results.preference) if "dpo" in wanted.stages else ()),
        *(_identity(results.identity) if "self_cognition" in wanted.stages else ()),
        *(_serving(results) if wanted.serving else ()),
    ]


def _failed_tasks(results: Results) -> Iterator[Gate]:
    for timing in results.timings:
        if timing.state == "failed":
            detail = f"failed after {timing.seconds or 0:.0f} s"
            yield Gate(name=f"task {timing.task} ends well", passed=False, detail=detail)


def _ledger(ledgers: Ledgers, results: Results) -> Iterator[Gate]:
    wanted = results.wanted
    missing = [name for name in wanted.sources if name not in ledgers.convert]
    if taken := wanted.dataset or wanted.corpus:
        name = f"the {'dataset' if wanted.dataset else 'corpus'} is taken"
        yield Gate(name=name, passed=bool(ledgers.curate), detail=taken if ledgers.curate else f"{taken}: {NOT_RUN}")
    elif missing or not wanted.sources:
        yield Gate(name="every source is converted", passed=False, detail=f"{NOT_RUN}: {', '.join(missing) or 'all'}")
    else:
        yield Gate(name="every source is converted", passed=True, detail=f"{len(wanted.sources)} sources")
    rows = ledgers.rows()
    wrong = [" ".join(filter(None, (row.step, row.source))) for row in rows if not row.balances]
    detail = f"not balanced: {', '.join(wrong)}" if wrong else f"{len(rows)} counts" if rows else NOT_RUN
    yield Gate(name="every step's ledger balances", passed=bool(rows) and not wrong, detail=detail)
    steps = {"curation": ledgers.curate, "the sets": ledgers.sets, "the export": ledgers.export}
    unknown = [f"no ledger of {step}" for step, counted in steps.items() if rows and not counted]
    lost = [*unknown, *_lost_between_steps(ledgers), *_lost_in_export(ledgers, results.sets)]
    yield Gate(
        name="no row is lost between steps",
        passed=bool(rows) and not lost,
        detail="; ".join(lost) if lost else "each step takes what the one before it gave" if rows else NOT_RUN,
    )


def _lost_between_steps(ledgers: Ledgers) -> Iterator[str]:
    """What one step gave and the next did not take, as sentences."""
    pairs = []
    sources = list(dict.fromkeys([*ledgers.convert, *(row.source for row in ledgers.curate if row.source)]))
    for source in sources:
        way = way_of(source, ledgers.curate)
        if ledgers.curate and source in ledgers.convert:
            taken = way[0].rows_in if way else 0
            pairs.append((f"conversion of {source}", ledgers.convert[source].given, "curation", taken))
        for before, after in itertools.pairwise(way):
            pairs.append((f"{before.step} of {source}", before.given, after.step, after.rows_in))
        if way and ledgers.sets:
            taken = sum(row.rows_in for row in ledgers.sets if source_of(subject(row), sources) == source)
            pairs.append((f"{way[-1].step} of {source}", way[-1].given, "the sets", taken))
    exports = {subject(row): row for row in ledgers.export}
    for row in ledgers.sets:
        taken = exports[subject(row)].rows_in if subject(row) in exports else 0
        if ledgers.export:
            pairs.append((row.step, row.given, f"export {subject(row)}", taken))
    for giver, given, taker, taken in pairs:
        if given != taken:
            yield f"{giver} gave {given} rows, {taker} took {taken}"


def _lost_in_export(ledgers: Ledgers, sets: Iterable[DataSet]) -> Iterator[str]:
    """Where the frozen dataset has other rows than its ledger tells, as sentences."""
    given = {subject(row): row.given for row in ledgers.export}
    for each in sets:
        if ledgers.export and given.get(each.name, 0) != each.train + each.val:
            yield f"export {each.name} gave {given.get(each.name, 0)} rows, the dataset has {each.train + each.val}"


def _training(results: Results) -> Iterator[Gate]:
    figures = {stage.name: stage for stage in results.stages}
    for stage in results.wanted.stages:
        name = f"{stage} is trained to its last step"
        if (found := figures.get(stage)) is None:
            yield Gate(name=name, passed=False, detail=NOT_RUN)
            continue
        loss = "no finite loss" if found.loss is None else f"loss {found.loss:.4f}"
        passed = 0 < found.steps == found.max_steps and found.loss is not None
        yield Gate(name=name, passed=passed, detail=f"{found.steps} of {found.max_steps} steps, {loss}")


def _merging(results: Results) -> Iterator[Gate]:
    proofs = {merge.stage: merge for merge in results.merges}
    for stage in results.wanted.stages:
        name = f"merge of {stage} is proven"
        if (proof := proofs.get(stage)) is None:
            yield Gate(name=name, passed=False, detail=NOT_RUN)
            continue
        difference = "not compared" if proof.max_abs_diff is None else f"differ by {proof.max_abs_diff:.3g}"
        allowed = "" if proof.tolerance is None else f", {proof.tolerance:.3g} allowed"
        yield Gate(name=name, passed=proof.passed, detail=f"weights {difference}{allowed}")


def _held_out(results: Results) -> Iterator[Gate]:
    # An alignment alone has no sets of its own whose loss could be measured.
    if results.heldout or {"pretrain", "sft"} & set(results.wanted.stages):
        sets = [each.name for each in results.sets if each.stage in ("pretrain", "sft")]
        missing = [name for name in sets if name not in results.heldout]
        detail = f"not of {', '.join(missing)}" if missing else f"{len(results.heldout)} sources"
        passed = bool(results.heldout) and not missing
        yield Gate(name="held-out loss is measured", passed=passed, detail=detail if results.heldout else NOT_RUN)


def _preferences(preference: PreferenceFigures | None) -> list[Gate]:
    if preference is None:
        return [Gate(name="alignment prefers the better answers", passed=False, detail=NOT_RUN)]
    return preference.gates


def _identity(identity: IdentityFigures | None) -> Iterator[Gate]:
    if identity is None:
        yield Gate(name="the model knows who it is", passed=False, detail=NOT_RUN)
        return
    enforced = identity.enforced
    yield _answers("the model knows who it is", identity.prompts, enforced)
    yield _answers("control questions get no name for an answer", identity.controls, enforced)
    loss = identity.control_loss
    if loss is not None:
        kept = loss.ratio is not None and loss.limit is not None and loss.ratio <= loss.limit
        ratio = "not finite" if loss.ratio is None else f"{loss.ratio:.3f}"
        detail = f"loss after / before is {ratio}, at most {loss.limit}"
        yield Gate(name="what it knew is kept", passed=kept, detail=detail, enforced=enforced)
    # The file's own word counts too: it may know of a check that this report does not.
    detail = "as evaluated" if identity.passed else "failed"
    yield Gate(name="identity gate as a whole", passed=identity.passed, detail=detail, enforced=enforced)


def _answers(name: str, answers: list[Answer], enforced: bool) -> Gate:
    good = sum(answer.ok for answer in answers)
    detail = f"{good} of {len(answers)} answers"
    return Gate(name=name, passed=bool(answers) and good == len(answers), detail=detail, enforced=enforced)


def _serving(results: Results) -> Iterator[Gate]:
    serving = results.serving
    detail = NOT_RUN if serving is None else f"{serving.served_model_name} answered a prompt at {serving.url}"
    if serving is not None and not serving.answer.strip():
        detail = f"{serving.served_model_name} gave an empty answer"
    passed = serving is not None and bool(serving.answer.strip())
    enforced = serving is None or serving.enforced
    yield Gate(name="the model is served and answers", passed=passed, detail=detail, enforced=enforced)
