"""Train a tiny random twin of a model through all that a run does to it: pretraining, merge, instruction tuning, merge.

::

    python -m medllm_ops.swift.prove_family MODEL [MODEL ...] [--record]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medllm_ops.compute.local import LocalPlace
from medllm_ops.errors import MedllmError
from medllm_ops.files import write_json_lines
from medllm_ops.models.families import Member, find_member
from medllm_ops.swift.families import record, versions
from medllm_ops.swift.merge import merge
from medllm_ops.swift.merge_request import MergeRequest
from medllm_ops.swift.recipe import StageRecipe
from medllm_ops.swift.request import TrainRequest
from medllm_ops.swift.train import train

ROWS, VAL_ROWS = 12, 4
_SETTINGS: dict[str, Any] = {
    "lora_rank": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "learning_rate": 5e-3,
    "max_steps": 3,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 4,
    "max_length": 512,
    "logging_steps": 1,
    "gradient_checkpointing": False,
}


@dataclass(frozen=True, slots=True)
class Proof:
    """A twin that went through everything.

    :param losses: the last training loss of each stage; :param differences: the largest difference between the logits
        of base with adapter and of the merged model, by stage; :param versions: of the packages that decide.
    """

    model_type: str
    template: str
    architecture: str
    losses: dict[str, float]
    differences: dict[str, float]
    seconds: float
    versions: dict[str, str]

    @property
    def key(self) -> str:
        """As :attr:`medllm_ops.models.families.Member.key`."""
        return f"{self.model_type}/{self.template}/{self.architecture}"


def prove(member: Member, folder: Path) -> Proof:
    """Make the twin of a member in ``folder`` and send it through pretraining, merge, instruction tuning and merge.

    :raises MedllmError: naming the first thing that failed.
    """
    started = time.monotonic()
    model = folder / "twin"
    command = [sys.executable, "-m", "medllm_ops.models.twins", member.name, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MedllmError(
            f"the twin could not be made: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
        )
    losses, differences = {}, {}
    for stage in ("pretrain", "sft"):
        files = _rows(folder / "data", stage)
        request = TrainRequest(
            stage=stage,
            recipe=StageRecipe(**_SETTINGS, target_modules=member.target_modules),
            model_dir=model,
            model_type=member.model_type,
            template=member.template,
            train_files=(files[0],),
            val_files=(files[1],),
            directory=folder / stage,
            torch_dtype="float32",
        )
        result = train(request, LocalPlace())
        losses[stage] = result.loss
        merged = merge(
            MergeRequest(
                stage=stage,
                base=model,
                adapter=Path(result.checkpoint),
                out=folder / "merged" / stage,
                logs=folder / stage / "merge",
                model_type=member.model_type,
                template=member.template,
            )
        )
        model, differences[stage] = merged.folder, merged.proof["max_abs_diff"]
    return Proof(
        model_type=member.model_type,
        template=member.template,
        architecture=member.architecture,
        losses=losses,
        differences=differences,
        seconds=round(time.monotonic() - started, 1),
        versions=versions(),
    )


def _rows(folder: Path, stage: str) -> tuple[Path, Path]:
    """A few rows each for training and validation, in the format of the stage."""
    paths = []
    for side, count in (("train", ROWS), ("val", VAL_ROWS)):
        rows = []
        for number in range(count):
            answer = {"role": "assistant", "content": f"第{number}条：一日三次，每次{number + 1}片。Take {number + 1}."}
            question = {"role": "user", "content": f"How often, patient {number}? 怎么服用？"}
            rows.append({"messages": [answer] if stage == "pretrain" else [question, answer]})
        paths.append(folder / f"{stage}_{side}.jsonl")
        write_json_lines(paths[-1], rows)
    return paths[0], paths[1]


def main() -> int:
    """Prove each model that is named; with ``--record``, write the results into the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", help="model ids or model types of the table of families")
    parser.add_argument("--record", action="store_true", help="write the results into trained.json")
    parser.add_argument("--keep", type=Path, help="work in this folder and keep it")
    arguments = parser.parse_args()
    failed = 0
    for name in arguments.models:
        member = find_member(name)
        with tempfile.TemporaryDirectory() as temporary:
            folder = (arguments.keep or Path(temporary)).absolute() / member.key.replace("/", "_")
            try:
                proof = prove(member, folder)
            except MedllmError as error:
                failed += 1
                print(f"{member.name}: {error}", flush=True)
                continue
        print(f"{member.name}: trained in {proof.seconds:.0f} s, losses {proof.losses}", flush=True)
        if arguments.record:
            record(member.key, asdict(proof))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
