"""Score models on held-out rows and prompts: ``python -m medllm_ops.evaluation.score REQUEST RESULT``.

A process of its own, because it imports torch and swift once for all models. The request is what
:class:`ScoreRequest` holds; the result is ``{model label: {"losses": {set: nats per token}, "answers": [text],
"control_loss": nats per token}}``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from medllm_ops.files import read_json, read_json_lines, write_json
from medllm_ops.swift.template import TemplateSettings, encode, load_template


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
    """A model folder under the label its scores get; ``ask`` says whether it answers the questions."""

    label: str
    path: Path
    ask: bool


class ScoreRequest(BaseModel):
    """What to score. ``max_rows`` bounds the rows of each set, ``max_new_tokens`` the length of an answer."""

    models: list[ScoredModel]
    sets: list[HeldOutSet]
    questions: list[Question]
    model_type: str | None
    template: str | None
    system: str | None
    max_rows: int = 16
    max_new_tokens: int = 48


class _Scorer:
    """One loaded model with its two templates."""

    def __init__(self, request: ScoreRequest, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._torch = torch
        self._request = request
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        settings = TemplateSettings(folder, request.model_type, request.template, request.system)
        self._templates = {kind: load_template(settings, pretraining=kind) for kind in (True, False)}
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", trust_remote_code=False)
        self._model.to(self._device).eval()

    def mean_loss(self, rows: Iterable[Mapping[str, Any]], pretraining: bool) -> float:
        """The mean negative log-likelihood over all tokens that training takes a loss on, in nats."""
        torch = self._torch
        total, tokens = 0.0, 0
        for row in rows:
            ids, labels = encode(self._templates[pretraining], row)
            with torch.inference_mode():
                logits = self._model(torch.tensor([ids], device=self._device)).logits[0, :-1].float()
            targets = torch.tensor(labels[1:], device=self._device)
            total += torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum").item()
            tokens += int((targets != -100).sum())
        return total / max(tokens, 1)

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
                max_new_tokens=self._request.max_new_tokens,
                eos_token_id=template.template_meta.stop_token_id,
                pad_token_id=template.tokenizer.pad_token_id,
            )
        return str(template.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)).strip()

    def scores(self, ask: bool) -> dict[str, Any]:
        """All figures of this model."""
        request = self._request
        losses = {
            held_out.name: self.mean_loss(
                list(read_json_lines(held_out.path))[: request.max_rows], held_out.pretraining
            )
            for held_out in request.sets
        }
        if not ask:
            return {"losses": losses}
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
        return {"losses": losses, "answers": answers, "control_loss": self.mean_loss(references, pretraining=False)}


def score(request: ScoreRequest) -> dict[str, Any]:
    """Score each model in turn, one in memory at a time."""
    result = {}
    for model in request.models:
        result[model.label] = _Scorer(request, model.path).scores(model.ask)
        print(f"scored {model.label}", flush=True)
    return result


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), score(ScoreRequest.model_validate(read_json(Path(sys.argv[1])))))
