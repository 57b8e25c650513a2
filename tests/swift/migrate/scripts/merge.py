from swift.llm import InferArguments, merge_lora_main

merge_args = InferArguments(ckpt_dir="/data/out/qwen-14b-chat/v0/checkpoint-900", merge_lora=True, sft_type="lora")
merge_lora_main(merge_args)
