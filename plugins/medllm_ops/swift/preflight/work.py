"""Floating point operations of a stage, and the hours that they take."""

from __future__ import annotations

from dataclasses import dataclass

from medllm_ops.swift.preflight.cards import Card
from medllm_ops.swift.preflight.setup import Setup
from medllm_ops.swift.preflight.shape import ModelShape

TERA = 1e12
# Share of the card's peak that a training reaches. PaLM reports 46.2 % (arXiv:2204.02311 §4.1), Korthikanti et al. 42
# to 56 % (arXiv:2205.05198 table 5), on large clusters with kernels of their own; transformers on one card stays below.
# Assumptions, until they are measured: with flash attention or liger, without, and with weights unpacked at each use.
REACHED_FUSED = 0.40
REACHED_PLAIN = 0.30
REACHED_PACKED = 0.20


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of a stage by what they are for."""

    training: float
    validation: float

    @property
    def total(self) -> float:
        """Both."""
        return self.training + self.validation


def forward(shape: ModelShape, length: float) -> float:
    """Operations of one token's way through the model: 2·N, and 4·s·a·d of attention in each layer.

    N are the weights that a token is multiplied with (Kaplan et al., arXiv:2001.08361 §2.1); attention's part is a
    third of PaLM's 12·L·H·Q·T (arXiv:2204.02311, appendix B): the whole square, of which causal kernels may spare half.
    """
    return 2.0 * shape.multiplied + _attention(shape, length)


def _attention(shape: ModelShape, length: float) -> float:
    return 4.0 * shape.layers * shape.heads * shape.head_dim * length


def training(shape: ModelShape, setup: Setup, length: float) -> float:
    """Operations of one token's training step.

    6·N with all weights (arXiv:2001.08361 §2.1): the way back costs twice the way there, once for the activations' and
    once for the weights' gradients. With frozen weights the latter falls away: 4·N, and 6 for a weight of an adapter.
    Recomputation adds a way there (arXiv:2205.05198 §5).
    """
    there = forward(shape, length)
    weights = 2.0 * shape.multiplied if setup.full else 6.0 * setup.trained
    back = 2.0 * shape.multiplied + 2.0 * _attention(shape, length) + weights
    again = there - 2.0 * shape.vocabulary * shape.hidden if setup.checkpointing else 0.0
    return setup.rows_at_once * (there + back + again) + (setup.rows_at_once * there if setup.rows_at_once > 1 else 0.0)


def rate(card: Card, setup: Setup) -> float:
    """Operations a second that one card is taken to reach; 0 if the card's peak is not known."""
    peak = card.half if setup.arithmetic_bytes == 2 else card.single
    reached = REACHED_FUSED if setup.attention == "flash" or setup.liger else REACHED_PLAIN
    return peak * TERA * (REACHED_PACKED if setup.bits else reached)
