"""A port that is taken is refused, and whoever holds it is named."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from medllm_ops.compute.ports import check_port_free, free_port, port_holder
from medllm_ops.errors import MedllmError
from medllm_ops.ui.standalone import airflow_standalone


@pytest.fixture
def taken() -> Iterator[int]:
    """The port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def test_a_free_port_is_free_and_nobody_holds_it(taken: int) -> None:
    port = free_port()
    assert port != taken
    check_port_free("127.0.0.1", port)
    assert port_holder(port) == "held by a process of another user"


def test_a_port_that_is_taken_is_refused_with_its_holder(taken: int) -> None:
    with pytest.raises(
        MedllmError, match=rf"port {taken} on 127\.0\.0\.1 cannot be used: held by .* \(pid {os.getpid()}\)"
    ):
        check_port_free("127.0.0.1", taken)


def test_no_port_at_all_is_refused() -> None:
    with pytest.raises(MedllmError, match=r"port 70000 on 127\.0\.0\.1 .*: there is none"):
        check_port_free("127.0.0.1", 70_000)


def test_airflow_is_not_started_where_another_one_may_answer(taken: int, tmp_path: Path) -> None:
    airflow = airflow_standalone(tmp_path, taken - 2, tmp_path, tmp_path)
    with pytest.raises(MedllmError, match=r"cannot be used.*MEDLLM_AIRFLOW_PORT"), airflow:
        pass
    assert not (tmp_path / "standalone.log").exists()
