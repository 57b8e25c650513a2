"""A tiny random twin of a model: its own classes in transformers, a few thousand weights, and the tokenizer of tests.

What goes wrong with a family (classes that are gone, templates, names of modules, merges) goes wrong with its twin::

    python -m medllm_ops.models.twins MODEL_TYPE FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import whole_directory
from medllm_ops.models.families import Member, find_member
from medllm_ops.models.tiny import make_tokenizer

# What makes a configuration small, under each name that transformers' families have for it.
_SMALL: dict[str, int] = {
    "depth": 1,
    "first_k_dense_replace": 1,
    "head_dim": 16,
    "hidden_size": 32,
    "image_size": 28,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "index_topk": 64,
    "intermediate_size": 64,
    "kv_lora_rank": 8,
    "linear_key_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_value_head_dim": 8,
    "max_position_embeddings": 2048,
    "moe_intermediate_size": 16,
    "n_group": 1,
    "n_routed_experts": 4,
    "num_attention_heads": 2,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_heads": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 1,
    "num_local_experts": 4,
    "out_hidden_size": 32,
    "patch_size": 14,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "shared_expert_intermediate_size": 16,
    "topk_group": 1,
    "v_head_dim": 8,
}


def make_twin(member: Member, folder: Path, seed: int = 0) -> Path:
    """Write the twin and its tokenizer to ``folder``, whole or not at all, and return the folder.

    :raises MedllmError: if the installed transformers has no class for it.
    """
    import torch
    import transformers

    kind = getattr(transformers, member.architecture, None)
    if kind is None:
        raise MedllmError(f"transformers {transformers.__version__} has no {member.architecture}")
    tokenizer = make_tokenizer()
    if member.twin_tokens:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *member.twin_tokens]})
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    values = _small(kind.config_class, {"vocab_size": len(tokenizer), **ids})
    _overlay(values, member.twin)
    torch.manual_seed(seed)
    config = kind.config_class(**{**values, **ids})
    model = kind(config).to(torch.float32)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    processor = _make_processor(config.model_type, tokenizer)
    with whole_directory(folder) as part:
        model.save_pretrained(part)
        (processor or tokenizer).save_pretrained(part)
    return folder


def _make_processor(model_type: str, tokenizer: Any) -> Any:
    """What a model for images too asks for in every training, also of text alone; None for models of text.

    Without torchvision, transformers has no class for videos, and the one for images that is slower.
    """
    import transformers
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
    from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES

    if model_type not in PROCESSOR_MAPPING_NAMES:
        return None
    parts = {"tokenizer": tokenizer, "chat_template": tokenizer.chat_template}
    images = IMAGE_PROCESSOR_MAPPING_NAMES[model_type]
    parts["image_processor"] = getattr(transformers, images["pil"])()
    if videos := VIDEO_PROCESSOR_MAPPING_NAMES.get(model_type, {}).get("torchvision"):
        parts["video_processor"] = getattr(transformers, videos)()
    return getattr(transformers, PROCESSOR_MAPPING_NAMES[model_type])(**parts)


def _small(config_class: Any, tokens: dict[str, Any]) -> dict[str, Any]:
    """The values that make a configuration of this class small, with those of its parts."""
    default = config_class()
    values: dict[str, Any] = {name: value for name, value in (_SMALL | tokens).items() if hasattr(default, name)}
    for name, part in getattr(config_class, "sub_configs", {}).items():
        if hasattr(part, "model_type"):
            values[name] = _small(part, tokens)
    return values


def _overlay(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(values.get(name), dict):
            _overlay(values[name], value)
        elif value is None:
            values.pop(name, None)
        else:
            values[name] = value


def main() -> None:
    """Make the twin of a member of the table of families."""
    parser = argparse.ArgumentParser(description="Make a tiny random twin of a model.")
    parser.add_argument("model", help="a model id, or its short name in the table of families")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    make_twin(find_member(arguments.model), arguments.folder)


if __name__ == "__main__":
    main()
