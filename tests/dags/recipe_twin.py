"""A recipe's tiny twin: the same recipe with a tiny random model of the same family, and few steps.

:func:`twin_of` is the one place that says what may differ. Three things may, and nothing else:

- the model (:data:`OF_THE_MODEL`): random weights, two layers, float32. Where the model's class is no part of
  transformers, the first one of its family that is stands in, with the attention of that one;
- how long it takes (:data:`SHORTER`);
- what only a GPU can do (:data:`ON_A_GPU`, :data:`EXTRA_ON_A_GPU`) is left out: flash attention, what needs it, liger,
  arithmetic in half precision, several GPUs and DeepSpeed, whose kernels want one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medllm_ops.models.families import Member, families, known_member
from medllm_ops.models.resolve import RANDOM, is_made_here
from medllm_ops.models.tiny import NAME as TINY
from medllm_ops.models.twins import make_twin
from medllm_ops.swift.recipe import Recipe, parse_recipe

STEPS, EVERY, ROWS = 4, 2, 40
# Of the recipe itself. A random model passes no gate.
OF_THE_MODEL = frozenset({"name", "model", "model_type", "template", "torch_dtype", "enforce_gates"})
# Of each stage. Checkpoints, validation and what is chosen of them stay; they come after fewer steps.
SHORTER: dict[str, Any] = {
    "max_steps": STEPS,
    "num_train_epochs": None,
    "eval_steps": EVERY,
    "save_steps": EVERY,
    "eval_rows": 3,
    "identity_rows": ROWS,
    "instruction_rows": ROWS,
}
ON_A_GPU = ("attn_impl", "packing", "deepspeed", "gpus")
EXTRA_ON_A_GPU = ("padding_free", "use_liger_kernel", "bf16", "fp16")
# bitsandbytes packs 64 weights of a row: no row may be shorter.
PACKED = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32}
# SmolLM2 is of none of the six families; its class is Llama's.
SMOLLM2 = Member(
    model_type="llama",
    template="chatml",
    models={"smollm2-135m-instruct": 0.135},
    architecture="LlamaForCausalLM",
    attention=["q_proj", "k_proj", "v_proj"],
)


def twin_of(recipe: Recipe, member: Member | None, model: Path) -> Recipe:
    """The twin of a recipe; see the module for what it may change.

    :param member: whose twin lies in ``model``; None: the recipe's model is tiny itself, and stays.
    """
    rows = recipe.model_dump(mode="json", exclude_none=True)
    if member is None:
        return recipe
    start = RANDOM if recipe.model.startswith(RANDOM) else ""
    rows |= {
        "name": f"{recipe.name}_twin",
        "model": f"{start}{model}",
        "model_type": member.model_type,
        "template": member.template,
        "torch_dtype": "float32",
        "enforce_gates": False,
    }
    for stage in rows["stages"].values():
        stage |= {name: value for name, value in SHORTER.items() if stage.get(name) or name == "max_steps"}
        for name in ON_A_GPU:
            stage.pop(name, None)
        for name in EXTRA_ON_A_GPU:
            stage.get("extra", {}).pop(name, None)
        own = known_member(recipe.model, recipe.model_type, recipe.template)
        if own and own.key != member.key and stage["target_modules"] == own.attention:
            stage["target_modules"] = member.attention
    return parse_recipe(rows, f"{recipe.name}'s twin")


def twin_member(recipe: Recipe) -> Member | None:
    """Whose twin stands in for a recipe's model; None: it is tiny itself."""
    if recipe.model == TINY:
        return None
    if is_made_here(recipe.model):
        return SMOLLM2
    member = known_member(recipe.model.removeprefix(RANDOM), recipe.model_type, recipe.template)
    assert member is not None, f"the model of recipe {recipe.name} is of no family"
    if not member.remote_code:
        return member
    family = next(each for each in families().values() if member in each.members)
    return next(each for each in family.members if not each.remote_code)


def write_twin(recipe: Recipe, folder: Path) -> Path:
    """Make the twin's model, and write the twin's recipe; return its file."""
    import yaml

    member = twin_member(recipe)
    if member is not None:
        packed = any(stage.quant_method for stage in recipe.stages.values())
        sizes = {"twin": {**member.twin, **PACKED}} if packed else {}
        make_twin(member.model_copy(update=sizes), folder / "model")
    if recipe.model.startswith(RANDOM):
        (folder / "model" / "model.safetensors").unlink()
    twin = twin_of(recipe, member, folder / "model")
    file = folder / f"{twin.name}.yaml"
    values = twin.model_dump(mode="json", exclude_none=True)
    file.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return file
