"""The settings of the stage ``dpo``: alignment with preferences through ``swift rlhf``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import field_validator, model_validator

from medllm_ops.swift.recipe_stage import StageRecipe, setting


class PreferenceRecipe(StageRecipe):
    """The settings of the stage ``dpo``: what ``swift rlhf`` needs beside those of every stage."""

    rlhf_type: Literal["dpo", "kto", "orpo"] = setting(
        "dpo",
        "a name",
        "How preferences are learned: pairs against a reference (dpo), single verdicts (kto), or pairs alone (orpo).",
    )
    beta: float = setting(
        0.1, "a factor", "How strongly the model is held to its reference; orpo: weight of the preference.", gt=0, le=10
    )
    loss_type: list[str] | None = setting(
        None, "names", "Variants of the loss, such as sigmoid or hinge; left out: the method's own.", min_length=1
    )
    label_smoothing: float = setting(
        0.0, "a share", "Share of pairs that are taken to be the wrong way round.", ge=0, lt=0.5
    )
    rpo_alpha: float | None = setting(
        None, "a factor", "Weight of the usual loss on the chosen answers, added to dpo; left out: none.", gt=0, le=10
    )
    ref_model: str | None = setting(
        None,
        "a path",
        "The reference, with tuner_type full: an absolute folder; left out: the model that the stage starts from.",
        min_length=1,
    )
    desirable_weight: float = setting(1.0, "a factor", "Weight of wanted answers (kto).", gt=0, le=100)
    undesirable_weight: float = setting(1.0, "a factor", "Weight of unwanted answers (kto).", gt=0, le=100)
    preference_sets: list[str] = setting(
        [], "names of sources", "Ours: the sets that the pairs come from; empty: all of preferences.", ours=True
    )

    @property
    def labelled(self) -> bool:
        """Whether it takes rows that each say how good their answer is, in place of pairs."""
        return self.rlhf_type == "kto"

    @field_validator("ref_model")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and not Path(value).is_absolute():
            raise ValueError("give the absolute path of a folder: ms-swift would look for anything else on a hub")
        return value

    @model_validator(mode="after")
    def _fit_the_method(self) -> PreferenceRecipe:
        if self.rlhf_type == "orpo" and self.ref_model:
            raise ValueError("orpo has no reference model: leave ref_model out")
        if self.ref_model and self.tuner_type != "full":
            raise ValueError(
                "ref_model needs tuner_type full: with an adapter, the reference is the same model without it"
            )
        if self.rlhf_type != "kto" and (self.desirable_weight, self.undesirable_weight) != (1.0, 1.0):
            raise ValueError("desirable_weight and undesirable_weight belong to rlhf_type kto")
        if self.rlhf_type != "dpo" and self.rpo_alpha is not None:
            raise ValueError("rpo_alpha belongs to rlhf_type dpo")
        if self.packing:
            raise ValueError("pairs are not packed: leave packing out")
        if self.rlhf_type == "kto":
            # ms-swift holds each answer against the one before it of the same step: a pair is two rows, and an odd one
            # out would be held against itself, which it refuses.
            if self.per_device_train_batch_size * self.gradient_accumulation_steps % 2:
                raise ValueError(
                    "kto needs an even number of rows in a step: per_device_train_batch_size times "
                    "gradient_accumulation_steps"
                )
            if self.eval_rows % 2:
                raise ValueError("kto needs an even number of eval_rows: a pair is two rows")
        return self
