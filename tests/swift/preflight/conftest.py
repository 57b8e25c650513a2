"""A frozen dataset as the export leaves it, small and made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.files import file_hash, write_json, write_json_lines


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write a dataset; each set is its stage, its rows for training (characters of each) and its tokens."""

    def make(**sets: tuple[str, list[int], int]) -> Path:
        folder = tmp_path / "dataset"
        manifest: dict[str, Any] = {"sets": {}}
        for name, (stage, sizes, tokens) in sets.items():
            for side, these in (("train", sizes), ("val", sizes[:3])):
                rows = [
                    {"id": f"{side}:{number}", "messages": [{"role": "assistant", "content": "a" * size}]}
                    for number, size in enumerate(these)
                ]
                (folder / side).mkdir(parents=True, exist_ok=True)
                write_json_lines(folder / side / f"{name}.jsonl", rows)
            manifest["sets"][name] = {
                "stage": stage,
                "train": len(sizes),
                "val": min(3, len(sizes)),
                "tokens": tokens,
                "max_length": 512,
                "hashes": {side: file_hash(folder / side / f"{name}.jsonl") for side in ("train", "val")},
            }
        write_json(folder / "manifest.json", manifest)
        return folder

    return make
