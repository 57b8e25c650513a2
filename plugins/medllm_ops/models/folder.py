"""What a model's folder says of itself, and its weights, loaded as the class that it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medllm_ops.files import read_json

# Classes that give logits; others, such as Qwen2Model, end before that.
_SPEAKING = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
_LENGTHS = ("max_position_embeddings", "seq_length", "model_max_length", "n_positions")


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with what it says of text alone: models for images too have that in a part of its own."""
    part = config.get("text_config")
    return {**config, **(part if isinstance(part, dict) else {})}


def most_tokens(config: Mapping[str, Any]) -> int | None:
    """The most tokens of a row that a model takes, by its configuration; None if that does not say.

    Of several lengths the first counts: the ``seq_length`` of Qwen's first models is what they were trained with, and
    less than they take.
    """
    config = text_config(config)
    return next((int(config[name]) for name in _LENGTHS if config.get(name)), None)


def load_model(folder: Path, dtype: Any, *, trust_remote_code: bool = False) -> Any:
    """Load the class that a folder names: of a model for images, that for text alone has other names for its weights.

    :param dtype: torch's, or ``auto``: the folder's own.
    :param trust_remote_code: execute Python code that the folder brings, where it brings some.
    """
    import transformers

    named = str((read_json(folder / "config.json").get("architectures") or [""])[0])
    own = None if trust_remote_code or not named.endswith(_SPEAKING) else getattr(transformers, named, None)
    kind = own or transformers.AutoModelForCausalLM
    return kind.from_pretrained(folder, dtype=dtype, trust_remote_code=trust_remote_code)
