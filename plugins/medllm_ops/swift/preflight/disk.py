"""What a stage writes: checkpoints while it trains, tokenised rows, and the merged model after it."""

from __future__ import annotations

from dataclasses import dataclass

from medllm_ops.swift.preflight.setup import FULL_PRECISION, Setup
from medllm_ops.swift.preflight.shape import ModelShape
from medllm_ops.swift.recipe import StageRecipe

# Input ids, labels and what describes the row, as Arrow keeps them: two numbers of 8 bytes a token, and a bit.
TOKEN_BYTES = 17
# Configuration, tokenizer, state of the trainer and the random generators; logs.
SMALL_FILES = 24 * 2**20


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes that a stage needs at the same time.

    :param checkpoint: one of them. :param kept: how many there are at most, the one that is being written included.
    """

    checkpoint: int
    kept: int
    rows: int
    merged: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.checkpoint * self.kept + self.rows + self.merged


def disk(shape: ModelShape, setup: Setup, stage: StageRecipe, steps: int, tokens: int) -> Disk:
    """What a stage of so many steps writes.

    A new checkpoint is whole before an old one is deleted (transformers' Trainer._save_checkpoint), and the best one is
    kept beside the last ones. DeepSpeed saves float32 weights and both moments: ZeRO's K = 12 (arXiv:1910.02054 §3.1).
    """
    saved = setup.trained * (setup.weight_bytes if setup.full else setup.adapter_bytes)
    state = setup.trained * (2.0 * FULL_PRECISION + FULL_PRECISION if setup.zero is not None else setup.optimizer_bytes)
    saves = max(1, -(-steps // stage.save_steps)) if stage.save_steps else 1
    # With a limit of 1 ms-swift still keeps the best beside the last.
    kept = saves if stage.save_total_limit is None else min(saves, stage.save_total_limit + 1)
    merged = shape.total * setup.weight_bytes
    return Disk(int(saved + state) + SMALL_FILES, kept, tokens * TOKEN_BYTES, int(merged) + SMALL_FILES)
