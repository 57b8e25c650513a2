import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.report.build import build_report

Change = Callable[[str, Callable[[Any], Any]], None]


def failed(run_dir: Path) -> dict[str, str]:
    report = build_report(run_dir)
    assert report.passed is all(gate.passed for gate in report.gates)
    return {gate.name: gate.detail for gate in report.gates if not gate.passed}


def test_nothing_fails_where_everything_passed(run_dir: Path) -> None:
    assert failed(run_dir) == {}


@pytest.mark.parametrize(
    ("file", "how", "gate", "detail"),
    [
        (
            "evaluation/heldout.json",
            lambda row: row["gates"][0].update(passed=False, detail="3.2 → 3.3"),
            "pretrain lowers pubmed",
            "3.2 → 3.3",
        ),
        (
            "evaluation/identity.json",
            lambda row: row["prompts"][2].update(ok=False),
            "the model knows who it is",
            "5 of 6 answers",
        ),
        (
            "evaluation/identity.json",
            lambda row: row["controls"][0].update(ok=False),
            "control questions get no name for an answer",
            "5 of 6 answers",
        ),
        (
            "evaluation/identity.json",
            lambda row: row["control_loss"].update(ratio=1.1001),
            "what it knew is kept",
            "loss after / before is 1.100, at most 1.1",
        ),
        ("evaluation/identity.json", lambda row: row.update(passed=False), "identity gate as a whole", "failed"),
        (
            "merged/sft/merge.json",
            lambda row: row.update(passed=False, max_abs_diff=0.5),
            "merge of sft is proven",
            "weights differ by 0.5, 0.00195 allowed",
        ),
        (
            "stages/sft/result.json",
            lambda row: row.update(steps=39),
            "sft is trained to its last step",
            "39 of 40 steps, loss 2.0800",
        ),
        (
            "stages/sft/result.json",
            lambda row: row.update(loss=None),
            "sft is trained to its last step",
            "40 of 40 steps, no finite loss",
        ),
        (
            "stages/sft/result.json",
            lambda row: row.update(steps=0, max_steps=0),
            "sft is trained to its last step",
            "0 of 0 steps, loss 2.0800",
        ),
        (
            "serving/serving.json",
            lambda row: row.update(answer=" \n"),
            "the model is served and answers",
            "demo-1f2e3d4c gave an empty answer",
        ),
        (
            "timings.json",
            lambda rows: rows[7].update(state="failed", seconds=64.2),
            "task sft ends well",
            "failed after 64 s",
        ),
        (
            "dataset/ledger.json",
            lambda rows: rows[0]["dropped"].clear(),
            "every step's ledger balances",
            "not balanced: export pubmed",
        ),
        (
            "dataset/ledger.json",
            lambda rows: rows[0].update({"in": 120, "out": 119}),
            "no row is lost between steps",
            "sets pubmed gave 128 rows, export pubmed took 120; export pubmed gave 119 rows, the dataset has 127",
        ),
        (
            "dataset/manifest.json",
            lambda manifest: manifest["sets"]["docx"].update(train=30),
            "no row is lost between steps",
            "export docx gave 36 rows, the dataset has 34",
        ),
        (
            "evaluation/heldout.json",
            lambda row: row["sources"].pop("docx"),
            "held-out loss is measured",
            "not of docx",
        ),
        (
            "sets/ledger.json",
            lambda rows: rows.pop(3),
            "no row is lost between steps",
            "chunk of docx gave 36 rows, the sets took 0",
        ),
        (
            "curated/ledger.json",
            lambda rows: rows[0].update({"in": 131, "out": 131}),
            "no row is lost between steps",
            "conversion of pubmed gave 132 rows, curation took 131; read of pubmed gave 131 rows, clean took 132",
        ),
        (
            "curated/ledger.json",
            lambda rows: rows[8].update(pieces=130),
            "no row is lost between steps",
            "chunk of pubmed gave 130 rows, the sets took 128",
        ),
    ],
)
def test_one_failed_gate_turns_the_verdict(
    run_dir: Path, change: Change, file: str, how: Callable[[Any], Any], gate: str, detail: str
) -> None:
    change(file, how)
    assert failed(run_dir) == {gate: detail}


@pytest.mark.parametrize(("folder", "step"), [("curated", "curation"), ("sets", "the sets"), ("dataset", "the export")])
def test_a_ledger_that_is_missing_turns_the_verdict(run_dir: Path, folder: str, step: str) -> None:
    (run_dir / folder / "ledger.json").unlink()
    assert failed(run_dir) == {"no row is lost between steps": f"no ledger of {step}"}


def test_the_reports_own_failure_last_time_is_no_gate(run_dir: Path, change: Change) -> None:
    change("timings.json", lambda rows: rows[-1].update(state="failed"))
    assert failed(run_dir) == {}


def test_an_identity_gate_without_questions_fails(run_dir: Path, change: Change) -> None:
    change("evaluation/identity.json", lambda row: row.update(prompts=[]))
    assert failed(run_dir) == {"the model knows who it is": "0 of 0 answers"}


def test_a_gate_that_is_not_enforced_is_told_but_decides_nothing(run_dir: Path, change: Change) -> None:
    change("evaluation/heldout.json", lambda row: row["gates"][0].update(passed=False, enforced=False))
    change("evaluation/identity.json", lambda row: row.update(passed=False, prompts=[], enforced=False))
    change("serving/serving.json", lambda row: row.update(answer=" ", enforced=False))
    report = build_report(run_dir)
    assert report.passed
    assert len([gate for gate in report.gates if not gate.passed]) == 4
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert page.count("not enforced") == 5
    change("serving/serving.json", lambda row: row.update(enforced=True))
    report = build_report(run_dir)
    assert not report.passed
    assert f"Failed: 1 of {len(report.gates)} gates" in (run_dir / "report.html").read_text(encoding="utf-8")


def test_a_run_that_takes_a_dataset_converts_nothing(run_dir: Path, change: Change) -> None:
    shutil.rmtree(run_dir / "convert")
    change("plan.json", lambda plan: plan.update(sources={}, dataset="/home/datasets/medical/3"))
    report = build_report(run_dir)
    assert report.passed
    assert {gate.name: gate.detail for gate in report.gates}["the dataset is taken"] == "/home/datasets/medical/3"
    flow = next(flow for flow in report.sources if flow.source == "pubmed")
    assert (flow.raw, flow.converted, flow.unique) == (132, 132, 128)
    (run_dir / "curated" / "ledger.json").unlink()
    assert failed(run_dir)["the dataset is taken"] == "/home/datasets/medical/3: not run"
