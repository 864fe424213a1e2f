"""The simulated sonde: a Modbus RTU slave by the book, register maps as data, and faults on demand."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

import pytest

from boards.virtual.chips.modbus_sonde import (
    FAULTS,
    GENERIC_INT16,
    YOSEMITECH,
    Channel,
    ModbusSonde,
    RegisterMap,
    crc16,
)
from boards.virtual.clock import BoardClock, Timer
from tests.virtual.conftest import MakeBoard, lines

WATER = {
    "water_temperature": 18.25,
    "ph": 7.81,
    "dissolved_oxygen": 8.5,
    "conductivity": 512.0,
    "turbidity": 12.5,
    "orp": -140.0,
    "ammonia_nitrogen": 0.42,
    "level": 133.7,
}


class _Wire:
    """The line to the sonde on a clock that only moves when told."""

    def __init__(self, baudrate: int = 9600) -> None:
        self.baudrate = baudrate
        self.char_s = 10 / baudrate
        self.clock = BoardClock(1000.0, lambda: 0.0)
        self.heard: list[tuple[float, bytes]] = []

    def now_s(self) -> float:
        return self.clock.now_s()

    def call_later(self, delay_s: float, function: object) -> Timer:
        return self.clock.call_later(delay_s, function)  # type: ignore[arg-type]

    def send(self, data: bytes) -> None:
        self.heard.append((self.now_s(), data))


class Bench:
    def __init__(self, register_map: RegisterMap, **options: object) -> None:
        self.wire = _Wire()
        self.sonde = ModbusSonde(register_map, self._water, **options)  # type: ignore[arg-type]
        self.sonde.connect(self.wire)
        self.water = dict(WATER)

    def _water(self, t_s: float) -> dict[str, float]:
        return self.water

    def frame(self, pdu: str, unit: int = 1) -> bytes:
        body = bytes((unit,)) + bytes.fromhex(pdu)
        return body + crc16(body)

    def ask(self, pdu: str, unit: int = 1) -> bytes | None:
        """The PDU of the answer; its CRC and address are checked here."""
        raw = self.ask_raw(self.frame(pdu, unit))
        if raw is None:
            return None
        assert crc16(raw[:-2]) == raw[-2:]
        assert raw[0] == unit
        return raw[1:-2]

    def ask_raw(self, frame: bytes) -> bytes | None:
        self.wire.heard.clear()
        self.sonde.receive(frame)
        self.wire.clock.skip(1)
        return b"".join(data for _, data in self.wire.heard) or None


def started(**options: object) -> Bench:
    bench = Bench(YOSEMITECH, **options)
    assert bench.ask("03 2500 0000") == bytes.fromhex("03 00")
    bench.wire.clock.skip(5)
    return bench


def test_the_crc_is_the_published_one() -> None:
    assert crc16(bytes.fromhex("01 04 02 FF FF")) == bytes.fromhex("B8 80")


def test_values_are_absent_until_the_sonde_is_started_wiped_and_warm() -> None:
    bench = Bench(YOSEMITECH)
    read = "03 2601 0002"
    nan = bench.ask(read)
    assert nan is not None
    assert math.isnan(struct.unpack("<f", nan[2:])[0])
    bench.ask("03 2500 0000")
    bench.wire.clock.skip(0.5)
    nan = bench.ask(read)
    assert nan is not None
    assert math.isnan(struct.unpack("<f", nan[2:])[0])
    bench.wire.clock.skip(1)
    assert bench.ask(read) == b"\x03\x04" + struct.pack("<f", 8.5)
    assert bench.ask("03 2E00 0001") == bytes.fromhex("03 00")
    nan = bench.ask(read)
    assert nan is not None
    assert math.isnan(struct.unpack("<f", nan[2:])[0])


def test_the_yosemitech_block_is_eight_little_endian_floats() -> None:
    reply = started().ask("03 2601 0010")
    assert reply is not None
    expected = [8.5, 12.5, 0.512, 7.81, 18.25, -140.0, 0.42, 133.7]
    assert list(struct.unpack("<8f", reply[2:])) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("order", "wire"),
    [
        ("ABCD", "41 49 0f db"),
        ("CDAB", "0f db 41 49"),
        ("BADC", "49 41 db 0f"),
        ("DCBA", "db 0f 49 41"),
    ],
)
def test_all_four_float_orders(order: str, wire: str) -> None:
    (pi4,) = struct.unpack(">f", bytes.fromhex("41490fdb"))
    assert Channel(0, "ph", order).words(pi4) == bytes.fromhex(wire)


def test_scaled_integers_round_clamp_and_say_absent() -> None:
    channel = Channel(0, "water_temperature", "AB", 100)
    values = [(18.256, 1826), (-0.005, 0), (-1.5, -150), (999.0, 32766), (-999.0, -32768), (math.nan, 0x7FFF)]
    for value, number in values:
        assert struct.unpack(">h", channel.words(value))[0] == number
    reply = Bench(GENERIC_INT16).ask("04 0000 0008")
    assert reply is not None
    assert struct.unpack(">8h", reply[2:]) == (1825, 781, 850, 512, 125, -140, 42, 1337)


@pytest.mark.parametrize(
    ("pdu", "exception"),
    [
        ("04 2601 0002", "84 01"),  # this sonde has no function 4
        ("2B 0E 01 00", "AB 01"),
        ("03 2600 0002", "83 02"),
        ("03 2601 0011", "83 02"),  # one register past the block
        ("03 2601 0000", "83 03"),
        ("03 2601 007E", "83 03"),
        ("10 2601 0001 02 0000", "90 02"),  # values are read-only
        ("10 3000 0001 03 0000 00", "90 03"),
        ("10 3000 0001 02 0000", "90 03"),  # unit 0 would be everybody
    ],
)
def test_what_a_sonde_can_not_do_it_refuses_by_code(pdu: str, exception: str) -> None:
    assert started().ask(pdu) == bytes.fromhex(exception)


def test_foreign_broken_and_torn_requests_get_no_answer() -> None:
    bench = started()
    whole = bench.frame("03 2601 0002")
    assert bench.ask("03 2601 0002", unit=2) is None
    assert bench.ask("03 2601 0002", unit=0) is None
    assert bench.ask_raw(whole[:-1]) is None
    assert bench.ask_raw(whole[:-1] + b"\x00") is None
    assert bench.ask_raw(whole + whole) is None, "two requests without a silence between are one broken frame"
    assert bench.ask_raw(whole) is not None


def test_a_request_in_pieces_counts_when_no_silence_lies_between() -> None:
    bench = started()
    whole = bench.frame("03 2601 0002")
    for pause_s, answers in ((0.001, True), (0.010, False)):
        bench.wire.heard.clear()
        bench.sonde.receive(whole[:4])
        bench.wire.clock.skip(4 * bench.wire.char_s + pause_s)
        bench.sonde.receive(whole[4:])
        bench.wire.clock.skip(1)
        assert bool(bench.wire.heard) is answers


def test_the_answer_takes_the_time_of_the_wire() -> None:
    bench = started()
    began_s = bench.wire.now_s()
    bench.ask("03 2601 0010")
    (at_s, reply), *_ = bench.wire.heard
    expected_s = (8 + 3.5 + len(reply)) * bench.wire.char_s + YOSEMITECH.turnaround_s
    assert at_s - began_s == pytest.approx(expected_s)


def test_a_sonde_at_another_baud_rate_hears_nothing() -> None:
    bench = started()
    bench.wire.baudrate = 19200
    assert bench.ask("03 2601 0002") is None


def test_its_address_can_be_changed_by_function_16_and_by_6_where_it_has_it() -> None:
    bench = started()
    assert bench.ask("10 3000 0001 02 0007") == bytes.fromhex("10 3000 0001")
    assert bench.ask("03 3000 0001", unit=7) == bytes.fromhex("03 02 0007")
    bench = Bench(replace(GENERIC_INT16, start=0x0200))
    assert bench.ask("06 0100 0009") == bytes.fromhex("06 0100 0009")
    assert bench.ask("06 0200 0001", unit=9) == bytes.fromhex("06 0200 0001")


def test_each_fault_is_what_it_says() -> None:
    bench = started()
    read = bench.frame("03 2601 0002")
    good = bench.ask_raw(read)
    assert good is not None
    bench.sonde.fault = "silent"
    assert bench.ask_raw(read) is None
    bench.sonde.fault = "crc"
    bad = bench.ask_raw(read)
    assert bad is not None
    assert bad[:-2] == good[:-2]
    assert bad != good
    bench.sonde.fault = "garbage"
    garbage = bench.ask_raw(read)
    assert garbage is not None
    assert garbage != good
    bench.sonde.fault = "exception"
    assert bench.ask("03 2601 0002") == bytes.fromhex("83 04")
    bench.sonde.fault = "out_of_range"
    assert bench.ask("03 2601 0002") == b"\x03\x04" + struct.pack("<f", 30000.0)
    bench.sonde.fault = "stuck"
    bench.ask_raw(read)
    bench.water["dissolved_oxygen"] = 3.0
    assert bench.ask_raw(read) == good
    bench.sonde.fault = "slow"
    began_s = bench.wire.now_s()
    late = bench.ask_raw(read)
    assert bench.wire.heard[0][0] - began_s > 0.5
    bench.sonde.fault = None
    assert bench.ask_raw(read) == late != good


def test_a_script_switches_faults_by_world_time() -> None:
    bench = started(script=[(1010.0, 1020.0, "silent")])
    seen = [bench.ask("03 2601 0002") is not None for _ in range(20)]
    assert seen.count(False) == 10
    assert seen[0]
    assert seen[-1]


def test_an_unknown_fault_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no sonde fault 'tired'; there are silent, crc"):
        ModbusSonde(YOSEMITECH, lambda t_s: WATER).fault = "tired"


NODE = """
    import machine, time
    def crc(data):
        crc = 0xFFFF
        for byte in data:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
        return bytes((crc & 255, crc >> 8))
    uart = machine.UART(1, 9600, tx=17, rx=16, timeout=%d, timeout_char=2)
    def ask(pdu):
        body = b"\\x01" + pdu
        uart.write(body + crc(body))
        reply = uart.read(64)
        if reply is None:
            return "nothing"
        return reply[1:-2].hex() if crc(reply[:-2]) == reply[-2:] else "broken"
    print(ask(bytes.fromhex("0325000000")))
    time.sleep(3)
    print(ask(bytes.fromhex("0326010002")), uart.any(), uart.read(1))
"""
GOOD = "0304" + struct.pack("<f", 8.5).hex()


@pytest.mark.parametrize("time_scale", [1.0, 1000.0])
def test_real_micropython_reads_the_sonde_over_its_uart(board: MakeBoard, time_scale: float) -> None:
    sonde = ModbusSonde(replace(YOSEMITECH, wipe_s=0.1, warm_up_s=0.1), lambda t_s: WATER)
    main = NODE.replace("time.sleep(3)", "time.sleep_ms(220)")
    one = board(main % 2000, uart=sonde, time_scale=time_scale)
    one.power_on()
    one.wait("halted")
    assert lines(one) == ["0300", f"{GOOD} 0 None"]
    assert sonde.requests == sonde.answers == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_real_micropython_sees_each_fault(board: MakeBoard, fault: str) -> None:
    sonde = ModbusSonde(YOSEMITECH, lambda t_s: WATER, slow_s=0.5)
    sonde.fault = fault
    one = board(NODE % 300, uart=sonde, time_scale=1000)
    one.power_on()
    one.wait("halted")
    expected = {
        "silent": ["nothing", "nothing 0 None"],
        "slow": ["nothing", "nothing 0 None"],
        "crc": ["broken", "broken 0 None"],
        "exception": ["8304", "8304 0 None"],
        "out_of_range": ["0300", f"0304{struct.pack('<f', 30000.0).hex()} 0 None"],
        "stuck": ["0300", f"{GOOD} 0 None"],
    }
    said = lines(one)
    if fault == "garbage":
        assert [line.split()[0] for line in said] == ["broken", "broken"]
    elif fault == "slow":
        # The late answer to the start command is what the node finds when it asks for values.
        assert said[0] == "nothing"
        assert sonde.answers >= 1
    else:
        assert said == expected[fault]


def test_a_uart_can_be_polled_and_read_in_every_way(board: MakeBoard) -> None:
    class Greeter:
        def connect(self, line: object) -> None:
            self.line = line

        def receive(self, data: bytes) -> None:
            self.line.send(data.upper())  # type: ignore[attr-defined]

    one = board(
        """
        import machine, select
        uart = machine.UART(1, baudrate=115200, timeout=1000, timeout_char=50)
        poller = select.poll()
        poller.register(uart, select.POLLIN)
        print(poller.poll(0), uart.write(b"one\\ntwo"))
        uart.flush()
        print(len(poller.poll(5000)), uart.txdone(), uart.readline())
        buffer = bytearray(2)
        print(uart.readinto(buffer), bytes(buffer), uart.read(1))
        print(uart.readinto(buffer, 1) if uart.write(b"x") and poller.poll(5000) else "", buffer[:1])
        uart.deinit()
        try:
            machine.UART(9)
        except ValueError as error:
            print(error)
        """,
        uart=Greeter(),
    )
    one.power_on()
    one.wait("halted")
    assert lines(one) == [
        "[] 7",
        "1 True b'ONE\\n'",
        "2 b'TW' b'O'",
        "1 bytearray(b'X')",
        "UART(9) does not exist",
    ]
