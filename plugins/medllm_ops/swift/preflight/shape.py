"""The shape of a language model: what of its ``config.json`` decides memory and time. No torch, no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json
from medllm_ops.home import home
from medllm_ops.models.folder import most_tokens, text_config
from medllm_ops.models.resolve import RANDOM, is_made_here
from medllm_ops.yaml_file import read_yaml

PUBLISHED = Path(__file__).with_name("published.yaml")
# What a linear layer reads: the layer's normalised input, the heads' output, the block's input, its inner values.
Reads = Literal["attention", "heads", "block", "inner"]

_ALIASES: dict[str, tuple[str, ...]] = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "num_layers", "n_layer"),
    "heads": ("num_attention_heads", "n_head"),
    "vocabulary": ("padded_vocab_size", "vocab_size"),
}
# Modules that hold several of Llama's in one, by the model type of the configuration.
_FUSED: dict[str, dict[str, tuple[str, ...]]] = {
    "qwen": {
        "c_attn": ("q_proj", "k_proj", "v_proj"),
        "c_proj": ("o_proj", "down_proj"),
        "w1": ("up_proj",),
        "w2": ("gate_proj",),
    },
    "baichuan": {"W_pack": ("q_proj", "k_proj", "v_proj")},
    "internlm2": {
        "wqkv": ("q_proj", "k_proj", "v_proj"),
        "wo": ("o_proj",),
        "w1": ("gate_proj",),
        "w2": ("down_proj",),
        "w3": ("up_proj",),
    },
    "chatglm": {
        "query_key_value": ("q_proj", "k_proj", "v_proj"),
        "dense": ("o_proj",),
        "dense_h_to_4h": ("gate_proj", "up_proj"),
        "dense_4h_to_h": ("down_proj",),
    },
    "glm4": {"gate_up_proj": ("gate_proj", "up_proj")},
}


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer: so many numbers in, so many out; ``copies`` of it in a layer, ``used`` by each token."""

    name: str
    inputs: int
    outputs: int
    reads: Reads
    copies: int = 1
    used: int = 1

    @property
    def weights(self) -> int:
        """Weights of one copy."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class ModelShape:
    """A decoder of Llama's kind: RMS norms, grouped heads, a gated block, maybe of experts.

    :param intermediate: inner width that one token uses in a layer's block, over all its experts.
    :param head_norms: whether queries and keys are normalised, head by head (Qwen3).
    :param longest: the most tokens the model takes; None if the configuration does not say.
    :param dtype: of the weights, as the configuration names it.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool
    linears: tuple[Linear, ...]
    head_norms: bool = False
    longest: int | None = None
    dtype: str | None = None
    kind: str = ""

    @cached_property
    def layer_weights(self) -> int:
        """Weights of the linear layers of one layer, all experts counted."""
        return sum(linear.weights * linear.copies for linear in self.linears)

    @cached_property
    def total(self) -> int:
        """All weights, biases left out."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * (self.layer_weights + 2 * self.hidden) + embeddings + self.hidden

    @cached_property
    def quantisable(self) -> int:
        """Weights that bitsandbytes keeps in few bits: linear layers but the last."""
        return self.layers * self.layer_weights

    @cached_property
    def multiplied(self) -> int:
        """Weights that each token is multiplied with: an embedding is looked up, the last layer is not."""
        layer = sum(linear.weights * linear.used for linear in self.linears)
        return self.layers * layer + self.vocabulary * self.hidden

    def targets(self, modules: Sequence[str]) -> tuple[list[Linear], list[str]]:
        """The linear layers that get adapters, and the names among ``modules`` that are none here."""
        if "all-linear" in modules:
            return list(self.linears), []
        by_name = {linear.name: linear for linear in self.linears}
        fused = _FUSED.get(self.kind, {})
        found: dict[str, Linear] = {}
        unknown = []
        for module in modules:
            name = module.rpartition(".")[2]
            parts = fused.get(name, (name,))
            if not all(part in by_name for part in parts):
                unknown.append(module)
                continue
            found |= {part: by_name[part] for part in parts}
        return list(found.values()), unknown

    def adapter(self, modules: Sequence[str], rank: int) -> int:
        """Weights of LoRA's factors: r · (in + out) for each layer that has them (arXiv:2106.09685 §4.1)."""
        found, unknown = self.targets(modules)
        linears = self.linears if unknown else found
        return self.layers * sum(rank * (each.inputs + each.outputs) * each.copies for each in linears)


def shape_of(config: Mapping[str, Any], where: str = "config.json") -> ModelShape:
    """Read a configuration as transformers writes it.

    :raises MedllmError: naming what it lacks.
    """
    config = text_config(config)
    sizes = {name: _first(config, keys) for name, keys in _ALIASES.items()}
    if missing := [_ALIASES[name][0] for name, value in sizes.items() if not value]:
        raise MedllmError(f"{where} does not say {', '.join(missing)}: its memory and time cannot be estimated")
    hidden, heads = sizes["hidden"], sizes["heads"]
    kind = str(config.get("model_type", ""))
    groups = config.get("multi_query_group_num") if config.get("multi_query_attention") else None
    kv_heads = int(config.get("num_key_value_heads") or groups or heads)
    head_dim = int(config.get("head_dim") or config.get("kv_channels") or hidden // heads)
    linears = (*_attention(config, hidden, heads, kv_heads, head_dim), *_block(config, kind, hidden))
    inner = sum(linear.inputs * linear.used for linear in linears if linear.reads == "inner")
    return ModelShape(
        hidden=hidden,
        layers=sizes["layers"],
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=inner,
        vocabulary=sizes["vocabulary"],
        tied=bool(config.get("tie_word_embeddings", kind not in ("qwen", "baichuan", "chatglm"))),
        linears=linears,
        head_norms=kind.startswith("qwen3"),
        longest=most_tokens(config),
        dtype=config.get("dtype") or config.get("torch_dtype"),
        kind=kind,
    )


def _first(config: Mapping[str, Any], keys: Sequence[str]) -> int:
    return next((int(config[key]) for key in keys if config.get(key)), 0)


def _attention(config: Mapping[str, Any], hidden: int, heads: int, kv_heads: int, head_dim: int) -> tuple[Linear, ...]:
    if rank := config.get("kv_lora_rank"):
        # Multi-head latent attention, DeepSeek-V2, arXiv:2405.04434 §2.1.
        plain, turned = int(config["qk_nope_head_dim"]), int(config["qk_rope_head_dim"])
        value = int(config["v_head_dim"])
        query = int(config.get("q_lora_rank") or hidden)
        return (
            Linear("q_a_proj", hidden, query, "attention"),
            Linear("q_b_proj", query, heads * (plain + turned), "attention"),
            Linear("kv_a_proj_with_mqa", hidden, int(rank) + turned, "attention"),
            Linear("kv_b_proj", int(rank), heads * (plain + value), "attention"),
            Linear("o_proj", heads * value, hidden, "heads"),
        )
    return (
        Linear("q_proj", hidden, heads * head_dim, "attention"),
        Linear("k_proj", hidden, kv_heads * head_dim, "attention"),
        Linear("v_proj", hidden, kv_heads * head_dim, "attention"),
        Linear("o_proj", heads * head_dim, hidden, "heads"),
    )


def _block(config: Mapping[str, Any], kind: str, hidden: int) -> tuple[Linear, ...]:
    experts = int(config.get("num_experts") or config.get("n_routed_experts") or config.get("num_local_experts") or 0)
    used = int(config.get("num_experts_per_tok") or 1) if experts else 1
    inner = _first(config, ("moe_intermediate_size",)) if experts else 0
    inner = inner or _first(config, ("intermediate_size", "ffn_hidden_size", "n_inner")) or 4 * hidden
    if kind == "qwen":
        inner //= 2  # Its two halves are what others call the width.
    copies = experts or 1
    return (
        Linear("gate_proj", hidden, inner, "block", copies, used),
        Linear("up_proj", hidden, inner, "block", copies, used),
        Linear("down_proj", inner, hidden, "inner", copies, used),
    )


def read_shape(model: str) -> ModelShape:
    """The shape of a model by its folder, or of one that a recipe that ships names; nothing is fetched.

    :raises MedllmError: if there is no configuration at hand.
    """
    name = model.removeprefix(RANDOM)
    folder = home() / "models" / name if is_made_here(name) else Path(name).expanduser()
    file = folder / "config.json"
    if file.is_file():
        return shape_of(read_json(file), str(file))
    published: dict[str, Any] = read_yaml(PUBLISHED)
    config = published.get(name.rstrip("/").rpartition("/")[2])
    if config is None:
        raise MedllmError(
            f"model {model}: its config.json is not on this machine: fetch it, and give its folder with --model"
        )
    return shape_of(config, f"{PUBLISHED.name}, {name}")
