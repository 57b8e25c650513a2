import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medllm_ops.datasets.pairs import labelled
from medllm_ops.evaluation.score import (
    HeldOutSet,
    Question,
    ScoredModel,
    ScoreRequest,
    answer_tokens,
    last_answer,
    score,
)
from medllm_ops.files import read_json, write_json, write_json_lines


@pytest.fixture(scope="module")
def scores(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The scores of the tiny model and of a copy whose output layer prefers nothing at all."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("score")
    flat = Path(shutil.copytree(tiny_model, folder / "flat"))
    model = AutoModelForCausalLM.from_pretrained(flat)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.save_pretrained(flat)
    texts = [{"messages": [{"role": "assistant", "content": f"Text number {n}, 针灸。"}]} for n in range(4)]
    turns = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "An answer."}]
    write_json_lines(folder / "texts.jsonl", texts)
    write_json_lines(folder / "more.jsonl", [*texts, {"messages": [{"role": "assistant", "content": "x" * 500}]}])
    write_json_lines(folder / "chats.jsonl", [{"messages": turns}] * 3)
    pair = {"id": "p", "messages": turns, "rejected_response": "A much longer answer, which is wrong."}
    long = {"id": "q", "messages": [*turns, *turns], "rejected_response": "A much longer answer, which is wrong."}
    write_json_lines(folder / "pairs.jsonl", [pair, long, pair])
    write_json_lines(folder / "halves.jsonl", labelled(pair))
    request = ScoreRequest(
        models=[
            ScoredModel(label="base", path=tiny_model, ask=False),
            ScoredModel(label="final", path=flat, ask=True, compare=True),
        ],
        sets=[
            HeldOutSet(name="texts", path=folder / "texts.jsonl", pretraining=True),
            HeldOutSet(name="more", path=folder / "more.jsonl", pretraining=True),
            HeldOutSet(name="chats", path=folder / "chats.jsonl", pretraining=False),
        ],
        questions=[Question(prompt="Who are you?"), Question(prompt="Who invented it?", reference="Edison.")],
        model_type="qwen2",
        template="qwen2_5",
        system="",
        pairs=[folder / "pairs.jsonl", folder / "halves.jsonl"],
        max_pairs=2,
        max_rows=4,
        max_new_tokens=4,
    )
    return score(request)


def test_a_model_that_prefers_nothing_has_the_loss_of_guessing(scores: dict[str, Any], tiny_model: Path) -> None:
    from transformers import AutoConfig

    guessing = math.log(AutoConfig.from_pretrained(tiny_model).vocab_size)
    for loss in [*scores["final"]["losses"].values(), scores["final"]["control_loss"]]:
        assert loss == pytest.approx(guessing, abs=1e-4)
    for loss in scores["base"]["losses"].values():
        assert loss == pytest.approx(guessing, rel=0.2)
        assert loss != pytest.approx(guessing, abs=1e-4)


def test_no_more_rows_are_scored_than_asked_for(scores: dict[str, Any]) -> None:
    assert scores["base"]["losses"]["texts"] == scores["base"]["losses"]["more"]


def test_only_the_asked_model_answers_each_question(scores: dict[str, Any]) -> None:
    assert scores["base"].keys() == {"losses"}
    assert len(scores["final"]["answers"]) == 2
    assert all(isinstance(answer, str) for answer in scores["final"]["answers"])


def test_both_answers_of_a_pair_are_scored_by_their_own_tokens(scores: dict[str, Any], tiny_model: Path) -> None:
    from transformers import AutoConfig

    guessing = math.log(AutoConfig.from_pretrained(tiny_model).vocab_size)
    assert len(scores["final"]["pairs"]) == 3
    for pair in scores["final"]["pairs"]:
        for name in ("chosen", "rejected"):
            assert pair[name] == pytest.approx(-guessing * pair[f"{name}_tokens"], rel=1e-4)
        assert pair["rejected_tokens"] > pair["chosen_tokens"] > 0
    # Turns before the last answer do not count, and a pair that stands as two rows is the same pair.
    first, longer, halves = scores["final"]["pairs"]
    assert first == pytest.approx(longer)
    assert first == pytest.approx(halves)


def test_only_the_last_answer_keeps_its_labels() -> None:
    assert last_answer([-100, 5, 6, -100, 7, 8, -100]) == [-100, -100, -100, -100, 7, 8, -100]
    assert last_answer([-100, 7]) == [-100, 7]
    assert last_answer([-100, -100]) == [-100, -100]


CONFIGURATION = """
from transformers import Qwen2Config

class OwnConfig(Qwen2Config):
    model_type = "own"
"""
MODELING = """
from transformers import Qwen2ForCausalLM
from .configuration_own import OwnConfig

class OwnForCausalLM(Qwen2ForCausalLM):
    config_class = OwnConfig
"""


def with_code(model: Path, folder: Path) -> Path:
    """A copy of a model that cannot be loaded without code of its own."""
    shutil.copytree(model, folder)
    (folder / "configuration_own.py").write_text(CONFIGURATION, encoding="utf-8")
    (folder / "modeling_own.py").write_text(MODELING, encoding="utf-8")
    named = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    own = {"model_type": "own", "architectures": ["OwnForCausalLM"], "auto_map": named}
    write_json(folder / "config.json", read_json(folder / "config.json") | own)
    return folder


def request_for(folder: Path, rows: Path, **settings: Any) -> ScoreRequest:
    write_json_lines(rows, [{"messages": [{"role": "assistant", "content": "Text, 针灸。"}]}])
    return ScoreRequest(
        models=[ScoredModel(label="base", path=folder, ask=True)],
        sets=[HeldOutSet(name="texts", path=rows, pretraining=True)],
        questions=[Question(prompt="Who invented it?", reference="Edison.")],
        system=None,
        max_new_tokens=3,
        **settings,
    )


def test_a_model_with_code_of_its_own_is_scored_where_that_is_allowed(
    tiny_model: Path, tmp_path: Path, scores: dict[str, Any]
) -> None:
    folder = with_code(tiny_model, tmp_path / "own")
    request = request_for(folder, tmp_path / "x.jsonl", model_type="qwen2", template="qwen2_5")
    with pytest.raises(ValueError, match="trust_remote_code"):
        score(request)
    allowed = score(request.model_copy(update={"trust_remote_code": True}))["base"]
    plain = score(request_for(tiny_model, tmp_path / "x.jsonl", model_type="qwen2", template="qwen2_5"))["base"]
    assert allowed == plain


def test_an_answer_has_room_for_the_longest_name() -> None:
    tokenizer = SimpleNamespace(encode=lambda text, add_special_tokens: list(text))
    request = ScoreRequest(models=[], sets=[], questions=[], model_type=None, template=None, system=None)
    for length, tokens in ((0, 48), (16, 48), (17, 49), (60, 92)):
        assert answer_tokens(request.model_copy(update={"names": ["Lab", "x" * length]}), tokenizer) == tokens
