import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from medllm_ops.compute.job import JobError
from medllm_ops.errors import MedllmError
from medllm_ops.serving import endpoint, prove, registry
from medllm_ops.serving.endpoint import ask
from medllm_ops.serving.prove import PROMPT, serve_model
from medllm_ops.serving.registry import find_service, list_services, service_directory

FakeSwift = Callable[[str], None]
Processes = Callable[[], list[psutil.Process]]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "end_job", partial(registry.end_job, grace_seconds=0.3))
    monkeypatch.setattr(endpoint, "POLL_SECONDS", 0.02)


@pytest.fixture
def serve(model_dir: Path, tmp_path: Path, fake_swift: FakeSwift) -> Callable[..., dict[str, object]]:
    """Serve the model folder; the proof goes to ``out``."""
    return partial(serve_model, "demo", model=str(model_dir), output_dir=str(tmp_path / "out"))


def test_a_proof_is_written_and_the_endpoint_stopped(
    serve: Callable[..., dict[str, object]], tmp_path: Path, serving_processes: Processes
) -> None:
    result = serve(recipe="demo", keep=False)
    assert result.pop("seconds") > 0  # type: ignore[operator]
    assert str(result.pop("served_model_name")).startswith("demo-")
    assert str(result.pop("url")).startswith("http://127.0.0.1:")
    answer = f"turn 1: you said {PROMPT!r}"
    assert result == {
        "prompt": PROMPT,
        "answer": answer,
        "tokens": len(answer.split()),
        "left_running": False,
        "enforced": True,
    }
    written = json.loads((tmp_path / "out" / "serving.json").read_text(encoding="utf-8"))
    assert result.items() <= written.items()
    assert serving_processes() == []
    assert not service_directory("demo").exists()


def test_an_endpoint_is_kept_when_told_so_and_its_key_is_not_in_the_proof(
    serve: Callable[..., dict[str, object]], tmp_path: Path
) -> None:
    result = serve(recipe="demo", keep=True)
    assert result["left_running"] is True
    (service,) = list_services()
    assert (service.url, service.model_name) == (result["url"], result["served_model_name"])
    assert ask(service, [{"role": "user", "content": "still there?"}])["answer"]
    assert service.secret not in (tmp_path / "out" / "serving.json").read_text(encoding="utf-8")


def test_a_recipe_says_how_its_model_is_served(serve: Callable[..., dict[str, object]], model_dir: Path) -> None:
    serve(recipe="tiny", keep=True)
    service = find_service("demo")
    assert service is not None
    arguments = json.loads((service.directory / "arguments.json").read_text(encoding="utf-8"))
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    told = {"--model": str(model_dir), "--model_type": "qwen2", "--template": "qwen2_5", "--torch_dtype": "float32"}
    assert told.items() <= options.items()
    # No system prompt is something else than the template's own.
    assert options["--system"] == ""


def test_what_an_earlier_run_left_is_stopped_first(serve: Callable[..., dict[str, object]]) -> None:
    first = serve(recipe="demo", keep=True)
    second = serve(recipe="demo", keep=True)
    (service,) = list_services()
    assert service.model_name == second["served_model_name"] != first["served_model_name"]


def test_an_empty_answer_proves_nothing(
    serve: Callable[..., dict[str, object]], fake_swift: FakeSwift, tmp_path: Path, serving_processes: Processes
) -> None:
    fake_swift("empty")
    with pytest.raises(MedllmError, match="endpoint demo gave an empty answer to 'What helps"):
        serve(recipe="tiny", keep=True)
    assert serving_processes() == []
    assert not (tmp_path / "out" / "serving.json").exists()


@pytest.mark.parametrize(("recipe", "passes"), [("demo", False), ("tiny", True)])
def test_blanks_are_an_answer_only_where_no_gate_is_enforced(
    serve: Callable[..., dict[str, object]], monkeypatch: pytest.MonkeyPatch, recipe: str, passes: bool
) -> None:
    monkeypatch.setattr(prove, "ask", lambda *_: {"answer": " \n\n", "tokens": 3, "seconds": 0.1})
    if passes:
        assert serve(recipe=recipe, keep=False)["enforced"] is False
    else:
        with pytest.raises(MedllmError, match="empty answer"):
            serve(recipe=recipe, keep=False)
    assert list_services() == []


def test_a_model_that_cannot_be_served_leaves_nothing(
    serve: Callable[..., dict[str, object]], fake_swift: FakeSwift, tmp_path: Path, serving_processes: Processes
) -> None:
    fake_swift("dies")
    with pytest.raises(JobError, match="the weights are no weights"):
        serve(recipe="demo", keep=True)
    assert serving_processes() == []
    assert not (tmp_path / "out").exists()


def test_an_interrupt_while_it_is_asked_leaves_nothing(
    serve: Callable[..., dict[str, object]], monkeypatch: pytest.MonkeyPatch, serving_processes: Processes
) -> None:
    def interrupt(*_: object) -> dict[str, object]:
        raise KeyboardInterrupt

    monkeypatch.setattr(prove, "ask", interrupt)
    with pytest.raises(KeyboardInterrupt):
        serve(recipe="demo", keep=True)
    assert serving_processes() == []
