"""The virtual clock: time jumps, order holds, a dead world is an error."""

import asyncio
import threading

import pytest

from hil_tests.world import clock


def test_a_virtual_week_passes_at_once_and_in_order() -> None:
    """Timers fire in the order of their times, and the clock shows exactly those times."""
    seen: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, asyncio.get_running_loop().time()))

    async def world() -> None:
        await asyncio.gather(sleeper("week", 604_800), sleeper("second", 1), sleeper("hour", 3600))

    clock.run(world())
    assert [name for name, _ in seen] == ["second", "hour", "week"]
    assert [at for _, at in seen] == [1, 3600, 604_800]


def test_a_world_in_which_nothing_can_happen_is_an_error() -> None:
    """A future that nobody will set does not hang the test."""

    async def world() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(clock.NothingWillHappen):
        clock.run(world())


def test_the_wall_clock_steps_without_the_monotonic_one() -> None:
    """step_s() is NTP: only unix_ms() moves."""

    async def world() -> None:
        wall = clock.WorldClock(asyncio.get_running_loop())
        before = (wall.unix_ms(), wall.monotonic())
        wall.step_s(-90)
        assert (wall.unix_ms(), wall.monotonic()) == (before[0] - 90_000, before[1])

    clock.run(world())


def test_blocking_calls_run_inline() -> None:
    """run_in_executor() with the inline executor returns results and raises errors, in the same thread."""

    async def world() -> None:
        loop = asyncio.get_running_loop()
        executor = clock.InlineExecutor()
        assert await loop.run_in_executor(executor, lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(executor, lambda: 1 // 0)

    clock.run(world())


def test_what_goes_to_a_thread_is_done_in_no_virtual_time() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert await asyncio.to_thread(threading.get_ident) == threading.get_ident()
        assert loop.time() == 0.0
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)

    clock.run(scenario())
