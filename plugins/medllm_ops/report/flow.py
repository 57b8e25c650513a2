"""The way of each source's rows through the steps, put together from the ledgers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from medllm_ops.report.model import DataSet, DropStep, LedgerRow, SourceFlow

STAGE_OFF = "its stage is off"


def source_of(set_name: str, sources: Collection[str]) -> str | None:
    """The source of a set: a source whose records are of both kinds makes two, ``<source>_<stage>``."""
    if set_name in sources:
        return set_name
    return next((name for name in sources if set_name.startswith(f"{name}_")), None)


def subject(row: LedgerRow) -> str:
    """What a ledger row is about: ``alpaca`` for ``split alpaca``."""
    return row.step.partition(" ")[2]


def source_flows(
    convert: Mapping[str, LedgerRow],
    deduplicate: Sequence[LedgerRow],
    split: Sequence[LedgerRow],
    export: Sequence[LedgerRow],
    sets: Sequence[DataSet],
) -> list[SourceFlow]:
    """Follow the rows of every source.

    Deduplication is over all sources at once, so its ledger has no counts by source: they are what is missing
    between conversion and split.
    """
    reasons = " or ".join(dict.fromkeys(reason for row in deduplicate for reason in row.dropped)) or "not handed on"
    flows = []
    for source, row in convert.items():
        own_split = [each for each in split if source_of(subject(each), convert) == source]
        own_export = [each for each in export if source_of(subject(each), convert) == source]
        own_sets = [each for each in sets if source_of(each.name, convert) == source]
        unique = sum(each.rows_in for each in own_split) if split else None
        dropped: dict[DropStep, dict[str, int]] = {"convert": dict(row.dropped)}
        if unique is not None and unique < row.rows_out:
            dropped["deduplicate"] = {reasons: row.rows_out - unique}
        dropped["split"] = _sum(own_split)
        dropped["export"] = _sum(own_export)
        exported = {subject(each) for each in own_export}
        off = sum(each.rows_out for each in own_split if subject(each) not in exported) if export else 0
        if off:
            dropped["export"][STAGE_OFF] = off
        flows.append(
            SourceFlow(
                source=source,
                raw=row.rows_in,
                converted=row.rows_out,
                unique=unique,
                train=sum(each.train for each in own_sets) if sets else None,
                val=sum(each.val for each in own_sets) if sets else None,
                dropped={step: rows for step, rows in dropped.items() if rows},
            )
        )
    return flows


def _sum(ledger: Sequence[LedgerRow]) -> dict[str, int]:
    total: dict[str, int] = {}
    for row in ledger:
        for reason, rows in row.dropped.items():
            total[reason] = total.get(reason, 0) + rows
    return total
