"""ms-swift's own templates, so that what is counted and scored is what is trained.

Imported only by modules that run as processes of their own: swift takes many seconds to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm_ops.swift.launch import quick_imports


@dataclass(frozen=True, slots=True)
class TemplateSettings:
    """Which template turns rows into tokens.

    :param model_type: ms-swift's family of the model (``llama``, ``qwen2``), or None where swift finds it itself.
    :param template: ms-swift's template type (``chatml``), or None where the family has one.
    :param system: the system prompt of dialogues that bring none; an empty one means no system turn.
    """

    model_dir: Path
    model_type: str | None
    template: str | None
    system: str | None


def load_template(settings: TemplateSettings, pretraining: bool) -> Any:
    """Return a swift template in training mode; ``pretraining`` as ``swift pt`` sets it up: no chat markup."""
    with quick_imports():
        from swift import get_processor, get_template

    processor = get_processor(str(settings.model_dir), model_type=settings.model_type)
    template = get_template(
        processor,
        # A pretraining template has no system turn, and ms-swift refuses even an empty one.
        None if pretraining else settings.system,
        template_type=settings.template,
        use_chat_template=not pretraining,
        loss_scale="all" if pretraining else "default",
    )
    template.set_mode("train")
    # Rows of any length are counted here; it is the export that leaves the long ones out, with that reason.
    template.max_length = None
    return template


def encode(template: Any, row: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Return the token ids of a row and its labels (-100 where no loss is taken)."""
    encoded = template.encode({"messages": row["messages"]})
    return list(encoded["input_ids"]), list(encoded["labels"])
