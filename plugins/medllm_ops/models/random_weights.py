"""A model of a given shape with random weights, to be trained from nothing.

::

    python -m medllm_ops.models.random_weights SHAPE FOLDER

``SHAPE`` holds a config.json and a tokenizer. The weights are float32: training from nothing in bfloat16 loses the
small updates. Code that comes with the model is never executed: transformers has to know the class.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from medllm_ops.files import whole_directory


def make_random_model(shape: Path, folder: Path, seed: int = 0) -> Path:
    """Write the model and its tokenizer to ``folder``, whole or not at all, and return the folder.

    :raises ValueError: if transformers does not know the configuration's class.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(shape, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(shape, trust_remote_code=False)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    with whole_directory(folder) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    return folder


def main() -> None:
    """Make the model unless its folder exists."""
    parser = argparse.ArgumentParser(description="Make a model with random weights.")
    parser.add_argument("shape", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        make_random_model(arguments.shape, arguments.folder)


if __name__ == "__main__":
    main()
