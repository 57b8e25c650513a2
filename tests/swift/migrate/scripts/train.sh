#!/bin/bash
# The same three stages as commands.
MODEL=qwen-14b-chat
OUT=/data/out

CUDA_VISIBLE_DEVICES=0,1 NPROC_PER_NODE=2 \
swift pt \
    --model_type $MODEL \
    --custom_train_dataset_path /data/a.jsonl /data/b.jsonl#2000 \
    --dataset_test_ratio 0.05 \
    --batch_size 8 \
    --max_length 5000 \
    --lora_target_modules ALL \
    --lora_dtype fp32 \
    --use_flash_attn true \
    --output_dir ${OUT}/pt

swift merge-lora --ckpt_dir "$OUT/pt/v0/checkpoint-10" && echo done

nohup swift sft --model_type=$MODEL --model_cache_dir "$OUT/pt-merged" --sft_type qalora \
    --max_length -1 --warmup_ratio 0.03 --lora_dropout_p 0.1 --host_name $HOST \
    --system 'You are "a" pharmacist.' > sft.log 2>&1 &

swift export --ckpt_dir $OUT/sft --merge_lora true
swift app-ui --ckpt_dir $OUT/sft-merged --eval_human true
