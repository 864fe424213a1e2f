"""The simulated SX1262 answers as its data sheet says: bytes on SPI, BUSY, interrupts, modes, and what is forbidden."""

from __future__ import annotations

import pytest

from boards.virtual.chips.sx1262 import Sx1262
from boards.virtual.ether import Reception, Signal, Tuning
from hil_tests.world.agenda import Agenda

FREQ = (0x1D, 0x64, 0xCC, 0xCD)  # 470.3 MHz
# What makes it ready for the air: DIO3, errors cleared, calibrated, LoRa, frequency, SF9, packets of 5 bytes.
SETUP = (
    (0x97, 2, 0, 1, 0x40),
    (0x07, 0, 0),
    (0x89, 0x7F),
    (0x9D, 1),
    (0x8A, 1),
    (0x98, 0x75, 0x81),
    (0x86, *FREQ),
    (0x8B, 9, 4, 1, 0),
    (0x8C, 0, 8, 0, 5, 1, 0),
    (0x0D, 0x08, 0x89, 0x05),
    (0x0D, 0x08, 0xD8, 0xDE),
    (0x95, 4, 7, 0, 1),
    (0x8E, 14, 4),
    (0x08, 0x03, 0xFF, 0x03, 0xFF, 0, 0, 0, 0),
)
AIR_S = 0.144


class Ether:
    """Keeps what it is told; the test is the rest of the world."""

    def __init__(self) -> None:
        self.sent: list[Signal] = []
        self.tuning: Tuning | None = None
        self.stopped = 0
        self.is_used = False

    def transmit(self, antenna: object, signal: Signal, after_s: float = 0.0) -> float:
        self.sent.append(signal)
        return AIR_S

    def stop(self, antenna: object) -> None:
        self.stopped += 1

    def tune(self, antenna: object, tuning: Tuning | None, after_s: float = 0.0) -> None:
        self.tuning = tuning

    def is_active(self, antenna: object, tuning: Tuning) -> bool:
        return self.is_used

    def rssi_dbm(self, antenna: object, freq_hz: int, bw_hz: int) -> float:
        return -112.5


class Bench:
    def __init__(self, **options: object) -> None:
        self.ether = Ether()
        self.agenda = Agenda()
        self.chip = Sx1262(self.ether, **options)  # type: ignore[arg-type]
        self.chip.connect(self.agenda)

    def say(self, *message: int) -> bytes:
        """One command when the chip is ready for it; what came back."""
        for _ in range(20_000):
            if not self.chip.is_busy:
                break
            self.run(10e-6)
        return self.chip.transfer(bytes(message))

    def run(self, seconds: float) -> None:
        self.agenda.run_until(self.agenda.now_s() + seconds)

    def ready(self) -> Bench:
        for message in SETUP:
            self.say(*message)
        assert self.status == (2, 1)
        return self

    @property
    def status(self) -> tuple[int, int]:
        """(mode, command status)."""
        found = self.say(0xC0, 0)[1]
        return found >> 4 & 7, found >> 1 & 7

    @property
    def irq(self) -> int:
        return int.from_bytes(self.say(0x12, 0, 0, 0)[2:], "big")

    @property
    def errors(self) -> int:
        return int.from_bytes(self.say(0x17, 0, 0, 0)[2:], "big")

    def busy_s(self, *message: int) -> float:
        """How long BUSY is high after that command."""
        self.say(*message)
        began_s = self.agenda.now_s()
        while self.chip.is_busy:
            self.run(1e-6)
        return self.agenda.now_s() - began_s

    def hear(self, payload: bytes = b"hello", **changes: object) -> None:
        signal = Signal(470_300_000, 125_000, 9, 5, 8, False, True, False, 0x12, False, 14.0, payload)
        self.chip.heard(Reception(signal, -101.4, -7.3, True, True)._replace(**changes))  # type: ignore[arg-type]


def test_a_chip_with_a_tcxo_has_no_clock_until_it_is_supplied_and_calibrated() -> None:
    bench = Bench()
    assert bench.errors == 0x20, "XOSC_START_ERR"
    bench.say(0x8A, 1)
    for command in ((0x80, 1), (0xC1,), (0x89, 0x7F)):
        bench.say(*command)
        assert bench.status == (2, 5), command
    bench.say(0x97, 2, 0, 0, 0x20)  # half a millisecond is too short for it
    bench.say(0x80, 1)
    assert bench.status == (2, 5)
    bench.say(0x97, 2, 0, 1, 0x40)
    bench.say(0x07, 0, 0)
    bench.say(0xC1)
    assert bench.errors == 0x40, "PLL_LOCK: nothing was calibrated with it yet"
    bench.say(0x07, 0, 0)
    assert bench.busy_s(0x89, 0x7F) == pytest.approx(0.0085, abs=1e-4), "5 ms for the TCXO and 3.5 ms"
    bench.say(0xC1)
    assert bench.status == (4, 1)
    assert bench.errors == 0


def test_a_plain_crystal_needs_nothing() -> None:
    bench = Bench(tcxo_mv=None)
    assert bench.errors == 0
    bench.say(0x80, 1)
    assert bench.status == (3, 1)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ((0x3F, 0), 4),  # no such command
        ((0x86, 1, 2), 4),  # too few
        ((0x8E, 23, 4), 4),  # more than 22 dBm
        ((0x8B, 13, 4, 1, 0), 4),  # SF13
        ((0x88, 9, 22, 10, 0, 0, 0, 0), 4),
        ((0xD1,), 5),  # left out: says so
        ((0x95, 4, 7, 1, 1), 1),
    ],
)
def test_what_is_malformed_is_a_processing_error(message: tuple[int, ...], status: int) -> None:
    bench = Bench().ready()
    bench.say(*message)
    assert bench.status == (2, status)


@pytest.mark.parametrize(
    "message", [(0x8B, 9, 4, 1, 0), (0x86, *FREQ), (0x8C, 0, 8, 0, 5, 1, 0), (0x89, 0x7F), (0xC5,)]
)
def test_what_the_data_sheet_allows_in_standby_alone_fails_while_it_receives(
    message: tuple[int, ...],
) -> None:
    bench = Bench().ready()
    bench.say(0x82, 0xFF, 0xFF, 0xFF)
    bench.run(0.01)
    bench.say(*message)
    assert bench.status == (5, 5)


def test_it_sends_nothing_before_it_is_told_everything() -> None:
    bench = Bench(tcxo_mv=None)
    bench.say(0x83, 0, 0, 0)
    bench.say(0x8A, 1)
    bench.say(0x83, 0, 0, 0)
    assert bench.status == (2, 5)
    bench.run(1.0)
    assert not bench.ether.sent


def test_the_pa_of_another_chip_and_a_low_current_limit_are_errors() -> None:
    for message in ((0x95, 4, 7, 1, 1), (0x0D, 0x08, 0xE7, 0x18)):
        bench = Bench().ready()
        bench.say(0x8E, 22, 4)
        bench.say(*message)
        bench.say(0x83, 0, 0, 0)
        assert bench.status == (2, 5)
        assert bench.errors == 0x100
        assert not bench.ether.sent


def test_a_transmission_takes_the_bytes_from_its_base_and_raises_its_interrupt_at_its_end() -> None:
    bench = Bench().ready()
    bench.say(0x8F, 0xFE, 0x00)
    bench.say(0x0E, 0xFE, *b"round")  # wraps
    assert bench.busy_s(0x83, 0, 0, 0) == pytest.approx(5e-3 + 126e-6, abs=5e-6)
    assert bench.status == (6, 1)
    assert bench.chip.dio1.level == 0
    bench.run(AIR_S - 0.001)
    assert bench.chip.dio1.level == 0
    bench.run(0.002)
    assert bench.chip.dio1.level == 1
    assert bench.irq == 0x001
    assert bench.status == (2, 6)
    (signal,) = bench.ether.sent
    assert signal == Signal(470_300_000, 125_000, 9, 5, 8, False, True, False, 0x12, False, 14, b"round")
    bench.say(0x02, 0, 1)
    assert bench.chip.dio1.level == 0
    assert not bench.ether.stopped
    assert not bench.chip.complaints


def test_a_transmission_longer_than_its_time_out_is_broken_off() -> None:
    bench = Bench().ready()
    bench.say(0x83, 0x00, 0x0C, 0x80)  # 50 ms
    bench.run(0.06)
    assert bench.irq == 0x200
    assert bench.ether.stopped == 1
    assert bench.status == (2, 3)


@pytest.mark.parametrize("stops_on_preamble", [0, 1])
def test_the_timer_of_a_window_stops_at_a_preamble_or_only_at_a_header(stops_on_preamble: int) -> None:
    bench = Bench().ready()
    bench.say(0x9F, stops_on_preamble)
    bench.say(0x82, 0x00, 0x19, 0x00)  # 100 ms, from 5 ms on
    bench.run(0.050)
    assert bench.ether.tuning == Tuning(470_300_000, 125_000, 9, 0x12, False)
    bench.chip.detected()
    bench.run(0.060)
    assert bench.chip.mode == ("rx" if stops_on_preamble else "standby"), "a header ends 67 ms later"
    assert bench.irq == (0x004 if stops_on_preamble else 0x204)


def test_a_packet_is_in_the_buffer_with_signed_rssi_and_snr() -> None:
    bench = Bench().ready()
    bench.say(0x82, 0, 0, 0)
    bench.run(1.0)
    bench.chip.detected()
    bench.hear()
    assert bench.irq == 0x016
    assert bench.status == (2, 2), "one packet, then standby; and there are data"
    size, start = bench.say(0x13, 0, 0, 0)[2:]
    assert bench.say(0x1E, start, 0, *bytes(size))[3:] == b"hello"
    rssi, snr, signal = bench.say(0x14, 0, 0, 0, 0)[2:]
    assert (rssi, snr, signal) == (203, 256 - 29, 203), "-101.5 dBm and -7.25 dB"
    assert bench.say(0x10, *bytes(7))[2:4] == b"\0\1"


def test_packets_follow_each_other_through_the_buffer_while_it_receives_for_ever() -> None:
    bench = Bench().ready()
    bench.say(0x82, 0xFF, 0xFF, 0xFF)
    bench.run(0.01)
    starts = []
    for number in range(4):
        payload = bytes([number]) * 100
        bench.chip.detected()
        bench.hear(
            signal=Signal(470_300_000, 125_000, 9, 5, 8, False, True, False, 0x12, False, 14.0, payload)
        )
        size, start = bench.say(0x13, 0, 0, 0)[2:]
        assert bench.say(0x1E, start, 0, *bytes(size))[3:] == payload
        starts.append(start)
    assert starts == [0, 100, 200, 44]
    assert bench.chip.mode == "rx"


def test_bad_crc_and_bad_header_have_interrupts_of_their_own_and_a_bad_header_ends_nothing() -> None:
    bench = Bench().ready()
    bench.say(0x82, 0x00, 0x19, 0x00)
    bench.run(0.05)
    bench.chip.detected()
    bench.hear(has_header=False, is_intact=False)
    assert bench.irq == 0x024
    bench.run(10.0)
    assert bench.chip.mode == "rx"
    bench.say(0x02, 0xFF, 0xFF)
    bench.hear(is_intact=False)
    assert bench.irq == 0x052
    assert bench.chip.mode == "standby"
    assert bench.say(0x10, *bytes(7))[2:] == b"\0\0\0\1\0\1"


@pytest.mark.parametrize("is_used", [False, True])
def test_activity_detection_takes_its_symbols_and_says_what_it_found(is_used: bool) -> None:
    bench = Bench().ready()
    bench.ether.is_used = is_used
    bench.say(0x88, 2, 23, 10, 0, 0, 0, 0)
    bench.say(0xC5)
    bench.run(0.005 + 4.5 * 512 / 125_000 - 0.001)
    assert bench.chip.mode == "cad"
    bench.run(0.002)
    assert bench.irq == (0x180 if is_used else 0x080)
    assert bench.chip.mode == "standby"


def test_an_interrupt_that_is_masked_does_not_exist() -> None:
    bench = Bench().ready()
    bench.say(0x08, 0x00, 0x02, 0x00, 0x00, 0, 0, 0, 0)
    bench.say(0x82, 0, 0, 0)
    bench.run(1.0)
    bench.hear()
    assert bench.irq == 0x002
    assert bench.chip.dio1.level == 0


@pytest.mark.parametrize("is_warm", [True, False])
def test_what_a_sleep_keeps(is_warm: bool) -> None:
    bench = Bench().ready()
    bench.say(0x0D, 0x08, 0xAC, 0x96)
    bench.say(0x0D, 0x02, 0x9F, 1, 0x08, 0x89)
    bench.say(0x84, 0x04 if is_warm else 0x00)
    bench.run(100.0)
    assert bench.chip.is_busy, "it is, asleep"
    assert bench.chip.transfer(bytes((0xC0, 0))) == b"\0\0", "this only wakes it"
    began_s = bench.agenda.now_s()
    while bench.chip.is_busy:
        bench.run(10e-6)
    assert bench.agenda.now_s() - began_s == pytest.approx(0.00034 if is_warm else 0.0035, abs=2e-5)
    assert bench.say(0x1D, 0x08, 0xAC, 0, 0)[4] == 0x94, "the gain is in no list"
    assert bench.say(0x1D, 0x08, 0x89, 0, 0)[4] == (0x05 if is_warm else 0x01)
    bench.say(0x83, 0, 0, 0)
    assert bench.status == ((6, 1) if is_warm else (2, 5))
    assert bench.errors == (0 if is_warm else 0x20)


def test_what_is_said_while_it_is_busy_is_not_heard_and_is_counted() -> None:
    bench = Bench().ready()
    bench.say(0x80, 1)
    bench.chip.transfer(bytes((0x8E, 2, 4)))
    assert bench.chip.complaints == {"a transfer while BUSY was high": 1}
    bench.say(0x0E, 0, *b"01234")
    bench.say(0x83, 0, 0, 0)
    bench.run(0.01)
    assert bench.ether.sent[0].dbm == 14


def test_what_the_chip_would_bear_and_chapter_15_forbids_is_counted() -> None:
    bench = Bench().ready()
    bench.say(0x0D, 0x08, 0xD8, 0xC8)
    bench.say(0x0D, 0x08, 0x89, 0x01)
    bench.say(0x0D, 0x07, 0x36, 0x09)
    bench.say(0x86, 0x36, 0x41, 0x99, 0x9A)  # 868 MHz
    bench.say(0x83, 0, 0, 0)
    bench.run(0.01)
    assert len(bench.ether.sent) == 1
    assert sorted(text.split(":")[0] for text in bench.chip.complaints) == [
        "15.1",
        "15.2",
        "15.4",
        "the image was not calibrated for this band",
    ]


def test_an_antenna_switch_that_nobody_drives_costs_60_db_and_all_ears() -> None:
    bench = Bench().ready()
    bench.say(0x9D, 0)
    bench.say(0x83, 0, 0, 0)
    bench.run(0.5)
    assert bench.ether.sent[0].dbm == 14 - 60
    bench.say(0x82, 0xFF, 0xFF, 0xFF)
    bench.run(0.1)
    assert bench.ether.tuning is None


def test_noise_can_be_measured_and_drawn_from_only_while_it_receives() -> None:
    bench = Bench().ready()
    assert bench.say(0x15, 0, 0)[2] == 0xFF
    assert bench.say(0x1D, 0x08, 0x19, *bytes(5))[4:] == bytes(4)
    bench.say(0x82, 0xFF, 0xFF, 0xFF)
    bench.run(0.01)
    assert bench.say(0x15, 0, 0)[2] == 225, "-112.5 dBm"
    draws = {bench.say(0x1D, 0x08, 0x19, *bytes(5))[4:] for _ in range(4)}
    assert len(draws) == 4


def test_a_reset_brings_it_back_to_where_it_began() -> None:
    bench = Bench().ready()
    bench.say(0x0D, 0x07, 0x40, 0x34)
    bench.say(0x82, 0xFF, 0xFF, 0xFF)
    bench.run(0.1)
    bench.chip.reset()
    assert bench.ether.tuning is None
    assert bench.errors == 0x20
    assert bench.status == (2, 0)
    assert bench.say(0x1D, 0x07, 0x40, *bytes(3))[4:] == b"\x14\x24"
