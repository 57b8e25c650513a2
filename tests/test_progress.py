import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from medllm_ops.progress import follow_log

log = logging.getLogger("medllm_ops.somewhere")


def make_console(terminal: bool) -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, force_terminal=terminal, width=200, color_system=None, highlight=False), screen


def test_a_pipe_gets_a_line_for_each_step_and_message(tmp_path: Path) -> None:
    console, screen = make_console(terminal=False)
    with follow_log(tmp_path / "log", console) as progress, progress.step("[1/9] plan: check", "convert"):
        log.info("found [/tmp/x] and [bold]")
    lines = screen.getvalue().splitlines()
    assert lines[:2] == ["[1/9] plan: check (next: convert)", "    found [/tmp/x] and [bold]"]
    assert lines[2].startswith("[1/9] plan: check done in ")
    assert "INFO medllm_ops.somewhere: found [/tmp/x] and [bold]" in (tmp_path / "log").read_text()


def test_brackets_in_a_message_do_not_break_the_moving_line(tmp_path: Path) -> None:
    console, screen = make_console(terminal=True)
    with follow_log(tmp_path / "log", console) as progress, progress.step("[1/9] plan", None):
        log.info("found [/tmp/x]")
        log.info("loss [/]")
    assert "[1/9] plan done in" in screen.getvalue()


def test_after_a_step_that_failed_messages_are_still_shown(tmp_path: Path) -> None:
    console, screen = make_console(terminal=True)
    with follow_log(tmp_path / "log", console) as progress:
        with pytest.raises(KeyError), progress.step("first", "second"):
            raise KeyError
        log.info("what to do now")
    assert "    what to do now\n" in screen.getvalue()
    assert "done in" not in screen.getvalue()


def test_messages_are_followed_though_the_logger_was_silent_before(tmp_path: Path) -> None:
    log.info("nobody listens")  # logging remembers that nobody did
    console, screen = make_console(terminal=False)
    level = logging.getLogger("medllm_ops").level
    with follow_log(tmp_path / "log", console):
        log.info("now")
        log.debug("never")
    log.info("nobody listens any more")
    assert screen.getvalue() == "    now\n"
    assert logging.getLogger("medllm_ops").level == level
    assert len((tmp_path / "log").read_text().splitlines()) == 1
