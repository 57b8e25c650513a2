"""The real ``swift deploy``, of a tiny random model."""

from collections.abc import Callable
from pathlib import Path

import psutil

from medllm_ops.serving.endpoint import EndpointRequest, ask, model_names, start_endpoint
from medllm_ops.serving.registry import find_service, list_services, stop_service


def test_swift_serves_a_model_with_its_key_alone_and_ends_whole(
    tiny_model: Path, serving_processes: Callable[[], list[psutil.Process]]
) -> None:
    service = start_endpoint(
        EndpointRequest("tiny", tiny_model, model_type="qwen2", template="qwen2_5", torch_dtype="float32", system="")
    )
    assert model_names(service) == [service.model_name]
    assert list_services() == [service]
    for process in serving_processes():
        assert service.secret not in " ".join(process.cmdline())
    assert service.secret not in service.log_tail(1000)
    question = [{"role": "user", "content": "Which vitamin prevents scurvy?"}]
    first, second = ask(service, question, max_tokens=8), ask(service, question, max_tokens=8)
    assert 0 < first["tokens"] <= 8
    assert first["answer"] == second["answer"]
    # Its cache is its own, so that it goes with it.
    assert stop_service("tiny") == [service]
    assert serving_processes() == []
    assert find_service("tiny") is None
    assert not service.directory.exists()
