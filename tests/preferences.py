"""Made-up preference pairs that every step keeps, and a recipe for the tiny model that is aligned with them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

from medllm_ops.files import write_json_lines
from medllm_ops.swift.recipe import recipe_file

SYMPTOMS = ("fever", "cough", "rash", "headache", "nausea", "fatigue", "dizziness", "thirst", "cramps", "itching")
PLACES = ("knee", "throat", "chest", "back", "stomach", "shoulder", "ankle", "wrist", "neck", "hip", "elbow", "jaw")
ADVICE = ("rest", "drink", "sleep", "walk", "stretch", "breathe", "eat", "wash", "warm", "cool", "measure", "record")
TIMES = ("morning", "noon", "evening", "night", "weekend", "winter", "summer", "autumn", "spring", "holiday")


def pair(number: int) -> dict[str, Any]:
    """A pair whose better answer advises, and whose worse one sends away."""
    chance = random.Random(number)
    symptom, place, time = chance.choice(SYMPTOMS), chance.choice(PLACES), chance.choice(TIMES)
    first, second, third = chance.sample(ADVICE, 3)
    asked = (
        f"Since the last {time} I have {symptom} and my {place} feels {chance.choice(ADVICE)}ed, what helps {number}?"
    )
    better = (
        f"With {symptom} of {number} hours, {first} well, {second} every {number + 2} hours and {third} before the "
        f"{time}; see a doctor about the {place} if it lasts longer than {number % 7 + 2} days."
    )
    worse = f"No idea about {place} number {number}, ask somebody who knows {symptom} from the {time}, not me."
    return {"conversations": [{"from": "human", "value": asked}], "chosen": better, "rejected": worse}


def write_pairs(path: Path, count: int) -> Path:
    """A file of pairs."""
    write_json_lines(path, (pair(number) for number in range(count)))
    return path


def tiny_recipe(path: Path, **settings: Any) -> Path:
    """The recipe ``tiny`` with a stage dpo; ``settings`` replace those of that stage."""
    values = yaml.safe_load(recipe_file("tiny").read_text())
    values["stages"]["dpo"] = {**values["stages"]["sft"], "eval_steps": 2, "eval_rows": 0, **settings}
    path.write_text(yaml.safe_dump(values))
    return path
