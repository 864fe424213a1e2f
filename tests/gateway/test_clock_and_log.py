"""The clock says only what the kernel says, and a log line never carries a secret or a control character."""

from __future__ import annotations

import gc
import io
import json
import logging

import pytest

from gateway import clock, limits, log
from gateway.clock import SystemClock


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_holds_the_event_and_its_facts() -> None:
    out = io.StringIO()
    logger = log.setup("info", "json", out)
    logger.bind(link="river-1").info("port_open", baud=9600)
    logger.debug("not shown")
    [line] = lines(out)
    assert (line["event"], line["link"], line["baud"], line["level"]) == (
        "port_open",
        "river-1",
        9600,
        "info",
    )
    assert str(line["timestamp"]).endswith("Z")


def test_secrets_bytes_and_control_characters_do_not_reach_a_log() -> None:
    out = io.StringIO()
    log.setup("info", "json", out).info(
        "x",
        master_secret="5ec2e7",
        password="5ec2e7",
        api_token="5ec2e7",
        frame=b"5ec2e7",
        line="\x1b[2Jcleared\r\nfaked",
        long="y" * 10_000,
    )
    [line] = lines(out)
    assert "5ec2e7" not in out.getvalue()
    assert line["frame"] == "(6 bytes)"
    assert line["line"] == "\\x1b[2Jcleared\\r\\nfaked"
    assert len(str(line["long"])) == log.TEXT_CHARS_MAX + 1


def test_lines_of_libraries_take_the_same_shape() -> None:
    out = io.StringIO()
    log.setup("warning", "json", out)
    logging.getLogger("some.library").warning("broker %s", "gone")
    logging.getLogger("some.library").info("not shown")
    [line] = lines(out)
    assert (line["event"], line["level"]) == ("broker gone", "warning")


def test_a_failure_is_logged_with_its_traceback_in_both_styles() -> None:
    for style in ("json", "console"):
        out = io.StringIO()
        logger = log.setup("info", style, out)
        try:
            raise ZeroDivisionError("told")
        except ZeroDivisionError as exc:
            logger.error("part_failed", exc_info=exc)
        assert "ZeroDivisionError: told" in out.getvalue()


def test_rich_stays_importable_beside_the_log() -> None:
    import rich.table

    assert rich.table.Table


def test_an_assumed_clock_is_in_time_and_a_real_one_asks_the_kernel_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[bool] = [False, True]
    now_s = [0.0]
    monkeypatch.setattr(clock, "kernel_synchronised", lambda: answers.pop(0))
    monkeypatch.setattr(SystemClock, "monotonic", lambda self: now_s[0])
    assert SystemClock(assume_synchronised=True).synchronised()
    real = SystemClock()
    assert not real.synchronised()
    assert not real.synchronised()
    now_s[0] += limits.CLOCK_CHECK_S
    assert real.synchronised()
    assert answers == []


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [(0, 0x2001, True), (1, 0, True), (5, 0x40, False), (0, 0x40, False), (5, 0, False), (-1, 0, False)],
)
def test_what_adjtimex_says_is_understood(
    monkeypatch: pytest.MonkeyPatch, state: int, status: int, expected: bool
) -> None:
    class FakeLibc:
        def adjtimex(self, reference: object) -> int:
            buffer = reference._obj  # type: ignore[attr-defined]
            buffer[5] = status
            return state

    monkeypatch.setattr(clock, "_libc", FakeLibc)
    assert clock.kernel_synchronised() is expected


def test_asking_the_kernel_leaves_nothing_behind() -> None:
    """Every five seconds for years: what only a full garbage collection finds would be 25 KB a minute until then."""
    clock.kernel_synchronised()
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(50):
            clock.kernel_synchronised()
        assert len(gc.get_objects()) - before < 10
    finally:
        gc.enable()


def test_the_real_kernel_answers() -> None:
    assert clock.kernel_synchronised() in (True, False)
