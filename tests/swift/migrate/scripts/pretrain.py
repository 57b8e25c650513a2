# Continued pretraining over four sets of documents, as it was written for ms-swift 1.x.
import os

os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"

from swift.llm import ModelType, SftArguments, sft_main

ROOT = "/data/corpus"
FILES = [
    "/data/corpus/papers.jsonl",
    "/data/corpus/trials.jsonl",
    "/data/corpus/books.jsonl",
    "/data/corpus/leaflets.jsonl",
]

pt_args = SftArguments(
    model_type=ModelType.qwen_14b_chat,
    model_cache_dir="/models/Qwen-14B-Chat",
    custom_train_dataset_path=FILES,
    custom_val_dataset_path=[],
    train_dataset_sample=-1,
    val_dataset_sample=None,
    dataset_test_ratio=0.05,
    batch_size=8,
    eval_batch_size=8,
    num_train_epochs=5,
    max_length=5000,
    learning_rate=1e-4,
    sft_type="lora",
    lora_target_modules=["ALL"],
    lora_dtype="AUTO",
    deepspeed_config_path="default-zero2",
    output_dir=os.path.join(ROOT, "out"),  # noqa: PTH118 - as it was written
    add_output_dir_suffix=False,
    logging_steps=10,
    eval_steps=50,
    save_total_limit=2,
    resume_from_checkpoint=None,
    freeze_parameters=0.0,
    additional_trainable_parameters=[],
)
result = sft_main(pt_args)
