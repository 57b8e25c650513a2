"""Names that recipes know: tuners, schedules, DeepSpeed's settings, and what no recipe may set."""

from __future__ import annotations

from typing import Literal

Scalar = bool | int | float | str
TunerType = Literal[
    "lora", "full", "longlora", "adalora", "llamapro", "adapter", "vera", "boft", "fourierft", "reft", "bone"
]
Scheduler = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
]
DEEPSPEED_NAMES = ("zero0", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")
# Attention that keeps the rows of a packed sequence apart, as ms-swift knows it (SftArguments._check_padding_free).
FLASH_NAMES = ("flash_attn", "flash_attention_2", "flash_attention_3", "flash_attention_4")
ATTENTION_NAMES = ("eager", "sdpa", "flex_attention", *FLASH_NAMES)
# Bits of a weight that each library can pack (QuantizeArguments.get_quantization_config).
BITS_OF = {"bnb": (4, 8), "hqq": (1, 2, 3, 4, 8), "eetq": (8,), "quanto": (2, 4, 8)}

# What the chain decides for every job: a recipe that sets one of them would break a promise of ours. Rows are counted,
# split, cut to length and mixed before ms-swift sees them, and every run ends at its last step.
OWNED_BY_THE_CHAIN = frozenset(
    {
        "adapters",
        "add_version",
        "cached_dataset",
        "cached_val_dataset",
        "check_model",
        "columns",
        "create_checkpoint_symlink",
        "custom_dataset_info",
        "data_seed",
        "dataset",
        "early_stop_interval",
        "eval_strategy",
        "ignore_args_error",
        "ignore_data_skip",
        "interleave_prob",
        "lazy_tokenize",
        "load_args",
        "load_best_model_at_end",
        "load_data_args",
        "load_from_cache_file",
        "loss_scale",
        "max_epochs",
        "model",
        "model_author",
        "model_name",
        "model_type",
        "output_dir",
        "predict_with_generate",
        "push_to_hub",
        "report_to",
        "resume_from_checkpoint",
        "resume_only_model",
        "save_only_model",
        "save_strategy",
        "split_dataset_ratio",
        "streaming",
        "strict",
        "system",
        "template",
        "torch_dtype",
        "truncation_strategy",
        "use_chat_template",
        "use_hf",
        "val_dataset",
    }
)
# Words of ms-swift 1.x that are taken for a module's name today, and fail once the model is loaded.
MODULE_WORDS = {
    "ALL": "write all-linear",
    "AUTO": "list the modules, such as q_proj and v_proj",
    "DEFAULT": "list the modules, such as q_proj and v_proj",
    "EMBEDDING": "write all-embedding",
}
