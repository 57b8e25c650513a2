"""Tokens counted by the model's own tokenizer and ms-swift's own template, in a process that may import swift."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from medllm_ops.datasets.export import TokenCounts
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.swift.environment import process_environment
from medllm_ops.swift.template import TemplateSettings


def count_tokens(files: Mapping[Path, str], template: TemplateSettings) -> TokenCounts:
    """Count the tokens of every row of ``files`` (path to the stage that trains on it).

    :raises MedllmError: with the last line that the counting process printed.
    """
    asked = [
        {"path": str(path), "pretraining": stage == "pretrain", "system": template.system}
        for path, stage in files.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder, "request.json"), Path(folder, "answer.json")
        model = {
            "model_dir": str(template.model_dir),
            "model_type": template.model_type,
            "template": template.template,
        }
        write_json(request, {**model, "files": asked})
        command = [sys.executable, "-m", "medllm_ops.swift.tokens", str(request), str(answer)]
        environment = {**os.environ, **process_environment(Path(folder))}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise MedllmError(f"tokens could not be counted with the model {template.model_dir}: {reason}")
        result = read_json(answer)
    by_file, computed = (
        {Path(file["path"]): file[name] for file in result["files"]} for name in ("tokens", "computed")
    )
    return TokenCounts(by_file, result["model_max_length"], computed)
