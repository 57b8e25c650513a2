from swift.llm import DatasetName, ModelType, SftArguments, sft_main

sft_main(
    SftArguments(
        model_type=ModelType.qwen_14b_chat,
        model_cache_dir="/data/out/sft-merged",
        dataset=[DatasetName.alpaca_zh, DatasetName.alpaca_en],
        train_dataset_sample=1000,
        self_cognition_sample=1000,
        model_name=["小禾", "Little Grain"],
        model_author=["某实验室", "Some Lab"],
        lora_target_modules=["ALL"],
        max_length=2048,
        batch_size=8,
        num_train_epochs=5,
        logging_steps=5,
        output_dir="/data/out/self_cognition",
    )
)
