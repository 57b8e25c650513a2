"""The way of each source's rows through the steps, put together from the ledgers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from medllm_ops.report.rows import DataSet, DropStep, LedgerRow, SourceFlow

UNIQUE_AFTER: Final = "near dedup"
_SHOWN_AS: Final[Mapping[str, DropStep]] = {
    "read": "clean",
    "clean": "clean",
    "scrub": "clean",
    "exact dedup": "deduplicate",
    "near dedup": "deduplicate",
    "decontaminate": "decontaminate",
    "split": "split",
    "sample": "split",
    "chunk": "chunk",
    "sets": "chunk",
    "export": "export",
}


def source_of(set_name: str, sources: Collection[str]) -> str | None:
    """The source of a set: a source whose records are of both kinds makes two, ``<source>_<stage>``."""
    if set_name in sources:
        return set_name
    return next((name for name in sources if set_name.startswith(f"{name}_")), None)


def subject(row: LedgerRow) -> str:
    """What a ledger row is about: ``alpaca`` for ``export alpaca``."""
    return row.step.partition(" ")[2]


def way_of(source: str, rows: Sequence[LedgerRow]) -> list[LedgerRow]:
    """The rows of curation's ledger that count a source, in order."""
    return [row for row in rows if row.source == source]


def source_flows(
    convert: Mapping[str, LedgerRow],
    curate: Sequence[LedgerRow],
    arranged: Sequence[LedgerRow],
    export: Sequence[LedgerRow],
    sets: Sequence[DataSet],
) -> list[SourceFlow]:
    """Follow the rows of every source.

    A run that takes a dataset has no conversion: its raw rows are those that were read for the dataset.
    """
    sources = list(dict.fromkeys([*convert, *(row.source for row in curate if row.source)]))
    flows = []
    for source in sources:
        own_curate = way_of(source, curate)
        own_sets = [row for row in arranged if source_of(subject(row), sources) == source]
        own_export = [row for row in export if source_of(subject(row), sources) == source]
        own_data = [each for each in sets if source_of(each.name, sources) == source]
        first = convert.get(source) or own_curate[0]
        dropped: dict[DropStep, dict[str, int]] = {}
        if source in convert:
            dropped["convert"] = dict(convert[source].dropped)
        for row in own_curate:
            _add(dropped, _SHOWN_AS[row.step], row)
        for row in own_sets:
            _add(dropped, _SHOWN_AS["sets"], row)
        for row in own_export:
            _add(dropped, _SHOWN_AS["export"], row)
        flows.append(
            SourceFlow(
                source=source,
                raw=first.rows_in,
                converted=own_curate[0].rows_in if source not in convert else first.rows_out,
                unique=next((row.rows_out for row in own_curate if row.step == UNIQUE_AFTER), None),
                train=sum(each.train for each in own_data) if sets else None,
                val=sum(each.val for each in own_data) if sets else None,
                dropped={step: reasons for step, reasons in dropped.items() if any(reasons.values())},
                cut=sum(row.given - row.rows_out for row in [*own_curate, *own_sets, *own_export]),
            )
        )
    return flows


def _add(dropped: dict[DropStep, dict[str, int]], step: DropStep, row: LedgerRow) -> None:
    total = dropped.setdefault(step, {})
    for reason, rows in row.dropped.items():
        total[reason] = total.get(reason, 0) + rows
