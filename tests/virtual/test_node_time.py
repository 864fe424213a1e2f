"""`time` and `select` of the virtual board: an ESP32's epoch and ticks, and waits that a test can speed up."""

from __future__ import annotations

import pytest

from boards.virtual.clock import BoardClock
from tests.virtual.conftest import WORLD_START_S, MakeBoard, lines


def _run(board: MakeBoard, main: str, **options: object) -> list[str]:
    one = board(main, **options)
    one.power_on()
    one.wait("halted")
    return lines(one)


def test_time_starts_in_2000_and_converts_without_a_zone(board: MakeBoard) -> None:
    said = _run(
        board,
        """
        import time
        print(time.gmtime(0), time.localtime(0) == time.gmtime(0))
        print(time.mktime((2026, 9, 21, 14, 13, 20, 0, 0)))
        print(time.gmtime(843315200), type(time.time()), 0 <= time.time() < 60)
        """,
    )
    assert said == [
        "(2000, 1, 1, 0, 0, 0, 5, 1) True",
        str(int(WORLD_START_S) - 946684800),
        "(2026, 9, 21, 14, 13, 20, 0, 264) <class 'int'> True",
    ]


def test_ticks_wrap_one_minute_after_each_start(board: MakeBoard) -> None:
    said = _run(
        board,
        """
        import time
        start, start_us = time.ticks_ms(), time.ticks_us()
        print(start >= 2**30 - 60000, start_us < 2**30)
        time.sleep(61)
        now = time.ticks_ms()
        print(now < start, time.ticks_diff(now, start) // 1000)
        print(61000000 <= time.ticks_diff(time.ticks_us(), start_us) < 62000000)
        print(time.ticks_add(2**30 - 1, 2), time.ticks_add(1, -2) == 2**30 - 1, time.ticks_diff(0, 2**30 - 1))
        """,
        time_scale=1000,
    )
    assert said == ["True True", "True 61", "True", "1 True 1"]


def test_a_poll_that_waits_in_vain_takes_the_time_it_was_given(board: MakeBoard) -> None:
    said = _run(
        board,
        """
        import select, sys, time
        poller = select.poll()
        poller.register(sys.stdin, select.POLLIN)
        start = time.ticks_ms()
        print(poller.poll(600000), 600000 <= time.ticks_diff(time.ticks_ms(), start) < 601000)
        """,
        time_scale=1e5,
    )
    assert said == ["[] True"]


def test_asyncio_which_would_run_on_the_hosts_clock_is_refused(board: MakeBoard) -> None:
    said = _run(board, "import asyncio")
    assert said[-1].startswith("ImportError: asyncio of the unix port keeps its own time")


def test_a_simulated_week_passes_in_moments_and_the_world_sees_all_of_it(board: MakeBoard) -> None:
    one = board(
        """
        import time
        for _ in range(7 * 96):
            time.sleep(900)
        """,
        time_scale=1e6,
    )
    one.power_on()
    one.wait("halted")
    passed_s = one.now_s() - WORLD_START_S
    assert 7 * 86400 <= passed_s < 7 * 86400 + 60


class _Monotonic:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_timers_on_the_way_of_a_skip_run_in_order_each_at_its_moment() -> None:
    clock = BoardClock(1000.0, _Monotonic())
    seen: list[tuple[str, float]] = []
    clock.call_later(5, lambda: seen.append(("late", clock.now_s())))

    def early() -> None:
        seen.append(("early", clock.now_s()))
        clock.call_later(1, lambda: seen.append(("between", clock.now_s())))

    clock.call_later(2, early)
    clock.call_later(3, lambda: seen.append(("never", 0.0))).cancel()
    clock.skip(10)
    assert seen == [("early", 1002.0), ("between", 1003.0), ("late", 1005.0)]
    assert clock.now_s() == 1010.0
    assert clock.due_in_s() is None


def test_a_skip_to_the_next_timer_goes_no_further_than_allowed() -> None:
    monotonic = _Monotonic()
    clock = BoardClock(0.0, monotonic)
    ran: list[float] = []
    clock.call_later(5, lambda: ran.append(clock.now_s()))
    assert clock.skip_to_next(2) == 2
    assert not ran
    assert clock.skip_to_next(20) == pytest.approx(3)
    assert ran == [pytest.approx(5)]
    monotonic.now_s += 1
    assert clock.now_s() == pytest.approx(6)
