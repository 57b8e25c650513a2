import importlib.metadata
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json
from medllm_ops.report.build import build_report, installed_versions, publish_latest
from medllm_ops.report.model import Report

Change = Callable[[str, Callable[[Any], Any]], None]

KEYS = {
    "run",
    "started",
    "finished",
    "passed",
    "gates",
    "parameters",
    "timings",
    "stages",
    "merges",
    "heldout",
    "identity",
    "ledger",
    "model",
    "serving",
    "versions",
    "seconds",
}


def failed(report: Report) -> list[str]:
    return [gate.name for gate in report.gates if not gate.passed]


def test_report_json_has_the_keys_that_other_programs_rely_on(run_dir: Path) -> None:
    report = build_report(run_dir, {"python": "3.11.9"})
    row = read_json(run_dir / "report.json")
    assert row.keys() >= KEYS
    assert row["passed"] is True
    assert row["versions"] == {"python": "3.11.9"}
    assert row["started"] == "2026-11-24T10:00:00+0000"
    assert row["seconds"] == pytest.approx(2050.4)
    for stage in row["stages"]:
        assert stage.keys() >= {"name", "steps", "max_steps", "loss", "seconds", "rows", "tokens_per_second"}
    for merge in row["merges"]:
        assert merge.keys() >= {"stage", "passed", "max_abs_diff", "tolerance"}
    for answer in row["identity"]["prompts"] + row["identity"]["controls"]:
        assert answer.keys() >= {"prompt", "before", "after", "ok"}
    for line in row["ledger"]:
        assert line.keys() >= {"step", "in", "out", "dropped"}
    assert row["heldout"]["pubmed"] == {"base": 3.214, "pretrain": 2.871, "sft": 2.884, "final": 2.886}
    assert row["identity"]["passed"] is True
    assert row["timings"][0] == {"task": "plan", "seconds": 6.2, "state": "success"}
    assert row["model"] == {
        "base": "/models/base",
        "final": str(run_dir / "merged" / "self_cognition"),
        "final_stage": "self_cognition",
    }
    assert Report.read(run_dir / "report.json") == report


def test_losses_of_the_log_become_the_curve(run_dir: Path) -> None:
    stage = build_report(run_dir).stages[0]
    assert [step for step, _ in stage.curve.train] == list(range(1, 49))
    assert [step for step, _ in stage.curve.val] == [8, 16, 24, 32, 40, 48]
    assert stage.curve.train[-1] == (48, 2.94)


def test_a_step_logged_twice_counts_once_and_a_diverged_loss_is_no_number(run_dir: Path) -> None:
    log = run_dir / "stages" / "sft" / "output" / "logging.jsonl"
    with log.open("a", encoding="utf-8") as file:
        file.write('{"loss": 9.5, "global_step/max_steps": "1/40"}\n{"loss": NaN, "global_step/max_steps": "2/40"}\n')
    curve = build_report(run_dir).stages[1].curve
    assert len(curve.train) == 40
    assert curve.train[:2] == [(1, 9.5), (2, None)]


def test_a_long_curve_is_thinned_and_keeps_its_ends(run_dir: Path) -> None:
    log = run_dir / "stages" / "sft" / "output" / "logging.jsonl"
    lines = [f'{{"loss": 1.5, "global_step/max_steps": "{step}/5000"}}\n' for step in range(1, 5001)]
    log.write_text("".join(lines), encoding="utf-8")
    train = build_report(run_dir).stages[1].curve.train
    assert len(train) == 1000
    assert (train[0][0], train[-1][0]) == (1, 5000)


@pytest.mark.parametrize(
    ("file", "gates"),
    [
        ("convert/docx/ledger.json", ["every source is converted"]),
        ("dataset/manifest.json", ["dataset is frozen"]),
        ("stages/sft/result.json", ["sft is trained to its last step"]),
        ("merged/pretrain/merge.json", ["merge of pretrain is proven"]),
        ("evaluation/heldout.json", ["held-out loss is measured"]),
        ("evaluation/identity.json", ["the model knows who it is"]),
        ("serving/serving.json", ["the model is served and answers"]),
        ("timings.json", []),
        ("plan.json", []),
        ("run.json", []),
    ],
)
def test_a_missing_part_is_told_and_fails_its_own_gate(run_dir: Path, file: str, gates: list[str]) -> None:
    (run_dir / file).unlink()
    report = build_report(run_dir)
    assert failed(report) == gates
    assert report.passed is (not gates)
    assert (run_dir / "report.html").is_file()
    assert Report.read(run_dir / "report.json") == report


def test_an_empty_run_has_a_report_that_failed(tmp_path: Path) -> None:
    report = build_report(tmp_path)
    assert not report.passed
    assert all(gate.detail.startswith("not run") for gate in report.gates)
    assert report.run == tmp_path.name


def test_a_part_that_was_switched_off_is_not_missed(run_dir: Path, change: Change) -> None:
    change("plan.json", lambda row: row.update(stages=["pretrain", "sft"]))
    change("run.json", lambda row: row["parameters"].update(serve=False, self_cognition=False))
    for folder in ("stages/self_cognition", "merged/self_cognition", "serving"):
        shutil.rmtree(run_dir / folder)
    (run_dir / "evaluation" / "identity.json").unlink()
    report = build_report(run_dir)
    assert failed(report) == []
    assert report.model.final_stage == "sft"
    assert "switched off" in (run_dir / "report.html").read_text(encoding="utf-8")


def test_a_run_that_takes_its_rows_of_the_corpus_converts_nothing(run_dir: Path, change: Change) -> None:
    change("plan.json", lambda row: row.update(sources={}, corpus={"url": "/data/corpus", "version": 15}))
    shutil.rmtree(run_dir / "convert")
    report = build_report(run_dir)
    assert failed(report) == []
    taken = {gate.name: gate.detail for gate in report.gates}["the corpus is taken"]
    assert taken == "version 15 of /data/corpus"
    (run_dir / "curated" / "ledger.json").unlink()
    assert "the corpus is taken" in failed(build_report(run_dir))


def test_a_run_without_timings_took_from_its_start_to_its_last_result(run_dir: Path) -> None:
    (run_dir / "timings.json").unlink()
    start = 1_795_514_400  # 2026-11-24T10:00:00Z
    for path in run_dir.rglob("*.json"):
        os.utime(path, (start + 60, start + 60))
    os.utime(run_dir / "serving" / "serving.json", (start + 90, start + 90))
    assert build_report(run_dir).seconds == 90


def test_a_result_that_is_not_one_is_named(run_dir: Path, change: Change) -> None:
    change("merged/sft/merge.json", lambda row: row.update(passed="perhaps"))
    with pytest.raises(MedllmError, match=r"merged/sft/merge\.json .*passed.*run that step again"):
        build_report(run_dir)
    assert not (run_dir / "report.json").exists()


@pytest.mark.parametrize("content", ["", '{"step": "convert docx"', "[1]", "{}"])
def test_a_broken_file_is_named(run_dir: Path, content: str) -> None:
    (run_dir / "convert" / "docx" / "ledger.json").write_text(content, encoding="utf-8")
    with pytest.raises(MedllmError, match=r"convert/docx/ledger\.json"):
        build_report(run_dir)


def test_no_run_no_report(tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match="does not exist"):
        build_report(tmp_path / "nowhere")


def test_versions_are_those_installed_and_leave_out_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "torch":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    versions = installed_versions()
    assert "torch" not in versions
    assert versions["airflow"] == real("apache-airflow")
    assert versions["medllm-ops"] == real("medllm-ops")


def test_latest_is_a_relative_link_that_moves(run_dir: Path) -> None:
    second = run_dir.with_name("second")
    shutil.copytree(run_dir, second)
    for directory in (run_dir, second):
        build_report(directory)
        link = publish_latest(directory)
        assert link == run_dir.parent / "latest"
        assert str(link.readlink()) == directory.name
    moved = run_dir.parent.rename(run_dir.parent.with_name("moved"))
    assert read_json(moved / "latest" / "report.json")["passed"] is True
    assert sorted(path.name for path in moved.iterdir()) == [run_dir.name, "latest", "second"]


def test_latest_is_never_absent_while_it_moves(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = run_dir.with_name("second")
    shutil.copytree(run_dir, second)
    for directory in (run_dir, second):
        build_report(directory)
    link = publish_latest(run_dir)
    seen = []

    def forbidden(path: Path, *_: object, **__: object) -> None:
        assert path != link, "the link itself must not be removed"

    real_replace = Path.replace

    def replace(path: Path, target: Path) -> Path:
        seen.append(str(link.readlink()))
        return real_replace(path, target)

    monkeypatch.setattr(Path, "unlink", forbidden)
    monkeypatch.setattr(Path, "replace", replace)
    publish_latest(second)
    assert seen == [run_dir.name]
    assert str(link.readlink()) == "second"


def test_a_latest_that_cannot_be_moved_stays(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_report(run_dir)
    second = run_dir.with_name("second")
    shutil.copytree(run_dir, second)
    link = publish_latest(run_dir)

    def broken(path: Path, target: Path) -> Path:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="no space"):
        publish_latest(second)
    assert str(link.readlink()) == run_dir.name
    assert not list(run_dir.parent.glob(".latest*"))


def test_publishing_through_the_link_does_not_make_it_point_at_itself(run_dir: Path) -> None:
    build_report(run_dir)
    link = publish_latest(run_dir)
    publish_latest(link)
    assert str(link.readlink()) == run_dir.name


def test_latest_is_only_for_runs_with_a_report(run_dir: Path) -> None:
    with pytest.raises(MedllmError, match="not finished"):
        publish_latest(run_dir)
    assert not (run_dir.parent / "latest").exists()


def test_a_folder_named_latest_is_not_touched(run_dir: Path) -> None:
    build_report(run_dir)
    (run_dir.parent / "latest").mkdir()
    with pytest.raises(MedllmError, match="move it away"):
        publish_latest(run_dir)
