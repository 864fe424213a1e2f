"""How a life of the node ends, and what the next one finds."""

from __future__ import annotations

import threading

import pytest

from boards.virtual.errors import BoardError, WaitTimeout
from boards.virtual.hub import shared_hub
from tests.virtual.conftest import WORLD_START_S, MakeBoard, lines

# Says what it found, marks RTC memory and calendar clock, and goes on with %s in its first life only.
ONE_STEP = """
    import machine, time
    from machine import RTC
    rtc = RTC()
    print(machine.reset_cause(), machine.wake_reason(), rtc.memory(), time.gmtime()[0])
    if machine.reset_cause() == 1 and not rtc.memory():
        rtc.datetime((2026, 9, 21, 0, 12, 0, 0, 0))
        rtc.memory(b"marked")
        try:
            %s
        finally:
            print("last words")
    print("done")
"""


@pytest.mark.parametrize(
    ("step", "event", "found"),
    [
        ("machine.deepsleep(100)", "deepsleep", "4 4 b'marked' 2026"),
        ("machine.soft_reset()", "soft_reset", "5 0 b'marked' 2026"),
        ("machine.reset()", "reset", "2 0 b'' 2026"),
        ("machine.WDT(timeout=100); time.sleep(60)", "wdt", "3 0 b'' 2026"),
    ],
)
def test_each_way_to_end_a_life_keeps_and_erases_what_an_esp32_does(
    board: MakeBoard, step: str, event: str, found: str
) -> None:
    one = board(ONE_STEP % step, time_scale=100)
    one.power_on()
    one.wait("halted")
    assert lines(one) == ["1 0 b'' 2000", found, "done"], "and nobody gets to say a last word"
    assert one.counts == {"boot": 2, event: 1, "halted": 1}


def test_a_power_cut_erases_rtc_memory_and_calendar_but_not_flash(board: MakeBoard) -> None:
    one = board("""
        import esp32, machine, os, time, vfs
        try:
            os.stat("/state")
        except OSError:
            part = esp32.Partition.find(esp32.Partition.TYPE_DATA, label="state")[0]
            vfs.VfsLfs2.mkfs(part)
            vfs.mount(vfs.VfsLfs2(part), "/state")
        print(os.listdir("/state"), machine.RTC().memory(), time.gmtime()[0], machine.reset_cause())
        open("/state/kept", "w").close()
        machine.RTC().memory(b"marked")
        machine.RTC().datetime((2026, 9, 21, 0, 12, 0, 0, 0))
        print("ready")
        while True:
            time.sleep(1)
    """)
    for life in (1, 2):
        one.power_on()
        one.wait_console(b"ready\n", count=life)
        one.power_cut()
    assert lines(one) == ["[] b'' 2000 1", "ready", "['kept'] b'' 2000 1", "ready"]
    assert one.state == "off"
    assert one.pid is None


def test_the_sleep_clock_drifts_by_seed_and_the_node_can_not_see_it(board: MakeBoard) -> None:
    drifts = set()
    for seed in range(4):
        one = board(
            """
            import machine, time
            print(time.time())
            if machine.reset_cause() == 1:
                machine.deepsleep(1000000)
            """,
            seed=seed,
            time_scale=1e6,
        )
        one.power_on()
        one.wait("halted")
        before_s, after_s = map(int, lines(one))
        assert 1000 <= after_s - before_s <= 1003
        slept_s = one.now_s() - WORLD_START_S
        assert abs(slept_s - 1000 * (1 + one.sleep_drift)) < 3
        assert abs(one.sleep_drift) <= 0.05
        drifts.add(round(slept_s))
    assert len(drifts) == 4


def test_a_watchdog_that_is_fed_lets_the_node_live(board: MakeBoard) -> None:
    one = board(
        """
        import machine, time
        dog = machine.WDT(timeout=1000)
        for _ in range(100):
            time.sleep_ms(700)
            dog.feed()
        print("alive")
        """,
        time_scale=1000,
    )
    one.power_on()
    one.wait_console(b"alive")
    assert one.counts["wdt"] == 0


def test_a_watchdog_outlives_a_main_that_crashed_and_the_traceback_is_on_the_console(
    board: MakeBoard,
) -> None:
    one = board("""
        import machine
        if machine.reset_cause() == machine.WDT_RESET:
            print("back")
        else:
            machine.WDT(timeout=400)
            raise ValueError("broken on purpose")
    """)
    one.power_on()
    one.wait("halted")
    assert one.is_watched
    one.wait("wdt")
    one.wait_console(b"back")
    assert b"Traceback" in one.console
    assert b"ValueError: broken on purpose" in one.console


def test_a_main_that_ends_leaves_the_board_halted_until_reset_is_pressed(board: MakeBoard) -> None:
    one = board("import machine; print(machine.reset_cause())")
    one.power_on()
    one.wait("halted")
    assert one.state == "halted"
    one.press_reset()
    one.wait("halted", 2)
    assert lines(one) == ["1", "1"]


def test_the_node_has_the_heap_it_was_given_and_no_more(board: MakeBoard) -> None:
    """Beside the modules of the ROM, which a chip has in its flash, and what their names take in a large program."""
    one = board(
        """
        import machine, esp32, time, select, gc
        machine.Pin, machine.I2C
        gc.collect()
        print(145 * 1024 < gc.mem_free() <= (160 + 8) * 1024)
        """,
        heap_size="160k",
    )
    one.power_on()
    one.wait("halted")
    assert lines(one) == ["True"]


def test_the_process_of_a_board_is_really_gone_when_it_sleeps(board: MakeBoard) -> None:
    one = board("import machine; machine.deepsleep(0)")
    one.power_on()
    one.wait("deepsleep")
    assert one.pid is None
    assert one.state == "asleep"


def test_pins_supply_and_unique_id_are_those_of_the_board(board: MakeBoard) -> None:
    one = board(
        """
        import machine
        led = machine.Pin(2, machine.Pin.OUT, value=1)
        button = machine.Pin(0, machine.Pin.IN, machine.Pin.PULL_UP)
        adc = machine.ADC(machine.Pin(35), atten=machine.ADC.ATTN_11DB)
        print(led.value(), button(), adc.read_uv(), machine.unique_id().hex())
        """,
        mac=bytes.fromhex("020000abcdef"),
    )
    one.adc_uv[35] = 2_400_000
    one.power_on()
    one.wait("halted")
    assert lines(one) == ["1 1 2400000 020000abcdef"]
    assert one.pins[2] == 1


def test_fifty_boards_share_one_thread_and_wake_by_themselves(board: MakeBoard) -> None:
    main = "import machine\nif machine.reset_cause() == 1: machine.deepsleep(60000)"
    shared_hub()
    threads = _hub_threads()  # tests of the hub itself have more than the shared one
    boards = [board(main, seed=n, time_scale=1e4) for n in range(50)]
    for one in boards:
        one.power_on()
    for one in boards:
        one.wait("halted", timeout_s=120)
    assert all(one.counts == {"boot": 2, "deepsleep": 1, "halted": 1} for one in boards)
    assert threads
    assert _hub_threads() == threads


def _hub_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "virtual-boards"}


def test_misuse_is_refused_with_what_to_do(board: MakeBoard) -> None:
    one = board("print('hello')")
    one.power_on()
    with pytest.raises(BoardError, match="power_cut"):
        one.erase("state")
    with pytest.raises(BoardError, match="off"):
        one.power_on()
    with pytest.raises(WaitTimeout, match="'deepsleep' to happen 1 time"):
        one.wait("deepsleep", timeout_s=0)
