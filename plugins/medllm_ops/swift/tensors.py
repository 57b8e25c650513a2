"""Weights on disk, compared block by block: the tensor part of the merge proof.

Only blocks of rows are held in memory, so that a 14B model takes no more than a tiny one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json
from medllm_ops.swift.lora import Adapter, LowRankUpdate, NotProvableError

INDEX_FILE = "model.safetensors.index.json"
BLOCK_ELEMENTS = 4_000_000
# How far the share of the update that survived may lie from the share that must survive rounding.
SHARE_TOLERANCE = 0.05
MAX_FAILURES = 50
RULE = (
    "each element: |merged - (base + scale*B*A)| <= eps(dtype) * (|base + scale*B*A| + 2 * scale*|B|*|A|)"
    " + rank * eps(float32) * scale*|B|*|A|; max_abs_diff and tolerance are those of the element nearest to its"
    f" limit, or farthest beyond; and the share of the update that rounding leaves within {SHARE_TOLERANCE}"
)

HEAD = "lm_head.weight"
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
# Old checkpoints carry this buffer; it is computed from the config and no longer saved.
_RECOMPUTED = ("rotary_emb.inv_freq",)


class Weights:
    """The tensors of a model folder, single file or sharded, opened but not read.

    :raises NotProvableError: if the folder has no safetensors.
    :raises MedllmError: naming the file that is missing, cut off, or not what the index says.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        index = folder / INDEX_FILE
        wanted: dict[str, str] = read_json(index)["weight_map"] if index.is_file() else {}
        paths = [folder / name for name in sorted(set(wanted.values()))] or sorted(folder.glob("*.safetensors"))
        if not paths:
            raise NotProvableError(f"not provable: {folder} holds no weights in the safetensors format")
        self._file_of: dict[str, Any] = {}
        for path in paths:
            try:
                file = safe_open(path, framework="pt")
            except FileNotFoundError as error:
                raise MedllmError(f"{path}: {INDEX_FILE} names this file, but it is missing") from error
            except SafetensorError as error:
                raise MedllmError(f"{path}: cut off or damaged: {error}") from error
            keys: list[str] = list(file.keys())  # type: ignore[no-untyped-call]
            self._file_of.update(dict.fromkeys(keys, file))
        if absent := sorted(wanted.keys() - self._file_of.keys()):
            raise MedllmError(f"{folder}: {INDEX_FILE} names {', '.join(absent[:5])}, which no shard holds")

    @property
    def names(self) -> set[str]:
        """The names of all tensors."""
        return set(self._file_of)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return tuple(self._file_of[name].get_slice(name).get_shape())

    def rows(self, name: str, start: int, stop: int) -> Any:
        """Rows ``start:stop`` of a tensor (a scalar is one row)."""
        if not self.shape(name):
            return self._file_of[name].get_tensor(name).reshape(1)
        return self._file_of[name].get_slice(name)[start:stop]

    def dtype(self, name: str) -> Any:
        """The dtype of a tensor."""
        return self.rows(name, 0, 1).dtype

    def main_dtype(self) -> Any:
        """The dtype of most elements."""
        sizes: dict[Any, int] = {}
        for name in self.names:
            dtype = self.dtype(name)
            sizes[dtype] = sizes.get(dtype, 0) + math.prod(self.shape(name))
        return max(sizes, key=lambda dtype: sizes[dtype])


def blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Split rows so that each block has about ``BLOCK_ELEMENTS`` elements."""
    count = shape[0] if shape else 1
    step = max(1, BLOCK_ELEMENTS // max(1, math.prod(shape[1:])))
    for start in range(0, count, step):
        yield start, min(count, start + step)


@dataclass(slots=True)
class Comparison:
    """What :func:`compare` found.

    :param relative_change: Frobenius norm of the update over that of the base's weight, by name.
    :param share: the part of the update that is still there after rounding to the dtype, by name.
    """

    failures: list[str] = field(default_factory=list)
    unchanged: int = 0
    max_abs_diff: float = 0.0
    tolerance: float = 0.0
    ratio: float = -1.0
    worst: str = ""
    relative_change: dict[str, float] = field(default_factory=dict)
    share: dict[str, float] = field(default_factory=dict)
    changed_elements: int = 0

    def fail(self, message: str) -> None:
        """Note a failure; beyond ``MAX_FAILURES`` they are only counted by the last entry."""
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(message)
        elif len(self.failures) == MAX_FAILURES:
            self.failures.append("and more")


def compare(base: Weights, adapter: Adapter, merged: Weights, *, tied: bool, dtype: Any = None) -> Comparison:
    """Compare the merged model on disk with base and adapter, tensor by tensor.

    :param tied: whether the base's config ties the output head to the input embedding.
    :param dtype: the dtype asked for; None means that every tensor keeps the base's.
    """
    found = Comparison()
    names = _compare_names(base, adapter, merged, tied, found)
    for name in sorted(names):
        if name in adapter.updates:
            _compare_adapted(name, base, adapter, merged, dtype, found)
        else:
            _compare_unchanged(name, base, adapter, merged, dtype, found)
    if not adapter.replaced and all(update.is_zero for update in adapter.updates.values()):
        found.fail("the adapter is zero: B*A is 0 for every module, so it changes nothing")
    elif adapter.updates and not found.changed_elements and not found.failures:
        found.fail("the whole update was lost in rounding: no element of the merged weights differs from the base")
    return found


def _compare_names(base: Weights, adapter: Adapter, merged: Weights, tied: bool, found: Comparison) -> set[str]:
    for name in sorted((adapter.updates.keys() | adapter.replaced.keys()) - base.names - {HEAD}):
        found.fail(f"{name}: the adapter changes it, but the base has no such tensor")
    missing, extra = base.names - merged.names, merged.names - base.names
    if tied and HEAD in missing | extra and HEAD not in adapter.replaced:
        # A tied head is the embedding itself: saved once or twice, it must only be equal to it.
        missing.discard(HEAD)
        extra.discard(HEAD)
        if HEAD in merged.names:
            _compare_tied_head(merged, found)
    for name in sorted(missing):
        if not name.endswith(_RECOMPUTED):
            found.fail(f"{name}: missing in the merged model")
    for name in sorted(extra - adapter.replaced.keys()):
        found.fail(f"{name}: in the merged model, but not in the base")
    return (base.names | adapter.replaced.keys()) & merged.names


def _compare_tied_head(merged: Weights, found: Comparison) -> None:
    for name in merged.names:
        if name.endswith(_EMBEDDINGS) and merged.shape(name) == merged.shape(HEAD):
            if not all(_same_bits(merged.rows(name, *at), merged.rows(HEAD, *at)) for at in blocks(merged.shape(HEAD))):
                found.fail(f"{HEAD}: tied to {name} in the config, but not equal to it")
            return
    found.fail(f"{HEAD}: tied in the config, but there is no embedding of its shape")


def _same_bits(left: Any, right: Any) -> bool:
    import torch

    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return bool(torch.equal(left.contiguous().view(torch.uint8), right.contiguous().view(torch.uint8)))


def _wanted_dtype(own: Any, asked: Any) -> Any:
    return asked if asked is not None and own.is_floating_point else own


def _before(name: str, base: Weights, adapter: Adapter, start: int, stop: int) -> Any:
    """The rows that the update is added to: the base's, or those that the adapter brings along."""
    if name in adapter.replaced:
        return adapter.replaced[name][start:stop]
    return base.rows(name, start, stop)


def _agree(name: str, base: Weights, adapter: Adapter, merged: Weights, asked: Any, found: Comparison) -> bool:
    """Check shape and dtype."""
    before = tuple(adapter.replaced[name].shape) if name in adapter.replaced else base.shape(name)
    own = base.dtype(name) if name in base.names else base.main_dtype()
    wanted, got = _wanted_dtype(own, asked), merged.dtype(name)
    if before != merged.shape(name):
        found.fail(f"{name}: shape {list(merged.shape(name))} in the merged model, {list(before)} expected")
        return False
    if got != wanted:
        found.fail(f"{name}: {got} in the merged model, {wanted} expected".replace("torch.", ""))
        return False
    return True


def _compare_unchanged(
    name: str, base: Weights, adapter: Adapter, merged: Weights, asked: Any, found: Comparison
) -> None:
    if not _agree(name, base, adapter, merged, asked, found):
        return
    for at in blocks(merged.shape(name)):
        got = merged.rows(name, *at)
        if not _finite(got):
            found.fail(f"{name}: NaN or infinite values in the merged model")
            return
        if not _same_bits(_before(name, base, adapter, *at).to(got.dtype).reshape(got.shape), got):
            where = "the adapter's own tensor" if name in adapter.replaced else "the base"
            found.fail(f"{name}: no adapter changes it, but it differs from {where} in rows {at[0]} to {at[1]}")
            return
    found.unchanged += 1


def _finite(tensor: Any) -> bool:
    return not tensor.is_floating_point() or bool(tensor.float().isfinite().all())


def _compare_adapted(
    name: str, base: Weights, adapter: Adapter, merged: Weights, asked: Any, found: Comparison
) -> None:
    if not _agree(name, base, adapter, merged, asked, found):
        return
    update, shape = adapter.updates[name], merged.shape(name)
    if shape != (update.left.shape[0], update.right.shape[1]):
        found.fail(f"{name}: shape {list(shape)}, but the adapter's update has another")
        return
    sums = dict.fromkeys(("update", "before", "wanted", "got"), 0.0)
    ratio = -1.0
    for start, stop in blocks(shape):
        block = _Block(_before(name, base, adapter, start, stop), merged.rows(name, start, stop), update, start, stop)
        if not block.finite:
            found.fail(f"{name}: NaN or infinite values in the merged model or the adapter")
            return
        ratio = max(ratio, block.note_worst(name, found))
        block.add_to(sums)
        found.changed_elements += block.changed
    found.relative_change[name] = math.sqrt(sums["update"] / sums["before"]) if sums["before"] else 0.0
    if ratio > 1:
        found.fail(f"{name}: differs from base + scale*B*A by up to {ratio:.3g} times the tolerance")
    if sums["update"]:
        wanted, got = sums["wanted"] / sums["update"], sums["got"] / sums["update"]
        found.share[name] = got
        if abs(got - wanted) > SHARE_TOLERANCE * max(1.0, wanted):
            found.fail(f"{name}: holds {got:.3g} times the adapter's update, {wanted:.3g} expected (wrong scale?)")


class _Block:
    """Some rows of one adapted weight, in float64."""

    def __init__(self, before: Any, got: Any, update: LowRankUpdate, start: int, stop: int) -> None:
        import torch

        self._before, self._got = before.double(), got.double()
        self._update, rounding = update.rows(start, stop)
        wanted = self._before + self._update
        eps, eps32 = torch.finfo(got.dtype).eps, torch.finfo(torch.float32).eps
        self._limit = eps * (wanted.abs() + 2 * rounding) + update.rank * eps32 * rounding
        # Below the smallest normal number the spacing no longer shrinks.
        self._limit = self._limit.clamp_min(torch.finfo(got.dtype).tiny * eps)
        self._diff = (self._got - wanted).abs()
        self._rounded = wanted.to(got.dtype).double()
        self.finite = bool(self._diff.isfinite().all())

    def note_worst(self, name: str, found: Comparison) -> float:
        """Keep the element nearest to its limit, and return its share of the limit."""
        ratios = self._diff / self._limit
        at = int(ratios.argmax())
        ratio = float(ratios.flatten()[at])
        if ratio > found.ratio:
            found.ratio, found.worst = ratio, name
            found.max_abs_diff = float(self._diff.flatten()[at])
            found.tolerance = float(self._limit.flatten()[at])
        return ratio

    def add_to(self, sums: dict[str, float]) -> None:
        """Add up the squares and products that norm and surviving share are made of."""
        sums["update"] += float((self._update**2).sum())
        sums["before"] += float((self._before**2).sum())
        sums["wanted"] += float(((self._rounded - self._before) * self._update).sum())
        sums["got"] += float(((self._got - self._before) * self._update).sum())

    @property
    def changed(self) -> int:
        """How many elements differ from the base."""
        return int((self._got != self._before).sum())
