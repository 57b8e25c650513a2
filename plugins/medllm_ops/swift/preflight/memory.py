"""The memory of one device at its fullest, term by term. Bytes in, bytes out; every formula names its source.

The terms are those of a decoder of Llama's kind as transformers 5 runs it, counted the way Korthikanti et al.
(arXiv:2205.05198 §4.1) count GPT's: what autograd keeps for the backward pass. Their own sum, s·b·h·(34 + 5·a·s/h)
bytes a layer, is GPT's with dropout; the parts differ here, the way of counting does not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from medllm_ops.swift.preflight.setup import Setup
from medllm_ops.swift.preflight.shape import Linear, ModelShape

GIBI = 2**30
FLOAT32 = 4
# Assumptions, to be measured on a GPU: the driver's context with cuBLAS and its workspace, and what the allocator
# cannot use of what it holds.
CUDA_CONTEXT = 0.9 * GIBI
CUDA_FRAGMENTATION = 0.06
# Measured (the case ``base`` of benchmarks/preflight.py): the resident memory of ms-swift's process that trains a model
# of a few hundred kB.
CPU_PROCESS = 0.57 * GIBI
# glibc's heap keeps what batches of other lengths left: fitted to the first round of the benchmark, where it was 0.2 to
# 0.9 of what comes and goes. With MALLOC_MMAP_THRESHOLD_=131072 it vanished, and steps took half as long again.
CPU_FRAGMENTATION = 0.4
# The loss of one token for each entry of the vocabulary: log-softmax's result, its gradient, and that of the logits,
# each in float32 (transformers' ForCausalLMLoss casts the logits up). The logits themselves are gone by then.
LOSS_BYTES = 3 * FLOAT32
# PyTorch's DistributedDataParallel keeps the gradients once more, in buckets (gradient_as_bucket_view=False).
DDP_COPY = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one device, by what they are for; ``evaluation`` is what it takes beyond the training step."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    evaluation: float
    buffers: float
    process: float
    host: float = 0.0

    @property
    def total(self) -> float:
        """The device's memory at its fullest; ``host`` is what lies in the host's instead."""
        return float(sum(asdict(self).values())) - self.host

    @property
    def gibibytes(self) -> float:
        """The total in GiB."""
        return self.total / GIBI


def memory(shape: ModelShape, setup: Setup, length: int) -> Memory:
    """The memory of a training step with a batch whose rows are all ``length`` tokens long."""
    tokens = setup.batch * setup.rows_at_once * length
    weights = _weights(shape, setup)
    gradients, optimizer, host = _states(setup)
    activations = tokens * _activations(shape, setup, length)
    logits = _logits(shape, setup, tokens)
    if setup.accumulation == 1 and setup.gpus == 1 and setup.zero is None:
        # There are no gradients before the backward pass, and few activations after it: never both at once.
        # The head's gradient is the first, and the loss is gone by then.
        spared = min(gradients, activations + logits)
        gradients -= spared
    evaluation = max(0.0, _evaluation(shape, setup, length) - activations - logits - gradients)
    buffers = _buffers(shape, setup)
    passing = gradients + activations + logits + evaluation
    on_gpu = setup.device == "cuda"
    process = (CUDA_CONTEXT if on_gpu else CPU_PROCESS) + passing * (
        CUDA_FRAGMENTATION if on_gpu else CPU_FRAGMENTATION
    )
    return Memory(weights, gradients, optimizer, activations, logits, evaluation, buffers, process, host)


def _weights(shape: ModelShape, setup: Setup) -> float:
    """Weights of the model and the adapters; ZeRO's third stage shares them out (arXiv:1910.02054 §5.3).

    4 bits and a float32 constant for 64 weights are 4.5 bits a weight, 4.127 with constants that are quantised again
    (QLoRA, arXiv:2305.14314 §3); transformers leaves the embedding and the last layer as they are.
    """
    plain = float(shape.total * setup.weight_bytes)
    if setup.bits:
        overhead = 0.127 if setup.double_quant and setup.bits == 4 else 0.5
        packed = shape.quantisable * (setup.bits + overhead) / 8
        plain = (shape.total - shape.quantisable) * setup.weight_bytes + packed
    adapters = 0 if setup.full else setup.trained * setup.adapter_bytes
    if setup.full and setup.arithmetic_bytes < setup.weight_bytes:
        # torch.autocast keeps a cast copy of each trained weight until the step ends.
        adapters += setup.trained * setup.arithmetic_bytes
    if setup.reference_model:
        plain *= 2
    if setup.zero == 3:
        return 0.0 if setup.offload_weights else (plain + adapters) / setup.gpus
    return plain + adapters


def _states(setup: Setup) -> tuple[float, float, float]:
    """Gradients, the optimizer's states, and what of them lies on the host (ZeRO, arXiv:1910.02054 §5; §3.1 for K)."""
    bytes_each = setup.weight_bytes if setup.full else setup.adapter_bytes
    gradients = float(setup.trained * bytes_each)
    optimizer = setup.trained * setup.optimizer_bytes
    zero = setup.zero or 0
    if zero >= 1:
        optimizer /= setup.gpus
    if zero >= 2:
        gradients /= setup.gpus
    if setup.gpus > 1 and setup.zero is None:
        gradients *= 1 + DDP_COPY
    return (gradients, 0.0, optimizer) if setup.offload_optimizer else (gradients, optimizer, 0.0)


def _buffers(shape: ModelShape, setup: Setup) -> float:
    """DeepSpeed's buckets as ms-swift's configurations set them; with ZeRO-3 also the layers that are gathered."""
    if setup.zero == 3:
        gathered = min(2 * shape.layer_weights + shape.vocabulary * shape.hidden, shape.total)
        return gathered * setup.weight_bytes * (1.0 if setup.gpus > 1 or setup.offload_weights else 0.0)
    if setup.zero in (1, 2):
        return 2 * min(2e8, setup.trained) * (setup.arithmetic_bytes if setup.full else setup.adapter_bytes)
    return 0.0


def _activations(shape: ModelShape, setup: Setup, length: int) -> float:
    """Bytes for each token of all layers: whole, or what recomputation leaves.

    Full recomputation keeps each layer's input, 2·s·b·h there (arXiv:2205.05198 §5), and one layer at a time.
    """
    residual = _residual_bytes(setup)
    layer = _layer(shape, setup, length)
    around = shape.hidden * (residual + _norm(setup))
    if setup.checkpointing:
        return shape.layers * shape.hidden * residual + layer + around
    return shape.layers * layer + around


def _residual_bytes(setup: Setup) -> int:
    return max(setup.weight_bytes if not setup.bits else setup.arithmetic_bytes, setup.arithmetic_bytes)


def _norm(setup: Setup) -> int:
    """An RMS norm keeps its input in float32, and what it scales if the scale is trained; liger keeps the input."""
    if setup.liger:
        return _residual_bytes(setup)
    return FLOAT32 + (_residual_bytes(setup) if setup.full else 0)


def _layer(shape: ModelShape, setup: Setup, length: int) -> float:
    """Bytes for each token of one layer whose activations are kept."""
    number = setup.arithmetic_bytes
    heads = shape.heads * shape.head_dim
    shared = shape.kv_heads * shape.head_dim
    attention = {
        # Queries, keys, values and the result; transformers repeats keys and values for every head of a group.
        "flash": (2 * heads + 2 * shared) * number + FLOAT32 * shape.heads,
        # torch turns the padding mask of a batch, length by length, into numbers, in every layer.
        "sdpa": 4 * heads * number + FLOAT32 * shape.heads + length * number,
        # The softmax over all keys in float32, and its cast: the 5·a·s² of arXiv:2205.05198 without dropout.
        "eager": 3 * heads * number + shape.heads * length * (FLOAT32 + (number if number < FLOAT32 else 0)),
    }[setup.attention]
    if shape.head_norms:
        attention += (heads + shared) * _norm(setup)
    # The gate before and after its nonlinearity, and the other branch; liger computes the nonlinearity again.
    block = (2 if setup.liger else 3) * shape.intermediate * number
    return 2 * shape.hidden * _norm(setup) + attention + block + _linear_inputs(shape, setup)


def _linear_inputs(shape: ModelShape, setup: Setup) -> float:
    """What linear layers keep of their inputs: all of them where weights are trained, adapted ones with LoRA.

    Each linear layer keeps an input of its own where it is cast or partly dropped, and an adapter also the product with
    its first factor; dropout keeps its mask (a byte on CUDA, a number elsewhere).
    """
    number = setup.arithmetic_bytes
    if setup.full:
        if number < setup.weight_bytes:
            return float(sum(each.inputs * each.used for each in shape.linears) * number)
        return float(sum(_by_source(shape.linears).values()) * number)
    targets, unknown = shape.targets(setup.adapters)
    linears = list(shape.linears) if unknown else targets
    inner = sum(setup.rank * each.used * number for each in linears)
    alone = setup.dropout or number != setup.adapter_bytes
    if not alone:
        return float(sum(_by_source(linears).values()) * number + inner)
    mask = (1 if setup.device == "cuda" else setup.adapter_bytes) if setup.dropout else 0
    return float(sum(each.inputs * each.used * (number + mask) for each in linears) + inner)


def _by_source(linears: tuple[Linear, ...] | list[Linear]) -> dict[str, int]:
    """Numbers that are kept once, whichever layers read them."""
    kept: dict[str, int] = {}
    for each in linears:
        kept[each.reads] = max(kept.get(each.reads, 0), each.inputs * each.used)
    return kept


def _logits(shape: ModelShape, setup: Setup, tokens: int) -> float:
    """The loss over the vocabulary; liger's fused loss takes it in V/h chunks of tokens (arXiv:2410.10989 §3.2)."""
    each = shape.vocabulary * LOSS_BYTES
    if not setup.liger:
        return float(tokens * each)
    chunks = -(-shape.vocabulary // shape.hidden)
    head = shape.vocabulary * shape.hidden * setup.weight_bytes if setup.full else 0
    return float(tokens * each / min(chunks, tokens) + tokens * shape.hidden * setup.arithmetic_bytes + head)


def _evaluation(shape: ModelShape, setup: Setup, length: int) -> float:
    """A batch of validation: the logits and the loss, and one layer at a time; liger evaluates with logits, too."""
    tokens = setup.eval_batch * setup.rows_at_once * length
    return tokens * (shape.vocabulary * _evaluated_bytes(setup) + _layer(shape, setup, length))


def _evaluated_bytes(setup: Setup) -> int:
    """Of one logit: as it comes, cast up if need be, and log-softmax's result; nothing is kept for a way back."""
    cast = setup.arithmetic_bytes if setup.arithmetic_bytes < FLOAT32 else 0
    return 2 * FLOAT32 + cast
