"""What became of each argument: tables, no code. Sources: ms-swift 1.x of February 2024, ms-swift 4.6."""

from __future__ import annotations

# Arguments that are a field of a stage today, under this name.
FIELDS: dict[str, str] = {
    "batch_size": "per_device_train_batch_size",
    "beta": "beta",
    "deepspeed": "deepspeed",
    "deepspeed_config_path": "deepspeed",
    "desirable_weight": "desirable_weight",
    "eval_batch_size": "per_device_eval_batch_size",
    "eval_steps": "eval_steps",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_checkpointing": "gradient_checkpointing",
    "group_by_length": "group_by_length",
    "label_smoothing": "label_smoothing",
    "learning_rate": "learning_rate",
    "logging_steps": "logging_steps",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "lora_dropout_p": "lora_dropout",
    "lora_rank": "lora_rank",
    "lr_scheduler_type": "lr_scheduler_type",
    "num_train_epochs": "num_train_epochs",
    "packing": "packing",
    "per_device_eval_batch_size": "per_device_eval_batch_size",
    "per_device_train_batch_size": "per_device_train_batch_size",
    "rlhf_type": "rlhf_type",
    "rpo_alpha": "rpo_alpha",
    "save_steps": "save_steps",
    "seed": "seed",
    "undesirable_weight": "undesirable_weight",
    "warmup_ratio": "warmup_ratio",
    "weight_decay": "weight_decay",
}

# Arguments of ms-swift that have another name today and no field of their own.
EXTRA: dict[str, str] = {
    "additional_trainable_parameters": "trainable_parameters",
    "neftune_alpha": "neftune_noise_alpha",
    "preprocess_num_proc": "dataset_num_proc",
    "trainable_parameters": "trainable_parameters",
}

# Arguments that nothing has to be said about any more, with the reason.
CHAIN: dict[str, str] = {
    "add_output_dir_suffix": "the chain gives each stage a folder of its own",
    "add_version": "the chain gives each stage a folder of its own",
    "check_dataset_strategy": "every row is checked when it is imported",
    "dataloader_num_workers": "the chain decides it: with workers, a checkpoint on SIGTERM would be lost",
    "dataset_seed": "rows are drawn by a stable hash",
    "ddp_backend": "the chain decides it",
    "hub_model_id": "nothing is pushed to a hub",
    "hub_private_repo": "nothing is pushed to a hub",
    "hub_strategy": "nothing is pushed to a hub",
    "hub_token": "nothing is pushed to a hub, and no token belongs into a file",
    "load_args_from_ckpt_dir": "what a stage was trained with is written down by the run",
    "logging_dir": "the chain sets it",
    "only_save_model": "the chain keeps checkpoints that can be gone on from",
    "output_dir": "the chain sets it",
    "push_to_hub": "nothing is pushed to a hub",
    "report_to": "the run's report has the curves",
    "resume_from_checkpoint": "the chain goes on from the last whole checkpoint by itself",
    "save_only_model": "the chain keeps checkpoints that can be gone on from",
    "save_safetensors": "always on today",
    "save_strategy": "the chain saves by steps",
    "evaluation_strategy": "the chain evaluates by steps",
    "split_dataset_ratio": "val_share does it, before ms-swift sees a row",
    "strict": "always on: a row that cannot be encoded ends the training at its start",
    "tuner_backend": "PEFT is the only one left",
}

# What a stage of 1.x had where nothing was said, as far as today's default is another.
DEFAULTS_THEN: dict[str, object] = {
    "num_train_epochs": 1,
    "max_length": 2048,
    "per_device_train_batch_size": 1,
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0.05,
    "weight_decay": 0.01,
    "eval_steps": 50,
    "save_total_limit": 2,
    "val_share": 0.01,
}
# What ms-swift takes for all weights, then and now; a recipe's own default is for adapters.
LEARNING_RATE_OF_ALL_WEIGHTS = 1e-5
EXTRA_THEN: dict[str, object] = {"adam_beta2": 0.999, "max_grad_norm": 0.5}
# Rows in an optimizer step of one GPU, then, where nothing was said.
ROWS_A_STEP_THEN = 16

# Commands, scripts and classes of their own, then, for what is a value of rlhf_type now.
RLHF_TYPES: dict[str, str] = {
    "kto": "kto",
    "llm_kto": "kto",
    "KTOArguments": "kto",
    "orpo": "orpo",
    "llm_orpo": "orpo",
    "ORPOArguments": "orpo",
    "simpo": "simpo",
    "llm_simpo": "simpo",
    "SimPOArguments": "simpo",
}

DTYPES: dict[str, str] = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "float32": "float32",
    "float16": "float16",
    "bfloat16": "bfloat16",
}
DEEPSPEED: dict[str, str] = {"default-zero2": "zero2", "default-zero3": "zero3"}

# Templates that are called otherwise today. Those of the families have their name still.
TEMPLATES: dict[str, str] = {
    "chatglm3": "chatglm4",
    "default-generation": "",
    "AUTO": "",
    "yi": "chatml",
    "qwen-vl": "qwen_vl",
    "internlm-xcomposer2": "ixcomposer2",
    "yi-vl": "yi_vl",
}

# With one of them switched on, whatever it is an argument of merges.
MERGING = ("merge_lora", "merge_lora_and_save")

TODAY: dict[str, str] = {
    "merge": "the chain merges after each stage, and proves the merge",
    "infer": "medllm-ops serve start FOLDER serves a model",
    "app": "medllm-ops serve start FOLDER serves a model with a chat page in front",
    "deploy": "medllm-ops serve start FOLDER serves a model",
    "other": "the chain evaluates after the last stage",
}
