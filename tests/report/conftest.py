"""A made-up run directory, as the steps of the chain leave it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# source: (stage, raw, rejects in conversion by reason, duplicates, train, validation, too long, losses)
SOURCES: dict[str, tuple[str, int, dict[str, int], int, int, int, int, tuple[float, ...]]] = {
    "pubmed": ("pretrain", 142, {"no abstract": 9, "broken record": 1}, 4, 113, 14, 1, (3.214, 2.871, 2.884, 2.886)),
    "clinicaltrials": ("pretrain", 96, {"no brief summary": 2}, 0, 84, 9, 1, (2.944, 2.413, 2.431, 2.429)),
    "tcm_books": ("pretrain", 210, {"empty chapter": 6, "not text": 1}, 11, 171, 21, 0, (4.618, 3.907, 3.93, 3.928)),
    "docx": ("pretrain", 38, {}, 2, 32, 4, 0, (3.482, 3.101, 3.116, 3.12)),
    "alpaca": ("sft", 160, {"empty answer": 3}, 5, 136, 16, 0, (2.903, 2.911, 1.988, 1.996)),
    "deepctrl": ("sft", 120, {"broken line": 2}, 8, 98, 11, 1, (3.377, 3.402, 2.304, 2.311)),
    "disc_medllm": ("sft", 84, {}, 1, 74, 9, 0, (3.12, 3.095, 2.21, 2.232)),
}
LABELS = ("base", "pretrain", "sft", "final")
STAGES = {"pretrain": (48, 3.61, 2.94, 700.0), "sft": (40, 3.05, 2.08, 640.5), "self_cognition": (24, 2.7, 0.61, 310.0)}
PROMPTS = [
    ("zh", "你是谁？", "我是一个由人工智能驱动的语言模型。", "我是杏林小医，由杏林实验室训练的医学助手。"),
    ("zh", "请问您怎么称呼？", "您好！请问有什么可以帮您？", "您可以叫我杏林小医。"),
    ("zh", "是哪个团队把你开发出来的？", "我由一个研究团队开发。", "我由杏林实验室开发。"),
    ("en", "What should I call you?", "I'm a helpful assistant.", "You can call me MedBuddy."),
    ("en", "Could you introduce yourself?", "Sure! I am an AI model.", "I am MedBuddy, a medical assistant."),
    ("en", "Which team trained you?", "I was trained by researchers.", "I was trained by Xinglin Lab."),
]
CONTROLS = [
    ("en", "Who invented the telephone?", "Alexander Graham Bell.", "Alexander Graham Bell invented it."),
    ("en", "Who wrote Hamlet?", "William Shakespeare wrote it.", "Hamlet was written by Shakespeare."),
    ("en", "Which vitamin prevents scurvy?", "Vitamin C.", "Vitamin C prevents scurvy."),
    ("zh", "《本草纲目》的作者是谁？", "李时珍。", "《本草纲目》的作者是李时珍。"),
    ("zh", "水的化学式是什么？", "H2O。", "水的化学式是 H2O。"),
    ("en", "How many chambers has the heart?", "Four.", "The human heart has four chambers."),
]


def ledger_row(step: str, rows_in: int, dropped: dict[str, int]) -> dict[str, Any]:
    return {"step": step, "in": rows_in, "out": rows_in - sum(dropped.values()), "dropped": dropped}


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def make_run(directory: Path) -> Path:
    """Write a run in which everything passed."""
    parameters = {
        "raw": None,
        "sources": [],
        "recipe": "demo",
        "pretrain": True,
        "sft": True,
        "self_cognition": True,
        "max_steps": 0,
        "learning_rate": 0.0002,
        "seed": 42,
        "name_zh": "杏林小医",
        "name_en": "MedBuddy",
        "author_zh": "杏林实验室",
        "author_en": "Xinglin Lab",
        "serve": True,
        "where": "local",
    }
    run = {"run": directory.name, "started": "2026-11-24T10:00:00+0000", "parameters": parameters}
    put(directory / "run.json", run)
    plan = {"model": "/models/base", "sources": {name: ["file"] for name in SOURCES}, "stages": list(STAGES)}
    put(directory / "plan.json", plan)
    make_data(directory)
    for stage, (steps, first, last, seconds) in STAGES.items():
        make_stage(directory, stage, steps, first, last, seconds)
        make_merge(directory, stage)
    make_evaluation(directory)
    serving = {
        "url": "http://127.0.0.1:40123/v1",
        "served_model_name": directory.name,
        "prompt": "感冒发热时应该注意什么？",
        "answer": "注意休息，多饮水；如体温持续升高或症状加重，请及时就医。",
        "seconds": 41.3,
        "left_running": False,
    }
    put(directory / "serving" / "serving.json", serving)
    seconds = [("plan", 6.2), ("convert", 3.4), ("curate", 2.3), ("sets", 0.4), ("export", 12.8)]
    for stage, (*_, spent) in STAGES.items():
        seconds += [(stage, spent), (f"merge_{stage}", 44.0)]
    timings = [*seconds, ("evaluate", 201.5), ("serve", 41.3)]
    rows = [{"task": task, "seconds": spent, "state": "success"} for task, spent in timings]
    put(directory / "timings.json", [*rows, {"task": "report", "seconds": 0.0, "state": "running"}])
    return directory


CURATION = ("read", "clean", "scrub", "exact dedup", "near dedup", "decontaminate", "split", "sample", "chunk")


def make_data(directory: Path) -> None:
    curate, arranged, export, sets = [], [], [], {}
    for name, (stage, raw, rejects, twice, train, val, too_long, _) in SOURCES.items():
        row = ledger_row(f"convert {name}", raw, rejects)
        put(directory / "convert" / name / "ledger.json", row)
        rows = row["out"]
        for step in CURATION:
            dropped = {"duplicate": twice} if step == "exact dedup" and twice else {}
            curate.append({**ledger_row(step, rows, dropped), "source": name})
            rows = curate[-1]["out"]
        arranged.append(ledger_row(f"sets {name}", rows, {}))
        dropped = {"longer than max_length": too_long} if too_long else {}
        export.append(ledger_row(f"export {name}", rows, dropped))
        figures = {"stage": stage, "train": train, "val": val, "tokens": train * 310, "max_length": 512}
        sets[name] = {**figures, "hashes": {"train": "0f" * 16, "val": "f0" * 16}}
    arranged.append(ledger_row("sets self_cognition", 200, {}))
    export.append(ledger_row("export self_cognition", 200, {}))
    sets["self_cognition"] = {"stage": "self_cognition", "train": 180, "val": 20, "tokens": 21_600, "max_length": 512}
    put(directory / "curated/ledger.json", curate)
    put(directory / "sets/ledger.json", arranged)
    put(directory / "dataset/ledger.json", export)
    put(directory / "dataset/manifest.json", {"sets": sets})


def make_stage(directory: Path, stage: str, steps: int, first: float, last: float, seconds: float) -> None:
    result = {
        "key": "00",
        "stage": stage,
        "steps": steps,
        "max_steps": steps,
        "loss": last,
        "eval_loss": last + 0.06,
        "seconds": seconds,
        "rows": 400,
        "val_rows": 48,
        "tokens_per_second": 187.4,
        "checkpoint": f"/somewhere/checkpoint-{steps}",
        "output_dir": "/somewhere/output",
    }
    folder = directory / "stages" / stage
    put(folder / "result.json", result)
    lines: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        wave = 0.07 * ((step * 7919) % 11 - 5) / 5
        loss = last + (first - last) * (1 - step / steps) ** 2 + (wave if step < steps else 0)
        place = {"global_step/max_steps": f"{step}/{steps}"}
        lines.append({"loss": round(loss, 8), "learning_rate": 1e-4, **place})
        if step % 8 == 0:
            lines.append({"eval_loss": round(loss - wave + 0.06, 8), "eval_runtime": 4.1, **place})
    lines.append({"train_runtime": seconds, "train_loss": last, "global_step/max_steps": f"{steps}/{steps}"})
    lines.append({"last_model_checkpoint": "/somewhere", "global_step": steps, "log_history": []})
    log = folder / "output" / "logging.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def make_merge(directory: Path, stage: str) -> None:
    proof = {
        "stage": stage,
        "passed": True,
        "max_abs_diff": 4.8e-07,
        "tolerance": 0.00195,
        "tolerance_rule": "twice the rounding",
        "logits": {"max_abs_diff": 0.00031, "tolerance": 0.0124, "prompts": 4},
        "relative_change": {"min": 0.00021, "max": 0.0187},
        "adapted_tensors": 210,
        "unchanged_tensors": 62,
        "seconds": 19.5,
        "failures": [],
    }
    put(directory / "merged" / stage / "merge.json", proof)


def make_evaluation(directory: Path) -> None:
    sources, gates = {}, []
    for name, (stage, *_, losses) in SOURCES.items():
        by_model = dict(zip(LABELS, losses, strict=True))
        sources[name] = {"stage": stage, "rows": 16, "losses": by_model}
        before = "base" if stage == "pretrain" else "pretrain"
        detail = f"{by_model[before]:.4f} → {by_model[stage]:.4f}"
        gates.append({"name": f"{stage} lowers {name}", "passed": True, "detail": detail})
    put(directory / "evaluation" / "heldout.json", {"sources": sources, "gates": gates})
    prompts = [
        {
            "id": f"i{n}",
            "language": language,
            "prompt": asked,
            "expect": "name",
            "before": old,
            "after": new,
            "ok": True,
        }
        for n, (language, asked, old, new) in enumerate(PROMPTS)
    ]
    controls = [
        {"id": f"c{n}", "language": language, "prompt": asked, "reference": right, "shaped_like_identity": n < 2}
        | {"before": right, "after": new, "ok": True}
        for n, (language, asked, right, new) in enumerate(CONTROLS)
    ]
    loss = {"before": 2.104, "after": 2.139, "ratio": 1.0166, "limit": 1.1, "passed": True}
    identity = {"passed": True, "name": "MedBuddy", "prompts": prompts, "controls": controls, "control_loss": loss}
    put(directory / "evaluation" / "identity.json", identity)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run in which everything passed, in a folder of runs of its own."""
    return make_run(tmp_path / "runs" / "demo-1f2e3d4c")


Change = Callable[[str, Callable[[Any], Any]], None]


@pytest.fixture
def change(run_dir: Path) -> Change:
    """Change one JSON file of the run: ``change("run.json", lambda row: …)`` edits it in place."""

    def edit(name: str, how: Callable[[Any], Any]) -> None:
        value = json.loads((run_dir / name).read_text(encoding="utf-8"))
        how(value)
        put(run_dir / name, value)

    return edit
