"""The way of the rows of each source through the steps, and the equations that must hold on it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator

from medllm_ops.report.data.contents import Contents
from medllm_ops.report.data.dataset import DatasetFiles, Removed, step_order
from medllm_ops.report.data.model import Account, FileFigures, Funnel, Reason, Sample
from medllm_ops.report.rows import LedgerRow


def funnels(dataset: DatasetFiles) -> list[Funnel]:
    """The steps of each source, in order; a source that lost all its rows is among them."""
    steps: dict[str, list[LedgerRow]] = {name: [] for name in dataset.sources}
    for step in dataset.ledger():
        steps.setdefault(step.source or "", []).append(step)
    found = []
    for source, own in sorted(steps.items()):
        own.sort(key=lambda step: step_order(step.step))
        figures = dataset.sources.get(source, {"train": 0, "val": 0})
        read = own[0].rows_in if own else 0
        found.append(Funnel(source=source, read=read, train=figures["train"], val=figures["val"], steps=own))
    return found


def accounts(sources: list[Funnel], removed: Removed, contents: Contents) -> list[Account]:
    """Everything that must be equal, checked."""
    steps = [(funnel.source, step) for funnel in sources for step in funnel.steps]
    reasons = [(step.step, source, reason, rows) for source, step in steps for reason, rows in step.dropped.items()]
    listed = Counter(removed.rows)
    return [
        Account(
            name="in = out + dropped, in every step of every source",
            checked=len(steps),
            wrong=[
                f"{step.step} of {source}: {step.rows_in:,} in, {step.rows_out:,} out and "
                f"{sum(step.dropped.values()):,} dropped"
                for source, step in steps
                if not step.balances
            ],
        ),
        Account(
            name="each step takes what the one before it gave",
            checked=sum(max(0, len(funnel.steps) - 1) for funnel in sources),
            wrong=list(_lost(sources)),
        ),
        Account(
            name="every dropped row is listed with its reason in removed.jsonl",
            checked=len(reasons),
            wrong=list(_unlisted(reasons, listed)),
        ),
        Account(
            name="what the last step gave was written, to train or to val",
            checked=len(sources),
            wrong=[
                f"the last step of {funnel.source} gave {given:,} rows, {funnel.train + funnel.val:,} were written"
                for funnel in sources
                if (given := _given(funnel)) != funnel.train + funnel.val
            ],
        ),
        Account(
            name="the files hold the rows and have the hashes that the manifest tells",
            checked=len(contents.files),
            wrong=[sentence for file in contents.files if (sentence := _differs(file))],
        ),
    ]


def _lost(sources: list[Funnel]) -> Iterator[str]:
    for funnel in sources:
        for before, after in itertools.pairwise(funnel.steps):
            if before.rows_out != after.rows_in:
                yield (
                    f"{before.step} of {funnel.source or 'no source'} gave {before.rows_out:,} rows, {after.step} took "
                    f"{after.rows_in:,}"
                )


def _unlisted(reasons: list[tuple[str, str, str, int]], listed: Counter[tuple[str, str, str]]) -> Iterator[str]:
    told: Counter[tuple[str, str, str]] = Counter()
    for step, source, reason, rows in reasons:
        told[step, source, reason] += rows
    for step, source, reason in sorted(told | listed, key=lambda key: (step_order(key[0]), key)):
        one, other = told[step, source, reason], listed[step, source, reason]
        if one != other:
            yield f"{step} of {source or 'no source'}, {reason}: {one:,} in the ledger, {other:,} in removed.jsonl"


def _given(funnel: Funnel) -> int:
    return funnel.steps[-1].given if funnel.steps else 0


def _differs(file: FileFigures) -> str:
    name = f"{file.side}/{file.source}.jsonl"
    if file.rows != file.rows_told:
        return f"{name} has {file.rows:,} rows, the manifest tells {file.rows_told:,}"
    if file.hash_told is not None and file.hash != file.hash_told:
        return f"{name} was changed after it was written"
    return ""


def reasons_of(
    sources: Iterable[Funnel], removed: Removed, samples: dict[tuple[str, str], list[Sample]]
) -> list[Reason]:
    """Every reason of every step with some rows: those with a text before those of which only the id is known."""
    rows: Counter[tuple[str, str]] = Counter()
    for funnel in sources:
        for step in funnel.steps:
            for reason, count in step.dropped.items():
                rows[step.step, reason] += count
    return [
        Reason(step=key[0], reason=key[1], rows=count, samples=samples.get(key) or removed.samples.get(key, []))
        for key, count in sorted(rows.items(), key=lambda item: (step_order(item[0][0]), -item[1], item[0]))
        if count
    ]
