"""The 27 parameters of the 2024 recipe (ms-swift 1.x), and what they are called in ms-swift 4.6."""

from __future__ import annotations

SUCCESSORS: dict[str, str] = {
    "model_type": "now model (a path or id); model_type is the family, such as qwen",
    "model_cache_dir": "gone; model takes a folder",
    "custom_train_dataset_path": "now dataset; the chain sets it",
    "custom_val_dataset_path": "now val_dataset; the chain sets it",
    "batch_size": "now per_device_train_batch_size",
    "eval_batch_size": "now per_device_eval_batch_size",
    "num_train_epochs": "the same name; the default was 1 and is 3.0",
    "deepspeed_config_path": "now deepspeed; default-zero2 is zero2",
    "output_dir": "the same name; the chain sets it",
    "add_output_dir_suffix": "now add_version; the chain sets it",
    "logging_steps": "the same name",
    "max_length": "the same name; -1 is no longer 'unlimited' but drops every row: leave it out",
    "learning_rate": "the same name",
    "sft_type": "now tuner_type; qalora is gone",
    "dataset_test_ratio": "now split_dataset_ratio, which is never used here; set val_share",
    "train_dataset_sample": "gone; set rows_per_source of the run",
    "val_dataset_sample": "gone; set val_share",
    "system": "the same name",
    "self_cognition_sample": "gone; set identity_rows of the stage self_cognition",
    "model_name": "now names of the run: name_zh and name_en",
    "model_author": "now names of the run: author_zh and author_en",
    "freeze_parameters": "now freeze_parameters_ratio; the old name takes prefixes and trains everything",
    "additional_trainable_parameters": "now trainable_parameters",
    "lora_dtype": "the same name, with float16, bfloat16 or float32; AUTO is: leave it out",
    "lora_target_modules": "now target_modules; ALL is all-linear, DEFAULT is gone: list the modules",
    "save_total_limit": "the same name, from 2; left out, ms-swift keeps all and a recipe keeps 2",
    "resume_from_checkpoint": "the same name; the chain sets it",
}
