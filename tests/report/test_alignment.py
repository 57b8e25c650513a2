"""The report of a run that ended with an alignment."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medllm_ops.report.build import build_report
from medllm_ops.report.model import Report

Change = Callable[[str, Callable[[Any], Any]], None]


def failed(report: Report) -> list[str]:
    return [gate.name for gate in report.gates if not gate.passed]


def align(run_dir: Path, change: Change) -> None:
    """Make the run one that ended with an alignment."""
    change("plan.json", lambda row: row["stages"].append("dpo"))
    shutil.copytree(run_dir / "stages" / "self_cognition", run_dir / "stages" / "dpo")
    shutil.copytree(run_dir / "merged" / "self_cognition", run_dir / "merged" / "dpo")
    rewards = {"margin": 0.31, "accuracy": 0.875, "eval_margin": 0.22, "eval_accuracy": 0.75}
    change("stages/dpo/result.json", lambda row: row.update(stage="dpo", rewards=rewards))
    change("merged/dpo/merge.json", lambda row: row.update(stage="dpo"))
    with (run_dir / "stages" / "dpo" / "output" / "logging.jsonl").open("a", encoding="utf-8") as file:
        file.write(
            '{"loss": 0.6, "rewards/margins": 0.31, "rewards/accuracies": 0.875, "global_step/max_steps": "24/24"}\n'
        )
        file.write('{"eval_loss": 0.6, "eval_rewards/margins": 0.22, "global_step/max_steps": "24/24"}\n')
    detail = "reward margin +0.2512, accuracy 0.813 on 16 held-out pairs"
    gate = {"name": "alignment prefers the better answers", "passed": True, "detail": detail, "enforced": True}
    ranking = {"base": 0.5, "before": 0.5625, "after": 0.75}
    figures = {"gates": [gate], "pairs": 16, "beta": 0.1, "margin": 0.2512, "accuracy": 0.8125, "ranking": ranking}
    (run_dir / "evaluation" / "preference.json").write_text(json.dumps(figures))

    def answer(row: dict[str, Any]) -> None:
        for each in (*row["prompts"], *row["controls"]):
            each["between"] = "After teaching."

    def measure(row: dict[str, Any]) -> None:
        for source in row["sources"].values():
            source["losses"]["self_cognition"] = 2.0

    change("evaluation/identity.json", answer)
    change("evaluation/heldout.json", measure)


def test_an_alignment_is_told_with_its_rewards(run_dir: Path, change: Change) -> None:
    align(run_dir, change)
    report = build_report(run_dir)
    assert report.passed
    assert report.model.final_stage == "dpo"
    assert report.preference is not None
    assert (report.preference.margin, report.preference.ranking.before) == (0.2512, 0.5625)
    stage = report.stages[-1]
    assert (stage.name, stage.rewards["eval_accuracy"]) == ("dpo", 0.75)
    assert (stage.reward_curve.margin, stage.reward_curve.eval_margin) == ([(24, 0.31)], [(24, 0.22)])
    assert [gate.name for gate in report.gates].count("alignment prefers the better answers") == 1
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    for text in ("16 held-out pairs", "0.251", "0.812", "After alignment", "After teaching.", "After self-cognition"):
        assert text in page, text
    assert Report.read(run_dir / "report.json") == report


def test_an_alignment_without_its_verdict_fails(run_dir: Path, change: Change) -> None:
    align(run_dir, change)
    (run_dir / "evaluation" / "preference.json").unlink()
    assert failed(build_report(run_dir)) == ["alignment prefers the better answers"]


def test_an_alignment_alone_has_no_loss_to_be_measured(run_dir: Path, change: Change) -> None:
    align(run_dir, change)
    change("plan.json", lambda row: row.update(stages=["dpo"]))
    change("evaluation/heldout.json", lambda row: row.update(sources={}, gates=[]))
    report = build_report(run_dir)
    assert report.passed
    assert "held-out loss is measured" not in [gate.name for gate in report.gates]
    # With a stage that has sets, it is missed.
    change("plan.json", lambda row: row.update(stages=["sft", "dpo"]))
    assert failed(build_report(run_dir)) == ["held-out loss is measured"]


def test_a_run_without_alignment_says_nothing_of_it(run_dir: Path) -> None:
    report = build_report(run_dir)
    assert report.preference is None
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert "After alignment" not in page
    assert "Preferred answers" not in page
