"""The rows of one stage: how many, how long, and what batches are made of them."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import count_lines, file_hash
from medllm_ops.swift import frozen
from medllm_ops.swift.command import rows_scored
from medllm_ops.swift.recipe import StageRecipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Lengths = NDArray[np.int64]

SIDES = ("train", "val")
# ms-swift packs so many rows at a time (PackingDataset.PACKING_BATCH_SIZE).
PACKED_AT_ONCE = 1000
SAMPLED_PACKINGS = 20
# transformers sorts so many batches at a time (get_length_grouped_indices).
GROUPED_BATCHES = 50


@dataclass(frozen=True)
class Rows:
    """The rows of a stage. ``lengths``: the tokens of each row for training, template included.

    :param exact: whether they were counted row by row; otherwise the sum was, and each row's share is that of its text.
    """

    lengths: Lengths
    val_rows: int
    val_tokens: int
    limit: int
    exact: bool = False

    @property
    def count(self) -> int:
        """Rows for training."""
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """Tokens of all of them, without padding."""
        return int(self.lengths.sum())

    @property
    def longest(self) -> int:
        """The most tokens of a row."""
        return int(self.lengths.max(initial=0))


@dataclass(frozen=True, slots=True)
class Batches:
    """One pass over the rows on so many devices.

    :param rows: rows, or packed sequences, of all devices together. :param steps: optimizer steps of one pass.
    :param tokens: tokens that are computed, padding included. :param longest: tokens of the longest row of a batch.
    """

    rows: int
    steps: int
    tokens: int
    longest: int


def batches(rows: Rows, stage: StageRecipe, gpus: int) -> Batches:
    """The batches of one pass, as ms-swift's sampler makes them: each device takes its share, whole batches or not."""
    batch, world = stage.per_device_train_batch_size, max(1, gpus)
    if stage.packing:
        count = _packs(rows, stage.max_length or rows.limit)
        tokens, longest = rows.tokens, min(stage.max_length or rows.limit, rows.tokens)
    else:
        count, longest = rows.count, rows.longest
        tokens = padded(rows.lengths, batch * world if stage.group_by_length else batch, stage.group_by_length)
    # Packed sequences that are no whole share are left out; rows are made up to one (command.rows_repeated).
    share = max(1, count // world if stage.packing else -(-count // world))
    steps = -(-share // batch)
    return Batches(count, max(1, -(-steps // stage.gradient_accumulation_steps)), tokens, longest)


def steps_of(stage: StageRecipe, one_pass: Batches) -> int:
    """Optimizer steps of the stage, as transformers counts them (Trainer.set_initial_training_values)."""
    if stage.max_steps:
        return stage.max_steps
    return max(1, int(-(-(stage.num_train_epochs or 1) * one_pass.steps // 1)))


def padded(lengths: Lengths, batch: int, grouped: bool) -> int:
    """Tokens of one pass when every batch is as long as its longest row; the order is drawn with a fixed seed."""
    import numpy as np

    if not len(lengths):
        return 0
    drawn = np.random.default_rng(0).permutation(lengths)
    if grouped:
        at_once = batch * max(1, min(GROUPED_BATCHES, len(lengths) // (4 * batch)))
        parts = [np.sort(drawn[start : start + at_once])[::-1] for start in range(0, len(drawn), at_once)]
        drawn = np.concatenate(parts)
    whole = len(drawn) // batch * batch
    total = int(drawn[:whole].reshape(-1, batch).max(axis=1).sum()) * batch
    rest = drawn[whole:]
    return total + (int(rest.max()) * len(rest) if len(rest) else 0)


def _packs(rows: Rows, limit: int) -> int:
    """Sequences that rows are packed into: best fit, longest first (arXiv:2404.10830), a thousand rows at a time."""
    parts = range(0, rows.count, PACKED_AT_ONCE)
    every = max(1, len(parts) // SAMPLED_PACKINGS)
    packed = taken = 0
    for start in parts[::every]:
        part = rows.lengths[start : start + PACKED_AT_ONCE].tolist()
        taken += len(part)
        packed += _best_fit(part, limit)
    return max(1, round(packed * rows.count / taken)) if taken else 0


def _best_fit(lengths: list[int], limit: int) -> int:
    room: list[int] = []
    bins = 0
    for length in sorted(lengths, reverse=True):
        at = bisect.bisect_left(room, length)
        left = room.pop(at) if at < len(room) else limit
        bins += left == limit
        bisect.insort(room, max(0, left - length))
    return max(bins, 1) if lengths else 0


def read_rows(dataset: Path, stage_name: str, stage: StageRecipe) -> Rows:
    """The rows of one stage of a frozen dataset.

    The export counted the tokens of each set with the model's own tokenizer and template, and wrote down their sum;
    here they are shared out over the rows by the bytes of their text.

    :raises MedllmError: if the dataset has no set for the stage, or a line of one is no row.
    """
    import numpy as np

    sets = frozen.sets_of(dataset, stage_name, ("tokens", "max_length"))
    if not sets:
        raise MedllmError(
            f"dataset {dataset} has no set for stage {stage_name}: export it again, or leave the stage out"
        )
    parts, val_rows, val_tokens, limit = [], 0, 0.0, 0
    for name, figures in sets.items():
        texts = np.array(_sizes(dataset / "train" / f"{name}.jsonl"), np.float64)
        # Of a pair, the batch is as long as the longer dialogue; that there are two is the setup's business.
        tokens, longest = int(figures.get("longer_tokens", figures["tokens"])), int(figures["max_length"])
        limit = max(limit, longest)
        parts.append(_share_out(texts, tokens, longest))
        scored = rows_scored(dataset / "val" / f"{name}.jsonl", stage.eval_rows)
        val_rows += scored
        val_tokens += scored * tokens / max(1, len(texts))
    return Rows(np.concatenate(parts), val_rows, round(val_tokens), limit)


def _share_out(texts: Any, tokens: int, longest: int) -> Lengths:
    """Whole tokens of each row whose sum is ``tokens``, none of them above ``longest``."""
    import numpy as np

    if not len(texts):
        return np.zeros(0, np.int64)
    shares = np.zeros(len(texts))
    free = np.ones(len(texts), bool)
    while free.any():
        # What is cut off a row that would be too long belongs to the others.
        left = tokens - longest * int((~free).sum())
        shares[free] = texts[free] * (max(left, 0) / max(texts[free].sum(), 1.0))
        above = free & (shares > longest)
        if not above.any():
            break
        shares[above], free[above] = longest, False
    ends = np.floor(np.cumsum(shares) + 0.5)
    return np.maximum(np.diff(ends, prepend=0.0), 1).astype(np.int64)


def _sizes(path: Path) -> list[int]:
    sizes = []
    for number, row in enumerate(frozen.read_rows(path), 1):
        try:
            sizes.append(_bytes(row))
        except (LookupError, TypeError, AttributeError) as error:
            raise MedllmError(f"{path}: line {number} has no messages with texts") from error
    return sizes


def _bytes(row: Mapping[str, Any]) -> int:
    answer = row.get("rejected_response")
    texts = [message["content"] for message in row["messages"]] + ([answer] if isinstance(answer, str) else [])
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def changed_files(dataset: Path) -> list[str]:
    """A sentence for each file of a frozen dataset that is not what its manifest says."""
    wrong = []
    for name, figures in frozen.sets_of(dataset, needs=SIDES).items():
        for side in SIDES:
            path, said = dataset / side / f"{name}.jsonl", figures.get("hashes", {}).get(side)
            if not path.is_file():
                wrong.append(f"{side}/{path.name} is missing from {dataset}: export the dataset again")
            elif said != (found := file_hash(path)):
                told = f"the manifest says {said}" if said else "the manifest has none"
                wrong.append(f"{side}/{path.name} was changed: its hash is {found}, {told}; export the dataset again")
            elif count_lines(path) != figures[side]:
                wrong.append(f"{side}/{path.name} has {count_lines(path)} rows, the manifest says {figures[side]}")
    return wrong
