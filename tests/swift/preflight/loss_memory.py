"""Bytes of resident memory that the loss takes for each logit: ``python loss_memory.py DTYPE``; prints two numbers.

The first is what the way there takes, the second what the way back takes at most, the logits given up before it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

VOCABULARY = 40_000
TOKENS = 1024


def resident() -> float:
    """The most so far; getrusage would begin with what the process that started this one had."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(status.partition("VmHWM:")[2].split()[0]) * 1024


def main(dtype: str) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    config = Qwen2Config(vocab_size=VOCABULARY, num_attention_heads=2, num_key_value_heads=1, **sizes)
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("q_proj.weight" in name)
    ids = torch.randint(0, VOCABULARY, (1, TOKENS))
    model(input_ids=ids[:, :32], labels=ids[:, :32]).loss.backward()
    before = resident()
    out = model(input_ids=ids, labels=ids)
    there, loss = resident(), out.loss
    del out
    loss.backward()
    print((there - before) / VOCABULARY / TOKENS, (resident() - before) / VOCABULARY / TOKENS)


if __name__ == "__main__":
    main(sys.argv[1])
