"""Each argument of a training becomes a field, a comment or a task for a human; nothing is left out."""

from __future__ import annotations

import math

from medllm_ops.errors import MedllmError
from medllm_ops.models.families import Member
from medllm_ops.swift.arguments import check_arguments
from medllm_ops.swift.migrate import rules
from medllm_ops.swift.migrate.calls import Argument, Call
from medllm_ops.swift.migrate.fit import fit
from medllm_ops.swift.migrate.handlers import HANDLERS, modules
from medllm_ops.swift.migrate.stage import OF_THE_RECIPE, Stage, described
from medllm_ops.swift.recipe import OWNED_BY_THE_CHAIN, StageName, command_of


def translate_stage(name: StageName, call: Call, member: Member | None) -> Stage:
    """Translate the arguments of a training; those of the whole recipe are left to the caller."""
    stage = Stage(name, call, member)
    for argument in list(call.arguments.values()):
        if argument.name in OF_THE_RECIPE:
            continue
        if argument.name in rules.CHAIN:
            stage.gone.append(f"{described(argument)}: {rules.CHAIN[argument.name]}")
        elif not argument.readable:
            stage.ask(argument, "its value has to be computed: write it into the recipe")
        elif argument.value is None or argument.value == []:
            stage.gone.append(f"{described(argument)}: no value, so the default")
        else:
            _translate(stage, argument)
    if "rlhf_type" not in call.arguments and (rlhf_type := rules.RLHF_TYPES.get(call.name)):
        stage.put("rlhf_type", rlhf_type, f"{call.name}: now rlhf and its rlhf_type")
    if not stage.adapts and "learning_rate" not in stage.fields:
        whose = "the default of 1.x" if stage.then else "ms-swift's default"
        stage.put("learning_rate", rules.LEARNING_RATE_OF_ALL_WEIGHTS, f"not said: {whose}")
    if stage.then:
        _write_defaults_out(stage)
    elif not {"max_steps", "num_train_epochs"} & set(stage.fields):
        stage.put("num_train_epochs", 3.0, "not said: ms-swift's default")
    _settle(stage)
    fit(stage)
    return stage


def _translate(stage: Stage, argument: Argument) -> None:
    name, value = argument.name, argument.value
    if handler := HANDLERS.get(name):
        handler(stage, argument)
    elif rules.FIELDS.get(name) in stage.model.model_fields:
        stage.put(rules.FIELDS[name], value, described(argument))
    elif name in rules.EXTRA:
        stage.put_extra(rules.EXTRA[name], value, described(argument))
    elif name in stage.model.model_fields and name != "extra":
        stage.put(name, value, described(argument))
    elif name in OWNED_BY_THE_CHAIN:
        stage.ask(argument, "the chain decides it; see whether you need it otherwise")
    else:
        try:
            check_arguments(command_of(stage.name), {name: value})
        except MedllmError as error:
            stage.ask(argument, str(error))
        else:
            stage.put_extra(name, value, described(argument))


def _write_defaults_out(stage: Stage) -> None:
    """Write down what 1.x did where nothing was said: ms-swift of today does otherwise."""
    silent = "not said: the default of 1.x"
    for name, value in rules.DEFAULTS_THEN.items():
        if name == "num_train_epochs" and "max_steps" in stage.fields:
            continue
        if name == "val_share" and "custom_val_dataset_path" in stage.call.arguments:
            continue
        if name not in stage.fields:
            stage.put(name, value, silent)
    if "per_device_eval_batch_size" not in stage.fields:
        value = stage.fields["per_device_train_batch_size"]
        stage.put("per_device_eval_batch_size", value, "not said: it followed the train batch in 1.x")
    if "gradient_accumulation_steps" not in stage.fields:
        batch = stage.fields["per_device_train_batch_size"]
        steps = math.ceil(rules.ROWS_A_STEP_THEN / batch) if isinstance(batch, int) and batch > 0 else 1
        stage.put("gradient_accumulation_steps", steps, "not said: 1.x made a step of 16 rows, over all GPUs")
    if "save_steps" not in stage.fields:
        stage.put("save_steps", stage.fields["eval_steps"], "not said: it followed eval_steps in 1.x")
    if "target_modules" not in stage.fields and stage.adapts:
        modules(stage, Argument("lora_target_modules", "DEFAULT", "DEFAULT, as nothing was said", stage.call.line))
    if "train_dataset_sample" not in stage.call.arguments:
        stage.gone.append("train_dataset_sample was not said: 1.x trained on 20,000 rows at most, today all are used")
    for name, value in rules.EXTRA_THEN.items():
        if name not in stage.extra:
            stage.put_extra(name, value, f"{name} {silent}")
    if stage.adapts and "lora_dtype" not in stage.call.arguments:
        stage.put_extra("lora_dtype", "float32", f"lora_dtype {silent}")


def _settle(stage: Stage) -> None:
    """Make fields agree that a script of 1.x could set against each other."""
    fields = stage.fields
    for name, value in list(fields.items()):
        annotation = str(stage.model.model_fields[name].annotation)
        if isinstance(value, float) and value.is_integer() and "int" in annotation and "float" not in annotation:
            fields[name] = int(value)
    if "max_steps" in fields and "num_train_epochs" in fields:
        epochs = fields.pop("num_train_epochs")
        stage.gone.append(f"num_train_epochs {epochs}: max_steps counted")
        stage.gone += stage.comments.pop("num_train_epochs", [])
    if stage.then and fields.get("eval_steps") == fields.get("save_steps"):
        stage.put("checkpoint", "best", "1.x said at the end which checkpoint was the best, and scripts merged that")
