"""What a stage costs beyond the bare ms-swift command: ``python benchmarks/stage_overhead.py``.

The same stage of the same rows and model: once as ms-swift alone, with the arguments of ``swift/command.py`` but
without our quick start (``swift/launch.py``), once through ``train_stage`` with trainer, lease, supervisor, watching
and verification. Then the same for a merge: ``swift export`` alone, and the merge with its proof. In turns; medians.
Wall seconds are those until the command returns, processor seconds those of every process that it started, also of what
ended later. On a machine that does other work, look at processor seconds, and at *beside ms-swift*: the wall seconds of
``train_stage`` in which ms-swift did not run, taken within one run.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from processes import Cost, measure

from medllm_ops import chain
from medllm_ops.compute.local import LocalPlace
from medllm_ops.compute.places import place_for
from medllm_ops.files import read_json, write_json
from medllm_ops.home import include
from medllm_ops.parameters import Parameters
from medllm_ops.run import Run
from medllm_ops.swift.attempts import build_command
from medllm_ops.swift.merge import export_command
from medllm_ops.swift.merge_request import MergeRequest, base_dtype
from medllm_ops.swift.merge_stage import merge_stage
from medllm_ops.swift.train import stage_request, train_stage

STAGE = "sft"
BOUND_SHARE, BOUND_SECONDS = 0.05, 2.0


def prepare(steps: int, folder: Path) -> dict[str, str]:
    """A dataset of the demo's rows, and a recipe of one stage with so many steps; leaves processes of its own."""
    values = yaml.safe_load((include() / "swift_configs" / "tiny.yaml").read_text(encoding="utf-8"))
    for stage in values["stages"].values():
        stage |= {"max_steps": steps, "save_steps": max(2, steps // 2)}
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
    run = Run.create("benchmark-stage-overhead", Parameters(recipe="tiny"))
    for name in ("plan", "convert", "curate", "sets", "export"):
        chain.step(name).execute(run, place_for("local"))
    return {"stage": STAGE, "recipe": str(recipe), "model": str(run.base_model), "dataset": str(run.dataset)}


def through_us(kind: str, arguments: dict[str, Any], result_file: Path) -> None:
    """What a worker does for a training or a merge; leaves the seconds that ms-swift did not run."""
    started = time.perf_counter()
    if kind == "prepare":
        result = prepare(arguments["steps"], Path(arguments["folder"]))
    elif kind == "train":
        trained = train_stage(**arguments, place=LocalPlace())
        inside = sum(attempt["seconds"] for attempt in trained["attempts"])
        result = {"beside": time.perf_counter() - started - inside}
    else:
        result = merge_stage(**arguments, place=LocalPlace())
    write_json(result_file, result)


def again(kind: str, arguments: dict[str, Any], folder: Path) -> tuple[Cost, dict[str, Any]]:
    """Run :func:`through_us` in a process of its own."""
    request, result = folder / f"{kind}-request.json", folder / f"{kind}-result.json"
    write_json(request, arguments)
    cost = measure([sys.executable, __file__, "--through", kind, str(request), str(result)], {}, folder / "ours.log")
    return cost, read_json(result)


def bare_cost(argv: Sequence[str], environment: dict[str, str], log: Path) -> Cost:
    """Run ms-swift as it is."""
    return measure([part for part in argv if part != "medllm_ops.swift.launch"], environment, log)


def one_round(arguments: dict[str, str], folder: Path) -> dict[str, Cost]:
    """All four, once."""
    bare = folder / "bare"
    # The folder is new, so nothing is found again; the path's length is the same.
    command = build_command(stage_request(**arguments, output_dir=str(bare)), None)
    found = {"training, bare": bare_cost(command.argv, command.env, folder / "bare.log")}
    ours = folder / "ours"
    found["training, ours"], result = again("train", {**arguments, "output_dir": str(ours)}, folder)
    found["beside ms-swift"] = Cost(result["beside"], 0.0)
    adapter = Path(read_json(ours / "result.json")["checkpoint"])
    model = Path(arguments["model"])
    request = MergeRequest(
        stage=STAGE,
        base=model,
        adapter=adapter,
        out=folder / "merged",
        logs=folder / "logs",
        model_type="qwen2",
        template="qwen2_5",
    )
    argv, environment = export_command(request, folder / "exported", base_dtype(model))
    found["merge, bare"] = bare_cost(argv, environment, folder / "bare.log")
    merging = {name: arguments[name] for name in ("stage", "recipe", "model")}
    merging |= {"stage_dir": str(ours), "output_dir": str(folder / "merged")}
    found["merge, ours"], _ = again("merge", merging, folder)
    shutil.rmtree(folder)
    return found


def tell(name: str, rounds: list[dict[str, Cost]]) -> None:
    """Print two lines of the table: wall and processor."""
    for kind in ("wall", "processor"):
        bare, ours = ([getattr(found[f"{name}, {who}"], kind) for found in rounds] for who in ("bare", "ours"))
        more = median(right - left for left, right in zip(bare, ours, strict=True))
        allowed = median(bare) * BOUND_SHARE + BOUND_SECONDS
        print(f"| {name} | {kind} | {median(bare):.2f} | {median(ours):.2f} | {more:+.2f} | {allowed:.2f} |")


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="of the training")
    parser.add_argument("--through", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.through:
        kind, request, result = asked.through
        through_us(kind, read_json(Path(request)), Path(result))
        return
    rounds = []
    with tempfile.TemporaryDirectory() as work:
        asked_for, made = Path(work, "request.json"), Path(work, "arguments.json")
        write_json(asked_for, {"steps": asked.steps, "folder": work})
        # In a process of its own, and before descendants are counted: workers of the curation may live on for a while.
        subprocess.run([sys.executable, __file__, "--through", "prepare", str(asked_for), str(made)], check=True)
        arguments = read_json(made)
        for number in range(asked.rounds):
            folder = Path(work, str(number))
            folder.mkdir()
            rounds.append(one_round(arguments, folder))
            print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr, flush=True)
    print("| of | seconds | bare | ours | more (median of the pairs) | 5 % + 2 s |")
    print("|---|---|---|---|---|---|")
    for name in ("training", "merge"):
        tell(name, rounds)
    beside = [found["beside ms-swift"].wall for found in rounds]
    print(f"\nwall seconds of train_stage beside ms-swift: median {median(beside):.2f}, most {max(beside):.2f}")


if __name__ == "__main__":
    main()
