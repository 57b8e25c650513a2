"""Stands in for ``swift sft`` where the subject is who watches it: steps, checkpoints, validation, and no model.

Its loss is a number that only the whole history of steps leads to, and a checkpoint carries it, so a training that was
resumed wrongly ends with another one. What it opens is what ms-swift opens, so a test can stop it at the same moments.
"""

import json
import struct
import sys
import time
import zipfile
from itertools import pairwise
from pathlib import Path


def arguments() -> dict[str, str]:
    """The command line: one value a name is all that is needed here."""
    words = sys.argv[1:]
    return {name.removeprefix("--"): value for name, value in pairwise(words) if name[:2] == "--"}


def count(path: str) -> int:
    """The rows of ``FILE`` or of ``FILE#N``."""
    name, _, most = path.partition("#")
    rows = len(Path(name).read_text(encoding="utf-8").splitlines())
    return min(rows, int(most)) if most else rows


def log(output: Path, **row: object) -> None:
    with (output / "logging.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def save(output: Path, step: int, state: int, steps: int) -> None:
    folder = output / f"checkpoint-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + struct.pack("<f", 1.0))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("data", str(state))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": steps}), encoding="utf-8")


def main() -> None:
    """Train, as far as anybody can see."""
    given = arguments()
    output = Path(given["output_dir"])
    output.mkdir(parents=True, exist_ok=True)
    (Path(given["model"]) / "config.json").read_bytes()
    rows = {"train_dataset": count(given["dataset"]), "val_dataset": count(given["val_dataset"])}
    for name, number in rows.items():
        print(f"[INFO:swift] {name}: Dataset({{\n    features: ['messages'],\n    num_rows: {number}\n}})", flush=True)
    steps, every = int(given["max_steps"]), int(given["save_steps"])
    first, state = 0, 1
    if before := given.get("resume_from_checkpoint"):
        first = json.loads((Path(before) / "trainer_state.json").read_text())["global_step"]
        with zipfile.ZipFile(Path(before) / "optimizer.pt") as archive:
            state = int(archive.read("data"))
    # As transformers: whoever goes on behind the last step makes one more.
    for step in range(first + 1, max(steps, first + 1) + 1):
        time.sleep(0.01)
        state = (state * 1103515245 + 12345) % 2**31
        where = f"{step}/{steps}"
        log(output, **{"loss": 2 + state / 2**31, "global_step/max_steps": where})
        if step % every == 0:
            if step == 8:
                stop_at("evaluation")
            log(output, **{"eval_loss": 1 + state / 2**31, "global_step/max_steps": where})
            save(output, step, state, steps)
    stop_at("end")
    sizes = {name: f"size={number}" for name, number in rows.items()}
    log(output, **sizes, last_model_checkpoint=str(output / f"checkpoint-{steps}"), global_step=steps)


def stop_at(moment: str) -> None:
    """A moment at which a test can stop it."""
    import sitecustomize

    if hasattr(sitecustomize, "freeze"):
        sitecustomize.freeze(moment)


main()
