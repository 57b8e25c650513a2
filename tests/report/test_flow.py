from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm_ops.files import read_json, write_json
from medllm_ops.report.build import build_report
from medllm_ops.report.flow import source_flows, source_of
from medllm_ops.report.rows import DataSet, LedgerRow

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NO_MORE = {"source": None, "pieces": None, "shortened": None}
ROWS = st.integers(0, 2**53)
LEDGER_ROW = st.fixed_dictionaries(
    {"step": TEXT, "in": ROWS, "out": ROWS, "dropped": st.dictionaries(TEXT, ROWS, max_size=4)}
)


@settings(max_examples=50)
@given(converted=LEDGER_ROW, exported=st.lists(LEDGER_ROW, max_size=4))
def test_any_ledger_row_survives_the_round_trip(converted: dict[str, Any], exported: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        write_json(Path(folder, "convert", "any", "ledger.json"), converted)
        write_json(Path(folder, "dataset", "ledger.json"), exported)
        report = build_report(Path(folder), {})
        told = read_json(Path(folder, "report.json"))["ledger"]
        assert told == [{**row, **NO_MORE} for row in [converted, *exported]]
    by_gate = {gate.name: gate.passed for gate in report.gates}
    balances = [row["in"] == row["out"] + sum(row["dropped"].values()) for row in [converted, *exported]]
    assert by_gate["every step's ledger balances"] is all(balances)


def test_every_raw_row_is_accounted_for(run_dir: Path) -> None:
    flows = {flow.source: flow for flow in build_report(run_dir).sources}
    for flow in flows.values():
        dropped = sum(sum(reasons.values()) for reasons in flow.dropped.values())
        assert flow.train is not None
        assert flow.val is not None
        assert flow.raw + flow.cut == flow.train + flow.val + dropped
    pubmed = flows["pubmed"]
    assert (pubmed.raw, pubmed.converted, pubmed.unique, pubmed.train, pubmed.val) == (142, 132, 128, 113, 14)
    assert pubmed.dropped == {
        "convert": {"no abstract": 9, "broken record": 1},
        "deduplicate": {"duplicate": 4},
        "export": {"longer than max_length": 1},
    }


def ledger(step: str, rows_in: int, rows_out: int, source: str | None = None, **dropped: int) -> LedgerRow:
    return LedgerRow(step=step, rows_in=rows_in, rows_out=rows_out, dropped=dropped, source=source)


def cut(row: LedgerRow, pieces: int) -> LedgerRow:
    return row.model_copy(update={"pieces": pieces})


def test_a_source_of_both_kinds_and_a_stage_that_is_off() -> None:
    (flow,) = source_flows(
        {"mixed": ledger("convert mixed", 30, 28, broken=2)},
        [
            ledger("read", 28, 26, "mixed", retracted=2),
            ledger("exact dedup", 26, 25, "mixed", same=1),
            ledger("near dedup", 25, 24, "mixed", similar=1),
        ],
        [ledger("sets mixed_pretrain", 10, 0, off=10), ledger("sets mixed_sft", 14, 14)],
        [cut(ledger("export mixed_sft", 14, 13, long=1), 15)],
        [DataSet(name="mixed_sft", stage="sft", train=12, val=3, tokens=5)],
    )
    assert (flow.unique, flow.train, flow.val, flow.cut) == (24, 12, 3, 2)
    assert flow.dropped == {
        "convert": {"broken": 2},
        "clean": {"retracted": 2},
        "deduplicate": {"same": 1, "similar": 1},
        "chunk": {"off": 10},
        "export": {"long": 1},
    }


def test_steps_that_were_not_run_have_no_count() -> None:
    (flow,) = source_flows({"pubmed": ledger("convert pubmed", 3, 3)}, [], [], [], [])
    assert (flow.unique, flow.train, flow.val, flow.dropped) == (None, None, None, {})


@pytest.mark.parametrize(
    ("name", "source"),
    [("deepctrl", "deepctrl"), ("deepctrl_sft", "deepctrl"), ("disc", "disc"), ("disc_medllm", "disc_medllm")],
)
def test_a_set_belongs_to_its_own_source(name: str, source: str) -> None:
    assert source_of(name, ["disc", "disc_medllm", "deepctrl"]) == source


def test_the_identity_set_has_no_source() -> None:
    assert source_of("self_cognition", ["disc", "pubmed"]) is None
