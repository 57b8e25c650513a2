"""Score models on held-out rows and prompts: ``python -m medllm_ops.evaluation.score REQUEST RESULT``.

A process of its own, because it imports torch and swift once for all models. The request is what
:class:`ScoreRequest` holds; the result is ``{model label: {"losses": {set: nats per token}, "answers": [text],
"control_loss": nats per token, "pairs": [pair]}}``, where a pair has the log-likelihood of both answers in nats, and
their tokens: ``{"chosen", "rejected", "chosen_tokens", "rejected_tokens"}``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from medllm_ops.datasets.pairs import both_answers, pairs_of
from medllm_ops.files import read_json, read_json_lines, write_json
from medllm_ops.models.folder import load_model
from medllm_ops.swift.launch import quick_imports
from medllm_ops.swift.template import TemplateSettings, encode, load_template

# Where no loss is taken.
NO_LABEL = -100
# The tokens of an answer that a long name is put into, the name left out.
AROUND_A_NAME = 32


class HeldOutSet(BaseModel):
    """A validation file and the kind of stage that trains on its other side."""

    name: str
    path: Path
    pretraining: bool


class Question(BaseModel):
    """A prompt, with a reference answer where its loss is to be taken."""

    prompt: str
    reference: str | None = None


class ScoredModel(BaseModel):
    """A model folder under the label its scores get.

    ``ask`` says whether it answers the questions, ``compare`` whether it is given the pairs.
    """

    label: str
    path: Path
    ask: bool
    compare: bool = False


class ScoreRequest(BaseModel):
    """What to score.

    ``max_rows`` bounds the rows of each set, ``max_pairs`` the pairs of each file of ``pairs``, ``max_new_tokens`` the
    length of an answer, which is more only where one of ``names`` takes more than is left of it.
    ``trust_remote_code``: the models' folders may bring Python code, which is executed.
    """

    models: list[ScoredModel]
    sets: list[HeldOutSet]
    questions: list[Question]
    names: list[str] = []
    model_type: str | None
    template: str | None
    system: str | None
    pairs: list[Path] = []
    max_rows: int = 16
    max_pairs: int = 64
    max_new_tokens: int = 48
    trust_remote_code: bool = False


class _Scorer:
    """One loaded model with its two templates."""

    def __init__(self, request: ScoreRequest, folder: Path) -> None:
        with quick_imports():
            import torch
            from transformers import AutoModelForCausalLM

            del AutoModelForCausalLM  # what load_model imports

        self._torch = torch
        self._request = request
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        settings = TemplateSettings(folder, request.model_type, request.template, request.system)
        self._templates = {kind: load_template(settings, pretraining=kind) for kind in (True, False)}
        self._model = load_model(folder, "auto", trust_remote_code=request.trust_remote_code)
        self._model.to(self._device).eval()

    def mean_loss(self, rows: Iterable[Mapping[str, Any]], pretraining: bool) -> float:
        """The mean negative log-likelihood over all tokens that training takes a loss on, in nats."""
        total, tokens = 0.0, 0
        for row in rows:
            loss, count = self._loss(*encode(self._templates[pretraining], row))
            total, tokens = total + loss, tokens + count
        return total / max(tokens, 1)

    def _loss(self, ids: list[int], labels: list[int]) -> tuple[float, int]:
        """The negative log-likelihood of the tokens that have a label, in nats, and how many they are."""
        torch = self._torch
        with torch.inference_mode():
            logits = self._model(torch.tensor([ids], device=self._device)).logits[0, :-1].float()
        targets = torch.tensor(labels[1:], device=self._device)
        loss = torch.nn.functional.cross_entropy(logits, targets, ignore_index=NO_LABEL, reduction="sum").item()
        return loss, int((targets != NO_LABEL).sum())

    def pair(self, row: Mapping[str, Any]) -> dict[str, float | int]:
        """How likely both answers of a pair are, the turns before them given."""
        figures: dict[str, float | int] = {}
        for name, dialogue in zip(("chosen", "rejected"), both_answers(row), strict=True):
            ids, labels = encode(self._templates[False], dialogue)
            loss, tokens = self._loss(ids, last_answer(labels))
            figures |= {name: -loss, f"{name}_tokens": tokens}
        return figures

    def answer(self, prompt: str) -> str:
        """The greedy answer to one user turn."""
        torch = self._torch
        template = self._templates[False]
        template.set_mode("transformers")
        ids = template.encode({"messages": [{"role": "user", "content": prompt}]})["input_ids"]
        template.set_mode("train")
        with torch.inference_mode():
            output = self._model.generate(
                torch.tensor([ids], device=self._device),
                attention_mask=torch.ones((1, len(ids)), dtype=torch.long, device=self._device),
                do_sample=False,
                max_new_tokens=answer_tokens(self._request, template.tokenizer),
                eos_token_id=template.template_meta.stop_token_id,
                pad_token_id=template.tokenizer.pad_token_id,
            )
        return str(template.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)).strip()

    def scores(self, model: ScoredModel) -> dict[str, Any]:
        """All figures of this model."""
        request = self._request
        figures: dict[str, Any] = {}
        if model.compare:
            files = (islice(pairs_of(read_json_lines(path)), request.max_pairs) for path in request.pairs)
            figures["pairs"] = [self.pair(row) for rows in files for row in rows]
        figures["losses"] = {
            held_out.name: self.mean_loss(
                list(read_json_lines(held_out.path))[: request.max_rows], held_out.pretraining
            )
            for held_out in request.sets
        }
        if not model.ask:
            return figures
        references = [
            {
                "messages": [
                    {"role": "user", "content": question.prompt},
                    {"role": "assistant", "content": question.reference},
                ]
            }
            for question in request.questions
            if question.reference
        ]
        answers = [self.answer(question.prompt) for question in request.questions]
        return figures | {"answers": answers, "control_loss": self.mean_loss(references, pretraining=False)}


def answer_tokens(request: ScoreRequest, tokenizer: Any) -> int:
    """How many tokens an answer may have: a name that it is asked for must not be cut."""
    longest = max((len(tokenizer.encode(name, add_special_tokens=False)) for name in request.names), default=0)
    return max(request.max_new_tokens, AROUND_A_NAME + longest)


def last_answer(labels: list[int]) -> list[int]:
    """The labels without those of earlier turns: both answers of a pair have the same ones before them."""
    start = len(labels)
    while start and labels[start - 1] == NO_LABEL:
        start -= 1
    while start and labels[start - 1] != NO_LABEL:
        start -= 1
    return [NO_LABEL] * start + labels[start:]


def score(request: ScoreRequest) -> dict[str, Any]:
    """Score each model in turn, one in memory at a time."""
    result = {}
    for model in request.models:
        result[model.label] = _Scorer(request, model.path).scores(model)
        print(f"scored {model.label}", flush=True)
    return result


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), score(ScoreRequest.model_validate(read_json(Path(sys.argv[1])))))
