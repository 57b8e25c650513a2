from swift.llm import ModelType, SftArguments, sft_main

common = dict(batch_size=8, num_train_epochs=5, learning_rate=1e-4, logging_steps=10)  # noqa: C408 - as it was written


def sft():
    arguments = SftArguments(
        model_type=ModelType.qwen_14b_chat,
        model_cache_dir="/data/out/pt-merged",
        custom_train_dataset_path=["/data/sft/train.jsonl"],
        custom_val_dataset_path=["/data/sft/val.jsonl"],
        train_dataset_sample=-1,
        max_length=-1,
        save_total_limit=3,
        eval_steps=50,
        system="You answer questions about medicines.",
        output_dir="/data/out/sft",
        **common,
    )
    arguments.deepspeed_config_path = "default-zero2"
    return sft_main(arguments)
