"""The gates a model passes before it is served: held-out loss and identity."""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from medllm_ops.datasets.identity import Identity
from medllm_ops.errors import MedllmError

CONTROL_LOSS_RATIO = 1.1
CHANCE = 0.5
FINAL_LOSS_RATIO = 1.02
ENOUGH_ROWS = 3
ENOUGH_PAIRS = 8
# The models of stages that have no held-out loss of their own to lower: self-cognition and alignment.
KEEPING = ("self_cognition", "final")
# Latin letters and digits, of a text in lower case.
_LATIN = "0-9a-z\u00df-\u024f\u1e00-\u1eff"


class IdentityPrompt(BaseModel):
    """A question about the model itself; the right answer names what ``expect`` says."""

    model_config = ConfigDict(extra="forbid")

    id: str
    language: Literal["zh", "en"]
    prompt: str = Field(min_length=1)
    expect: Literal["name", "author"]


class ControlQuestion(BaseModel):
    """A question about anything else; the model's own name in the answer fails it."""

    model_config = ConfigDict(extra="forbid")

    id: str
    language: Literal["zh", "en"]
    prompt: str = Field(min_length=1)
    reference: str = Field(min_length=1)
    shaped_like_identity: bool


class IdentityGate(BaseModel):
    """The questions of the gate, frozen in a file before tuning."""

    model_config = ConfigDict(extra="forbid")

    identity: list[IdentityPrompt] = Field(min_length=6)
    controls: list[ControlQuestion] = Field(min_length=6)

    @field_validator("controls")
    @classmethod
    def _some_shaped_like_identity(cls, controls: list[ControlQuestion]) -> list[ControlQuestion]:
        if sum(control.shaped_like_identity for control in controls) < 2:
            raise ValueError("At least two must be shaped like identity prompts: who invented, who wrote")
        return controls

    @classmethod
    def read(cls, path: Path) -> IdentityGate:
        """Read a gate file.

        :raises MedllmError: naming the file and the field.
        """
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
            raise MedllmError(f"identity gate {path}: {'; '.join(problems)}") from error
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise MedllmError(f"identity gate {path}: {' '.join(str(error).split())}") from error


def gate(name: str, passed: bool, detail: str, enforced: bool = True) -> dict[str, Any]:
    """One line of a verdict; one that is not enforced is told, but fails nothing."""
    return {"name": name, "passed": passed, "detail": detail, "enforced": enforced}


def judge_held_out(
    sets: Mapping[str, str],
    losses: Mapping[str, Mapping[str, float]],
    rows: Mapping[str, int] | None = None,
    enforced: bool = True,
) -> list[dict[str, Any]]:
    """Judge held-out losses: each stage lowers those of its own sets; the last two raise none by more than 2 %.

    :param sets: set name to the stage that trains on it (``pretrain`` or ``sft``).
    :param losses: model label (``base``, ``pretrain``, ``sft``, ``self_cognition``, ``final``; those that were run) to
        set to nats per token.
    :param rows: set to the rows that were scored; a set of fewer than :data:`ENOUGH_ROWS` is told, not enforced.
    """
    order = [label for label in ("base", "pretrain", "sft", *KEEPING) if label in losses]
    verdict = []
    for before, after in itertools.pairwise(order):
        for name, stage in sets.items():
            old, new = losses[before][name], losses[after][name]
            count = rows[name] if rows else ENOUGH_ROWS
            detail = _change(old, new)
            if count < ENOUGH_ROWS:
                detail += f", on {count} rows: too few to judge by"
            judged = enforced and count >= ENOUGH_ROWS
            if after == stage:
                verdict.append(gate(f"{after} lowers {name}", new < old, detail, judged))
            elif after in KEEPING:
                verdict.append(gate(f"{after} keeps {name}", new <= old * FINAL_LOSS_RATIO, detail, judged))
    return verdict


def _change(old: float, new: float) -> str:
    figures = f"{_told(old)} → {_told(new)}"
    return f"{figures} ({(new / old - 1) * 100:+.1f} %)" if old and math.isfinite(new / old) else figures


def _told(figure: float, form: str = ".4f") -> str:
    return format(figure, form) if math.isfinite(figure) else "not finite"


def judge_preferences(
    before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]], beta: float, enforced: bool = True
) -> dict[str, Any]:
    """Judge an alignment by pairs that no training saw: it must prefer their better answers more than its reference.

    The reward of an answer is beta times by how many nats it became more likely than under the model before; the
    margin of a pair is what the better answer has more of it. The accuracy is the share of pairs with a margin above
    zero, an even one counting half, so that the reference itself has a margin of 0 and an accuracy of 0.5: both must
    rise. ``ranking`` is the share of pairs whose better answer is likelier per token than the worse.

    :param before: of each pair, ``chosen`` and ``rejected`` (nats), ``chosen_tokens`` and ``rejected_tokens``, as the
        model that the alignment started from scores it; ``after`` likewise.
    """
    margins = [
        beta * ((new["chosen"] - old["chosen"]) - (new["rejected"] - old["rejected"]))
        for old, new in zip(before, after, strict=True)
    ]
    count = max(len(margins), 1)
    margin = sum(margins) / count
    accuracy = sum(0.5 if each == 0 else float(each > 0) for each in margins) / count
    detail = f"reward margin {_told(margin, '+.4f')}, accuracy {accuracy:.3f} on {len(margins)} held-out pairs"
    judged = enforced and len(margins) >= ENOUGH_PAIRS
    if len(margins) < ENOUGH_PAIRS:
        detail += ": too few to judge by"
    passed = margin > 0 and accuracy > CHANCE
    return {
        "gates": [gate("alignment prefers the better answers", passed, detail, judged)],
        "pairs": len(margins),
        "beta": beta,
        "margin": margin,
        "accuracy": accuracy,
        "ranking": {"before": ranking(before), "after": ranking(after)},
    }


def ranking(pairs: Sequence[Mapping[str, float]]) -> float:
    """The share of pairs whose better answer is likelier per token than the worse."""
    likelier = [
        pair["chosen"] / max(pair["chosen_tokens"], 1) > pair["rejected"] / max(pair["rejected_tokens"], 1)
        for pair in pairs
    ]
    return sum(likelier) / max(len(likelier), 1)


def judge_identity(
    questions: IdentityGate,
    identity: Identity,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    between: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Judge the answers of the model before self-cognition and of the last one.

    :param before: ``{"answers": [...], "control_loss": x}`` of the model before, identity prompts first, then the
        controls, in the file's order; ``after`` likewise.
    :param between: likewise, of the model after self-cognition, where an alignment followed: shown, not judged.
    """
    prompts = []
    count = len(questions.identity)
    for item, old, new in zip(questions.identity, before["answers"], after["answers"], strict=False):
        expected = identity.name(item.language) if item.expect == "name" else identity.author(item.language)
        ok = _mentions(new, [expected]) and "{{" not in new
        prompts.append({**item.model_dump(), "before": old, "after": new, "ok": ok})
    controls = []
    names = [identity.name_zh, identity.name_en]
    for control, old, new in zip(questions.controls, before["answers"][count:], after["answers"][count:], strict=True):
        ok = bool(new) and not _mentions(new, names) and "{{" not in new
        controls.append({**control.model_dump(), "before": old, "after": new, "ok": ok})
    if between:
        for row, answer in zip([*prompts, *controls], between["answers"], strict=True):
            row["between"] = answer
    # A loss of nothing at all was measured on nothing: no comparison with it passes.
    ratio = after["control_loss"] / before["control_loss"] if before["control_loss"] else math.inf
    kept = ratio <= CONTROL_LOSS_RATIO
    return {
        "passed": all(row["ok"] for row in [*prompts, *controls]) and kept,
        "name": identity.name_en,
        "prompts": prompts,
        "controls": controls,
        "control_loss": {
            "before": before["control_loss"],
            "after": after["control_loss"],
            "ratio": ratio,
            "limit": CONTROL_LOSS_RATIO,
            "passed": kept,
        },
    }


def _mentions(text: str, names: Sequence[str]) -> bool:
    return any(_name_pattern(_plain(name)).search(_plain(text)) for name in names)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _name_pattern(name: str) -> re.Pattern[str]:
    """Finds a name that stands by itself: Ada is not in Canada. Han characters know no bounds of words."""
    before, after = (re.match(f"[{_LATIN}]", end) is not None for end in (name[0], name[-1]))
    return re.compile(f"(?<![{_LATIN}])" * before + re.escape(name) + f"(?![{_LATIN}])" * after)
