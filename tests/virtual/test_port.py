"""The USB port of a virtual board: opened by path, pulled, plugged in again, and a line that damages bytes."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest
import serial

from boards.virtual.hub import shared_hub
from boards.virtual.line import LineFaults
from boards.virtual.port import LinkPort
from tests.virtual.conftest import MakeBoard

ECHO = """
    import sys
    print("ready")
    byte = bytearray(1)
    while sys.stdin.buffer.readinto(byte):
        sys.stdout.buffer.write(byte)
"""
ALL_BYTES = bytes(range(256))


def _open(path: Path) -> serial.Serial:
    return serial.Serial(str(path), 115200, timeout=10)


def test_every_byte_value_passes_unchanged_both_ways(board: MakeBoard) -> None:
    one = board(ECHO)
    one.power_on()
    one.wait_console(b"ready\n")
    with _open(one.link_path) as port:
        port.write(ALL_BYTES)
        assert port.read(256) == ALL_BYTES


def test_what_a_node_says_while_nobody_has_the_port_open_is_lost(board: MakeBoard) -> None:
    one = board(ECHO)
    one.power_on()
    one.wait_console(b"ready\n")
    assert one.port.lost_bytes == len(one.console)
    for word in (b"first", b"again"):  # closed and opened again: still raw, nothing old in it
        with _open(one.link_path) as port:
            port.write(word)
            assert port.read(5) == word


def test_an_unplugged_port_is_hung_up_and_comes_back_under_another_name(board: MakeBoard) -> None:
    one = board(ECHO)
    one.power_on()
    one.wait_console(b"ready\n")
    with _open(one.link_path) as port:
        before = os.readlink(one.link_path)
        one.unplug()
        assert not one.link_path.is_symlink()
        with pytest.raises((serial.SerialException, OSError)):
            port.read(1)
    one.replug()
    assert os.readlink(one.link_path) != before
    assert one.counts["boot"] == 1, "the node has its own supply and did not notice"
    with _open(one.link_path) as port:
        port.write(b"hello")
        assert port.read(5) == b"hello"


def test_the_port_stays_while_the_node_resets_and_the_rom_speaks_on_it(board: MakeBoard) -> None:
    one = board("import machine, sys\nsys.stdin.buffer.read(1)\nmachine.reset()")
    one.power_on()
    with _open(one.link_path) as port:
        one.wait("boot")
        port.write(b"x")
        assert port.read_until(b"SPI_FAST_FLASH_BOOT)\r\n").startswith(b"ets Jul")
        assert one.counts["reset"] == 1


def test_a_gateway_that_reads_slowly_gets_everything_up_to_the_bound_in_order(board: MakeBoard) -> None:
    one = board("""
        import sys
        sys.stdin.buffer.read(1)
        for n in range(6000):
            sys.stdout.buffer.write(b"%07d " % n)
    """)
    one.power_on()
    with _open(one.link_path) as port:
        port.write(b"x")
        one.wait("halted")  # all said, nothing read yet
        text = port.read_until(b"0005999 ")
    assert text.split()[-6000:] == [b"%07d" % n for n in range(6000)]


def test_a_damaged_line_does_the_same_damage_for_the_same_seed() -> None:
    data = random.Random(1).randbytes(20_000)

    def damage(seed: int, pieces: int) -> tuple[bytes, dict[str, int]]:
        faults = LineFaults(seed, corrupt=0.0125, drop=0.0125, duplicate=0.0125, reorder=0.0125)
        size = len(data) // pieces
        parts = [faults.pass_through(data[at : at + size], "up") for at in range(0, len(data), size)]
        return b"".join(parts), faults.counts

    damaged, counts = damage(7, 1)
    assert damage(7, 1) == (damaged, counts)
    assert damage(8, 1)[0] != damaged
    assert all(150 < count < 350 for count in counts.values()), counts
    assert len(damaged) == len(data) - counts["drop"] + counts["duplicate"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("drop", b""), ("duplicate", b"aabbccdd"), ("reorder", b"badc"), ("corrupt", None)],
)
def test_each_line_fault_does_what_its_name_says(fault: str, expected: bytes | None) -> None:
    faults = LineFaults(1, **{fault: 1.0})  # type: ignore[arg-type]  # one keyword, chosen by the test
    out = faults.pass_through(b"abcd", "down")
    if expected is None:
        assert [bin(a ^ b).count("1") for a, b in zip(out, b"abcd", strict=True)] == [1, 1, 1, 1]
    else:
        assert out == expected


def test_the_two_directions_of_a_line_are_damaged_apart() -> None:
    alone = LineFaults(3, corrupt=0.2)
    both = LineFaults(3, corrupt=0.2)
    both.pass_through(ALL_BYTES, "down")
    assert both.pass_through(ALL_BYTES, "up") == alone.pass_through(ALL_BYTES, "up")


def test_fault_rates_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 1"):
        LineFaults(0, corrupt=0.6, drop=0.6)


def test_line_faults_of_a_board_reach_the_gateway(board: MakeBoard) -> None:
    one = board(ECHO)
    one.power_on()
    one.wait_console(b"ready\n")
    with _open(one.link_path) as port:
        one.faults = LineFaults(0, duplicate=1.0)
        port.write(b"ab")
        assert port.read(8) == b"aaaabbbb", "once on the way down, once on the way up"


def test_a_port_that_nobody_reads_keeps_the_oldest_and_counts_the_rest(tmp_path: Path) -> None:
    hub = shared_hub()
    got = threading.Event()
    port = LinkPort(hub, tmp_path / "tty", lambda data: got.set())
    hub.call(port.plug)
    with _open(tmp_path / "tty") as reader:
        reader.write(b"x")
        assert got.wait(10)
        for n in range(2000):
            hub.call(lambda n=n: port.send(b"%063d\n" % n))  # type: ignore[misc]  # bound per turn
        lost = port.lost_bytes
        assert lost > 0
        kept = reader.read(2000 * 64 - lost)
    assert kept[:128] == b"%063d\n%063d\n" % (0, 1)
    hub.call(port.unplug)
