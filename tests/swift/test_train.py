import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from medllm_ops.compute.job import Job, JobResult, job_id
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json, write_json_lines
from medllm_ops.swift.attempts import Attempt, build_command
from medllm_ops.swift.progress import Progress
from medllm_ops.swift.recipe import PreferenceRecipe, StageRecipe
from medllm_ops.swift.request import TrainRequest
from medllm_ops.swift.train import _Watch, stage_request, train, train_stage

ROWS, VAL_ROWS, STEPS = 8, 2, 4


def save_checkpoint(output: Path, step: int) -> Path:
    folder = output / f"checkpoint-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"a": np.ones(4, dtype=np.float32)}, folder / "adapter_model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("data", b"state")
    write_json(folder / "trainer_state.json", {"global_step": step})
    return folder


@dataclass
class FakePlace:
    """Does what ms-swift does to the disk, without training anything."""

    loss: float = 2.0
    steps: int = STEPS
    max_steps: int = STEPS
    rows: int = ROWS
    val_rows: int = VAL_ROWS
    last_line: bool = True
    checkpoint: bool = True
    found: bool = False
    first_step: int = 0
    log: str = ""
    rewards: dict[str, float] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def run(self, job: Job, on_poll: Callable[[], Any] | None = None) -> JobResult:
        return self.wait(self.submit(job), on_poll)

    def submit(self, job: Job) -> Job:
        self.jobs.append(job)
        self.events.append("submit")
        return job

    def wait(self, job: Job, on_poll: Callable[[], Any] | None = None) -> JobResult:
        job.write()
        job.log.write_text(self.log)
        write_json(job.directory.parent / "attempts.json", [asdict(Attempt(self.first_step, 2, 1, seconds=2.0))])
        output = job.directory.parent / "output"
        output.mkdir(exist_ok=True)
        last = save_checkpoint(output, self.steps) if self.checkpoint else None
        place = {"global_step/max_steps": f"{self.steps}/{self.max_steps}"}
        rows: list[dict[str, Any]] = [{"loss": self.loss, **self.rewards, **place}]
        if self.last_line:
            sizes = {"train_dataset": f"1.0±0.0, size={self.rows}", "val_dataset": f"1.0±0.0, size={self.val_rows}"}
            paths = {"last_model_checkpoint": last and str(last), "best_model_checkpoint": None}
            rows.append({**sizes, **paths, "global_step": self.steps})
        with (output / "logging.jsonl").open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        if on_poll:
            on_poll()
        result = JobResult(job.key, 0, seconds=2.0)
        write_json(job.result_file, {"key": job.key, "exit_code": 0, "seconds": 2.0, "stopped": False})
        return result

    def running(self, directory: Path, key: str) -> bool:
        return self.found

    def stop(self, directory: Path) -> None:
        self.events.append("stop")


@pytest.fixture
def request_(tmp_path: Path) -> TrainRequest:
    model = tmp_path / "model"
    write_json(model / "config.json", {"model_type": "qwen2"})
    train_file, val_file = tmp_path / "train.jsonl", tmp_path / "val.jsonl"
    write_json_lines(train_file, [{"messages": [{"role": "assistant", "content": str(n)}]} for n in range(ROWS)])
    write_json_lines(val_file, [{"messages": [{"role": "assistant", "content": f"v{n}"}]} for n in range(VAL_ROWS)])
    recipe = StageRecipe(max_steps=STEPS, per_device_train_batch_size=2)
    return TrainRequest(
        "sft", recipe, model, "qwen2", "qwen2_5", (train_file,), (val_file,), tmp_path / "sft", tokens=80
    )


def test_a_training_gives_its_figures_and_its_checkpoint(request_: TrainRequest) -> None:
    place, told = FakePlace(), list[Progress]()
    result = train(request_, place, told.append)
    assert (result.steps, result.max_steps, result.loss, result.rows, result.val_rows) == (4, 4, 2.0, 8, 2)
    assert result.checkpoint == str(request_.output_dir / "checkpoint-4")
    # 4 steps of 2 rows of 10 tokens in 2 seconds.
    assert result.tokens_per_second == 40.0
    assert read_json(request_.directory / "result.json")["key"] == request_.key()
    assert result.attempts == [asdict(Attempt(0, 2, 1, seconds=2.0))]
    (job,) = place.jobs
    assert (job.id, job.gpus) == (job_id(request_.directory / "job"), 1)
    assert job.argv[1:3] == ("-m", "medllm_ops.swift.attempts")
    assert TrainRequest.from_row(read_json(Path(job.argv[3]))) == request_


def test_an_alignment_tells_its_rewards_and_is_handed_over_whole(request_: TrainRequest) -> None:
    recipe = PreferenceRecipe(max_steps=STEPS, per_device_train_batch_size=2, beta=0.2)
    place = FakePlace(rewards={"rewards/margins": 0.25, "rewards/accuracies": 0.75})
    result = train(replace(request_, stage="dpo", recipe=recipe), place)
    assert result.rewards == {"margin": 0.25, "accuracy": 0.75}
    (job,) = place.jobs
    assert TrainRequest.from_row(read_json(Path(job.argv[3]))).recipe == recipe
    assert build_command(TrainRequest.from_row(read_json(Path(job.argv[3]))), None).argv[3] == "swift.cli.rlhf"


def test_with_packing_rows_are_counted_and_not_packed_sequences(request_: TrainRequest) -> None:
    packed = request_.recipe.model_copy(update={"packing": True, "attn_impl": "flash_attn"})
    log = "{}: Dataset({{\n    features: ['lengths'],\n    num_rows: {}\n}})\n"
    place = FakePlace(rows=3, log=log.format("train_dataset", ROWS) + log.format("val_dataset", VAL_ROWS))
    assert train(replace(request_, recipe=packed), place).rows == ROWS
    place = FakePlace(log=log.format("train_dataset", ROWS - 1) + log.format("val_dataset", VAL_ROWS))
    with pytest.raises(MedllmError, match=r"kept \(7, 2\) rows"):
        train(replace(request_, recipe=packed, system="another"), place)


def test_a_finished_training_is_not_repeated_unless_something_changed(request_: TrainRequest) -> None:
    place = FakePlace()
    first = train(request_, place)
    assert train(request_, place) == first
    assert len(place.jobs) == 1
    train(replace(request_, system="You are a doctor."), place)
    assert len(place.jobs) == 2
    with request_.train_files[0].open("ab") as file:
        file.write(b'{"messages": []}\n')
    place.rows += 1
    train(replace(request_, system="You are a doctor."), place)
    assert len(place.jobs) == 3


def test_a_model_that_was_merged_anew_is_trained_anew(request_: TrainRequest) -> None:
    write_json(request_.model_dir / "merge.json", {"inputs": 1})
    before = request_.key()
    write_json(request_.model_dir / "merge.json", {"inputs": 2})
    assert request_.key() != before


def test_a_training_whose_checkpoint_is_gone_is_repeated(request_: TrainRequest) -> None:
    place = FakePlace()
    shutil.rmtree(train(request_, place).checkpoint)
    train(request_, place)
    assert len(place.jobs) == 2


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (FakePlace(last_line=False), "left no last line"),
        (FakePlace(steps=0, max_steps=0), "stopped at step 0 of 0"),
        (FakePlace(steps=3), "stopped at step 3 of 4"),
        (FakePlace(loss=float("nan")), "the loss is nan at step 4: the training diverged"),
        (FakePlace(rows=7), r"ms-swift kept \(7, 2\) rows \(train, val\) of the \(8, 2\) it was given"),
        (FakePlace(checkpoint=False), "no last checkpoint in"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_exit_code_of_0_proves_nothing(request_: TrainRequest, place: FakePlace, sentence: str) -> None:
    with pytest.raises(MedllmError, match=sentence):
        train(request_, place)
    assert not (request_.directory / "result.json").exists()
    # The place must not take it for a success on the next try.
    assert place.jobs[0].result() is None


def test_only_the_steps_of_the_last_attempt_count_for_the_speed(request_: TrainRequest) -> None:
    assert train(request_, FakePlace(first_step=2)).tokens_per_second == 20.0


def test_each_gpu_counts(request_: TrainRequest) -> None:
    """3 GPUs share 8 rows and one of them again; 4 steps of 3 times 2 rows of 10 tokens in 2 seconds."""
    three = replace(request_, recipe=request_.recipe.model_copy(update={"gpus": 3}))
    place = FakePlace(rows=9)
    with pytest.raises(MedllmError, match="2 for validation are fewer than its 3 GPUs: lower gpus"):
        train(three, place)
    with request_.val_files[0].open("ab") as file:
        file.write(b'{"messages": []}\n')
    place.val_rows = 3
    result = train(three, place)
    assert (result.rows, result.val_rows, result.tokens_per_second) == (8, 3, 120.0)
    assert place.jobs[-1].gpus == 3
    with pytest.raises(MedllmError, match=r"kept \(8, 3\) rows"):
        train(replace(three, system="another"), FakePlace(rows=8, val_rows=3))


def test_checkpoints_of_other_settings_are_cleared_away(request_: TrainRequest) -> None:
    write_json(request_.directory / "key.json", {"key": "of other settings"})
    save_checkpoint(request_.output_dir, 2)
    place = FakePlace()
    train(request_, place)
    assert not (request_.output_dir / "checkpoint-2").exists()


def test_a_folder_that_no_training_has_made_is_left_alone(request_: TrainRequest) -> None:
    request_.directory.mkdir()
    (request_.directory / "thesis.docx").write_text("three years", encoding="utf-8")
    place = FakePlace()
    with pytest.raises(MedllmError, match=r"would be cleared for a training, and holds .* \(thesis\.docx\)"):
        train(request_, place)
    assert (request_.directory / "thesis.docx").read_text(encoding="utf-8") == "three years"
    assert place.jobs == []
    # An empty one is as good as none.
    (request_.directory / "thesis.docx").unlink()
    assert train(request_, place).steps


@pytest.mark.parametrize(
    ("file", "named", "key"),
    [
        ("output/checkpoint-99/adapter_model.safetensors", "output", None),
        ("result.json", "result.json", None),
        (".env", r"\.env", None),
        (".git/config", r"\.git", "of other settings"),
    ],
)
def test_neither_names_like_ours_nor_hidden_files_are_lost(
    request_: TrainRequest, file: str, named: str, key: str | None
) -> None:
    if key:
        write_json(request_.directory / "key.json", {"key": key})
    path = request_.directory / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("three years", encoding="utf-8")
    with pytest.raises(MedllmError, match=rf"would be cleared for a training, and holds .* \({named}\)"):
        train(request_, FakePlace())
    assert path.read_text(encoding="utf-8") == "three years"


def test_what_a_killed_start_left_is_no_obstacle(request_: TrainRequest) -> None:
    """Our mark is what a training writes first, and what is cleared last."""
    request_.directory.mkdir()
    (request_.directory / ".key.json.4711.part").write_bytes(b"{")
    assert train(request_, FakePlace()).steps
    assert not (request_.directory / ".key.json.4711.part").exists()


def test_what_still_runs_is_ended_before_anything_is_cleared(request_: TrainRequest) -> None:
    write_json(request_.directory / "key.json", {"key": "of other settings"})
    save_checkpoint(request_.output_dir, 2)
    place = FakePlace()
    there = []
    place.stop = lambda _directory: there.append((request_.output_dir / "checkpoint-2").exists())  # type: ignore[method-assign]
    train(request_, place)
    assert there == [True]


def test_a_training_that_still_runs_is_found_again_untouched(request_: TrainRequest) -> None:
    write_json(request_.directory / "key.json", {"key": request_.key()})
    half = save_checkpoint(request_.output_dir, 3)
    (half / "optimizer.pt").write_bytes(b"being written")
    place = FakePlace(found=True)
    (request_.directory / "job").mkdir()
    train(request_, place)
    assert place.events == ["submit"]
    assert half.exists()


def test_without_rows_on_both_sides_nothing_starts(request_: TrainRequest) -> None:
    place = FakePlace()
    request_.val_files[0].write_bytes(b"")
    with pytest.raises(MedllmError, match="8 rows for training and 0 for validation; both must have some"):
        train(request_, place)
    request_.val_files[0].unlink()
    with pytest.raises(MedllmError, match=r"val\.jsonl does not exist"):
        train(request_, place)
    with pytest.raises(MedllmError, match=r"no model/config\.json does not exist"):
        train(replace(request_, model_dir=request_.model_dir / "no model"), place)
    assert place.jobs == []


def test_a_line_that_is_no_row_is_named_before_anything_starts(request_: TrainRequest) -> None:
    with request_.train_files[0].open("ab") as file:
        file.write(b"not json\n")
    place = FakePlace()
    with pytest.raises(MedllmError, match=r"train\.jsonl: line 9 is not JSON"):
        train(request_, place)
    assert place.jobs == []
    assert not request_.directory.exists()


def test_a_stage_is_trained_on_its_own_sets(request_: TrainRequest, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: r\nmodel: m\nstages: {sft: {max_steps: 4}, pretrain: {max_steps: 4}}\n")
    dataset = tmp_path / "dataset"
    for name in ("alpaca", "pubmed"):
        for side, files in (("train", request_.train_files), ("val", request_.val_files)):
            (dataset / side).mkdir(parents=True, exist_ok=True)
            shutil.copy(files[0], dataset / side / f"{name}.jsonl")
    sets = {"alpaca": {"stage": "sft", "tokens": 80}, "pubmed": {"stage": "other", "tokens": 9}}
    write_json(dataset / "manifest.json", {"sets": sets})
    arguments = (str(recipe), str(request_.model_dir), str(dataset), str(tmp_path / "out"))
    place = FakePlace()
    result = train_stage("sft", *arguments, place=place)
    assert (result["stage"], result["rows"]) == ("sft", 8)
    asked = read_json(Path(place.jobs[0].argv[-1]))
    assert asked["train_files"] == [str(dataset / "train" / "alpaca.jsonl")]
    assert asked["val_files"] == [str(dataset / "val" / "alpaca.jsonl")]
    assert "max_length" not in asked["recipe"]
    with pytest.raises(MedllmError, match="has no set for stage pretrain"):
        train_stage("pretrain", *arguments, place=place)
    with pytest.raises(MedllmError, match="recipe r has no stage self_cognition: it has pretrain, sft"):
        train_stage("self_cognition", *arguments, place=place)


@pytest.mark.parametrize(("own", "length"), [("", 8192), (", max_length: 77", 77)])
def test_rows_are_cut_at_the_length_that_they_were_counted_with(
    request_: TrainRequest, tmp_path: Path, own: str, length: int
) -> None:
    """Of Qwen-14B-Chat's two lengths ms-swift would take the smaller one, and end at the first row beyond it."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"name: r\nmodel: m\nstages: {{sft: {{max_steps: 4{own}}}}}\n")
    dataset = tmp_path / "dataset"
    sets = {name: {"stage": "sft", "tokens": 80, "max_length": most} for name, most in (("a", 4096), ("b", 8192))}
    write_json(dataset / "manifest.json", {"sets": sets})
    asked = stage_request("sft", str(recipe), str(request_.model_dir), str(dataset), str(tmp_path / "out"))
    assert asked.recipe.max_length == length
    assert TrainRequest.from_row(asked.to_row()) == asked
    # Where neither the recipe nor the model says one, nothing is cut.
    sets["b"]["max_length"] = sys.maxsize
    write_json(dataset / "manifest.json", {"sets": sets})
    asked = stage_request("sft", str(recipe), str(request_.model_dir), str(dataset), str(tmp_path / "out"))
    assert asked.recipe.max_length == (None if not own else length)


def test_the_pace_is_that_of_the_steps_seen(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was found again has made most of its steps before; one that is resumed goes back to a checkpoint."""
    seconds = iter(range(0, 1000, 2))
    monkeypatch.setattr("medllm_ops.swift.train.time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    log = request_.output_dir / "logging.jsonl"
    log.parent.mkdir(parents=True)

    def write(step: int) -> None:
        with log.open("a") as file:
            file.write(json.dumps({"loss": 2.0, "global_step/max_steps": f"{step}/2000"}) + "\n")

    write(620)
    told: list[Progress] = []
    watch = _Watch(request_, told.append)
    for step in (620, 630, 640, 600, 610):
        if step != 620:
            write(step)
        watch()
    assert [progress.step for progress in told] == [630, 640, 600, 610]
    assert [progress.eta_seconds is None for progress in told] == [True, False, True, False]
    for progress in (told[1], told[3]):
        assert progress.eta_seconds == pytest.approx(progress.seconds / 10 * (2000 - progress.step))
        assert 2 <= progress.seconds <= 10


def test_a_finished_training_that_was_moved_is_not_repeated(request_: TrainRequest, tmp_path: Path) -> None:
    train(request_, FakePlace())
    elsewhere = tmp_path / "elsewhere"
    names = [path.name for path in tmp_path.iterdir()]
    elsewhere.mkdir()
    for name in names:
        (tmp_path / name).rename(elsewhere / name)
    moved = replace(
        request_,
        model_dir=elsewhere / "model",
        train_files=(elsewhere / "train.jsonl",),
        val_files=(elsewhere / "val.jsonl",),
        directory=elsewhere / "sft",
    )
    assert moved.key() == request_key(moved)
    place = FakePlace()
    result = train(moved, place)
    assert place.jobs == []
    assert result.checkpoint == str(moved.output_dir / "checkpoint-4")


def request_key(request: TrainRequest) -> str:
    return str(read_json(request.directory / "result.json")["key"])


def test_other_weights_of_the_same_size_are_another_training(request_: TrainRequest) -> None:
    weights = request_.model_dir / "model.safetensors"
    keys = set()
    for fill in (b"a", b"b"):
        for size in (10, (1 << 20) + 5, (2 << 20) + 5):
            weights.write_bytes(fill * size)
            keys.add(request_.key())
    assert len(keys) == 6
