"""Count the tokens of rows as ms-swift will: ``python -m medllm_ops.swift.tokens REQUEST RESULT``.

The request is ``{"model_dir", "model_type", "template", "files": [{"path", "pretraining", "system"}]}``, the result
``{"model_max_length", "files": [{"path", "tokens": [one number a row], "computed": [likewise]}]}``. Of a pair,
``tokens`` are those of its longer dialogue and ``computed`` those of both; otherwise they are the same.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from medllm_ops.datasets.pairs import REJECTED, both_answers
from medllm_ops.files import read_json, read_json_lines, write_json
from medllm_ops.models.folder import most_tokens
from medllm_ops.swift.template import TemplateSettings, encode, load_template


def count(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request; a row that the template cannot encode counts as 0 tokens."""
    templates: dict[tuple[bool, str | None], Any] = {}
    files = []
    for file in request["files"]:
        key = (file["pretraining"], file["system"])
        if key not in templates:
            settings = TemplateSettings(
                Path(request["model_dir"]), request["model_type"], request["template"], file["system"]
            )
            templates[key] = load_template(settings, pretraining=file["pretraining"])
        counts = [_counts(templates[key], row) for row in read_json_lines(Path(file["path"]))]
        # A pair of which the template refuses one dialogue is refused as a whole.
        tokens = [max(each) if all(each) else 0 for each in counts]
        files.append({"path": file["path"], "tokens": tokens, "computed": [sum(each) for each in counts]})
    return {"model_max_length": most_tokens(read_json(Path(request["model_dir"], "config.json"))), "files": files}


def _counts(template: Any, row: dict[str, Any]) -> list[int]:
    return [_tokens(template, each) for each in (both_answers(row) if REJECTED in row else (row,))]


def _tokens(template: Any, row: dict[str, Any]) -> int:
    try:
        return len(encode(template, row)[0])
    except (AssertionError, LookupError, TypeError, ValueError):  # what templates raise for rows they refuse
        return 0


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), count(read_json(Path(sys.argv[1]))))
