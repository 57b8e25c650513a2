"""Arguments of 1.x that became more than another name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from medllm_ops.swift.migrate import rules
from medllm_ops.swift.migrate.calls import Argument
from medllm_ops.swift.migrate.stage import Stage, described

Handler = Callable[[Stage, Argument], None]


def _max_length(stage: Stage, argument: Argument) -> None:
    if argument.value == -1:
        stage.ask(argument, "it meant no limit; today it is left out, so the model's own maximum counts: say a number")
        stage.gone.append(described(argument))
        stage.fields["max_length"] = None
    else:
        stage.put("max_length", argument.value, described(argument))


def _max_steps(stage: Stage, argument: Argument) -> None:
    if argument.value == -1:
        stage.gone.append(f"{described(argument)}: no limit, so the epochs count")
    else:
        stage.put("max_steps", argument.value, described(argument))


def _tuner(stage: Stage, argument: Argument) -> None:
    if argument.value in ("qalora", "qlora"):
        stage.put("tuner_type", "lora", described(argument))
        stage.put("quant_method", "bnb", described(argument))
        stage.put("quant_bits", 4, described(argument))
        stage.ask(argument, "it is gone; written as lora on weights of 4 bits (bitsandbytes), which is not the same")
    elif argument.value == "longlora" and stage.member and "llama" not in stage.member.model_type:
        stage.put("tuner_type", "lora", described(argument))
        stage.ask(argument, "it works for llama only; written as lora")
    else:
        stage.put("tuner_type", argument.value, described(argument))
        if argument.value == "longlora" and not stage.member:
            stage.ask(argument, "it works for llama only: take lora for any other model")


def _quantisation(stage: Stage, argument: Argument) -> None:
    if argument.value == 0:
        stage.gone.append(f"{described(argument)}: none")
    else:
        stage.put("quant_bits", argument.value, described(argument))
        stage.fields.setdefault("quant_method", "bnb")


def modules(stage: Stage, argument: Argument) -> None:
    """Name the modules that get adapters; words of 1.x are put into names of today."""
    value = argument.value
    words = value.replace(",", " ").split() if isinstance(value, str) else value
    modules: list[str] = []
    for word in words if isinstance(words, list) else [words]:
        if word == "ALL":
            modules.append("all-linear")
        elif word == "EMBEDDING":
            modules.append("all-embedding")
        elif word in ("DEFAULT", "AUTO"):
            modules += stage.member.attention if stage.member else ["all-linear"]
            if stage.member is None or word == "AUTO":
                stage.ask(argument, f"{word} is gone: see whether {', '.join(modules)} is meant")
        else:
            modules.append(str(word))
    stage.put("target_modules", list(dict.fromkeys(modules)), described(argument))


def _lora_dtype(stage: Stage, argument: Argument) -> None:
    if argument.value == "AUTO":
        stage.gone.append(f"{described(argument)}: left out")
    elif isinstance(argument.value, str) and argument.value in rules.DTYPES:
        stage.put_extra("lora_dtype", rules.DTYPES[argument.value], described(argument))
    else:
        stage.ask(argument, "it is float16, bfloat16 or float32")


def _deepspeed(stage: Stage, argument: Argument) -> None:
    value = rules.DEEPSPEED.get(str(argument.value), argument.value)
    if isinstance(value, str) and "/" in value and not PurePosixPath(value).is_absolute():
        stage.ask(argument, "a configuration's path has to be absolute: set deepspeed")
    elif isinstance(value, str) and value.lstrip().startswith("{"):
        stage.ask(argument, "write the configuration into a file, and its absolute path into deepspeed")
    else:
        stage.put("deepspeed", value, described(argument))


def _validation_share(stage: Stage, argument: Argument) -> None:
    if argument.value == 0:
        stage.ask(argument, "there is always a validation side here: val_share keeps its default of 0.1")
    else:
        stage.put("val_share", argument.value, described(argument))


def _save_limit(stage: Stage, argument: Argument) -> None:
    if argument.value == 1:
        stage.put("save_total_limit", 2, described(argument))
        stage.ask(argument, "with 1, ms-swift deletes the last checkpoint at the end: written as 2")
    elif argument.value == -1:
        stage.put("save_total_limit", 1000, f"{described(argument)}: all were kept")
    else:
        stage.put("save_total_limit", argument.value, described(argument))


def _rows(stage: Stage, argument: Argument) -> None:
    if argument.value == -1:
        stage.gone.append(f"{described(argument)}: all rows, as today")
    elif stage.name == "self_cognition" and isinstance(argument.value, int):
        stage.put("instruction_rows", argument.value, described(argument))
    else:
        stage.ask(argument, "say it when you start a run (rows_per_source), it is none of the recipe's")


def _identity_rows(stage: Stage, argument: Argument) -> None:
    if argument.value == 0:
        stage.gone.append(f"{described(argument)}: none")
    else:
        stage.put("identity_rows", argument.value, described(argument))


def _frozen_share(stage: Stage, argument: Argument) -> None:
    if argument.value == 0:
        stage.gone.append(f"{described(argument)}: nothing frozen")
    else:
        stage.put_extra("freeze_parameters_ratio", argument.value, described(argument))


def _flash(stage: Stage, argument: Argument) -> None:
    if argument.value is True:
        stage.put("attn_impl", "flash_attn", described(argument))
    else:
        stage.gone.append(f"{described(argument)}: attn_impl is left out")


def _to_a_human(why: str) -> Handler:
    def ask(stage: Stage, argument: Argument) -> None:
        stage.ask(argument, why)

    return ask


_DATA = "the data: import it (docs/adding_a_source.md), then a run takes it from the corpus or from --raw"
HANDLERS: dict[str, Handler] = {
    "attn_impl": lambda stage, argument: stage.put("attn_impl", argument.value, described(argument)),
    "custom_train_dataset_path": _to_a_human(_DATA),
    "custom_val_dataset_path": _to_a_human(
        "validation files of your own: here each set's validation side is split off before training (val_share)"
    ),
    "dataset": _to_a_human(_DATA),
    "dataset_test_ratio": _validation_share,
    "deepspeed": _deepspeed,
    "deepspeed_config_path": _deepspeed,
    "freeze_parameters": _frozen_share,
    "lora_dtype": _lora_dtype,
    "lora_target_modules": modules,
    "max_length": _max_length,
    "max_steps": _max_steps,
    "model_author": _to_a_human("say it when you start a run: author_zh and author_en"),
    "model_name": _to_a_human("say it when you start a run: name_zh and name_en"),
    "quant_bits": _quantisation,
    "quantization_bit": _quantisation,
    "save_total_limit": _save_limit,
    "self_cognition_sample": _identity_rows,
    "sft_type": _tuner,
    "target_modules": modules,
    "train_dataset_sample": _rows,
    "train_type": _tuner,
    "truncation_strategy": _to_a_human("rows longer than max_length are left out here, and counted"),
    "tuner_type": _tuner,
    "use_flash_attn": _flash,
    "val_dataset": _to_a_human(
        "validation files of your own: here each set's validation side is split off before training (val_share)"
    ),
    "val_dataset_sample": _to_a_human("eval_rows scores the first rows of each validation side"),
}
