"""The attempts at a training by two ranks on CPU, under torchrun: ``python two_ranks.py REQUEST.json``."""

from __future__ import annotations

import sys
from pathlib import Path

from medllm_ops.files import read_json
from medllm_ops.swift.attempts import Attempts
from medllm_ops.swift.command import Command, build
from medllm_ops.swift.request import TrainRequest


def build_for_two(request: TrainRequest, resume_from: Path | None) -> Command:
    return build(
        request.recipe,
        "sft",
        model_dir=request.model_dir,
        model_type=request.model_type,
        template=request.template,
        torch_dtype=request.torch_dtype,
        system=request.system,
        train_files=request.train_files,
        val_files=request.val_files,
        output_dir=request.output_dir,
        resume_from=resume_from,
        processes=2,
        device="cpu",
    )


if __name__ == "__main__":
    file = Path(sys.argv[1])
    failure = Attempts(TrainRequest.from_row(read_json(file)), file.parent / "job.log", build_for_two).run()
    print(failure)
    sys.exit(1 if failure else 0)
