"""Rows made ready once, for all attempts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.compute.processes import MARK, end_job
from medllm_ops.files import write_json, write_json_lines
from medllm_ops.swift import attempts as module
from medllm_ops.swift import tokenised
from medllm_ops.swift.attempts import Attempts, build_command, read_attempts
from medllm_ops.swift.command import Command
from medllm_ops.swift.recipe import StageRecipe
from medllm_ops.swift.request import TrainRequest

JOB = "test-tokenised"
MAKE = """
import os, sys
for side in {sides!r}:
    os.makedirs({part!r} + "/" + side)
    open({part!r} + "/" + side + "/dataset_info.json", "w").close()
sys.exit({code})
"""
TRAIN = """
import json, os
os.makedirs({output!r}, exist_ok=True)
with open({output!r} + "/logging.jsonl", "a") as file:
    for row in ({{"loss": 2.0, "global_step/max_steps": "4/4"}}, {{"last_model_checkpoint": None, "global_step": 4}}):
        file.write(json.dumps(row) + "\\n")
"""
Run = Callable[..., Any]


@pytest.fixture
def request_(tmp_path: Path) -> TrainRequest:
    rows = tmp_path / "rows.jsonl"
    write_json_lines(rows, [{"messages": []}] * 9)
    write_json(tmp_path / "model" / "config.json", {})
    recipe = StageRecipe(max_steps=4, gpus=2, max_length=100, extra={"enable_thinking": False, "optim": "sgd"})
    directory = tmp_path / "sft"
    (directory / "job").mkdir(parents=True)
    (directory / "job" / "job.log").touch()
    files = (rows,), (rows,)
    return TrainRequest("sft", recipe, tmp_path / "model", "q", "t", *files, directory, system="", tokens=90)


@pytest.fixture
def run(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the attempts with pieces of Python in place of ms-swift; returns the failure and the rows of each start."""
    monkeypatch.setenv(MARK, JOB)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)

    def do(make: str, first: str = "") -> tuple[Any, list[Path | None]]:
        given: list[Path | None] = []

        def build(asked: TrainRequest, resume_from: Path | None) -> Command:
            given.append(tokenised.find(asked))
            train = TRAIN.format(output=str(asked.output_dir))
            return Command((sys.executable, "-c", first if first and len(given) == 1 else train), {})

        monkeypatch.setattr(tokenised, "command", lambda *_: Command((sys.executable, "-c", make), {}))
        return Attempts(request_, request_.directory / "job" / "job.log", build).run(), given

    yield do
    end_job(JOB, grace_seconds=0.1)


def make(request: TrainRequest, sides: tuple[str, ...] = ("train", "val"), code: int | str = 0) -> str:
    return MAKE.format(sides=sides, part=str(tokenised.part(request)), code=repr(code))


def flag(command: Command, name: str) -> str | None:
    return command.argv[command.argv.index(f"--{name}") + 1] if f"--{name}" in command.argv else None


def test_several_gpus_want_it_and_a_recipe_may_decide(request_: TrainRequest) -> None:
    def wanted(stage: str = "sft", **changes: Any) -> bool:
        return tokenised.is_wanted(replace(request_, stage=stage, recipe=request_.recipe.model_copy(update=changes)))

    assert wanted()
    assert not wanted(gpus=1)
    assert wanted(gpus=1, tokenise_first=True)
    assert not wanted(tokenise_first=False)
    assert not wanted("dpo")


def test_the_rows_are_those_of_the_training(request_: TrainRequest) -> None:
    (tokenised.part(request_) / "left").mkdir(parents=True)
    command = tokenised.command(request_, "sft")
    assert command.argv[3] == "swift.cli.export"
    assert not tokenised.part(request_).exists()
    training = build_command(request_, None)
    for name in (
        "dataset",
        "val_dataset",
        "data_seed",
        "max_length",
        "strict",
        "template",
        "system",
        "enable_thinking",
    ):
        assert flag(command, name) == flag(training, name), name
    assert flag(command, "dataset") == f"{request_.train_files[0]}#10"
    assert flag(command, "optim") is None
    assert flag(command, "use_chat_template") is None
    pretraining = tokenised.command(replace(request_, stage="pretrain"), "pt")
    assert (flag(pretraining, "use_chat_template"), flag(pretraining, "system")) == ("false", None)


def test_they_are_made_once_for_all_attempts(run: Run, request_: TrainRequest) -> None:
    failure, given = run(make(request_), first="raise SystemExit('Address already in use')")
    assert failure is None
    assert given == [tokenised.folder(request_)] * 2
    assert [attempt.cause for attempt in read_attempts(request_)] == ["port", ""]
    log = (request_.directory / "job" / "job.log").read_text()
    assert log.count("making the rows ready") == 1
    assert flag(build_command(request_, None), "cached_dataset") == str(tokenised.folder(request_) / "train")
    # A later try finds them, too.
    failure, given = run("raise SystemExit(1)")
    assert failure is None
    assert given == [tokenised.folder(request_)]


@pytest.mark.parametrize(
    ("sides", "code", "cause", "words"),
    [
        (("train", "val"), "No space left on device", "disk", "the disk is full"),
        (("train",), 0, "unknown", "and they are not there"),
        ((), 1, "unknown", "exit code 1"),
    ],
)
def test_rows_that_are_not_whole_are_never_trained_on(
    run: Run, request_: TrainRequest, sides: tuple[str, ...], code: int | str, cause: str, words: str
) -> None:
    failure, given = run(make(request_, sides, code))
    assert (failure.cause, given) == (cause, [])
    assert words in failure.sentence
    assert tokenised.find(request_) is None
    assert [attempt.cause for attempt in read_attempts(request_)] == [cause]
