"""The driver of the SX1262 keeps the law on every path, and comes back from every fault of its chip."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator

import pytest

from firmware.radios import BUSY, FAULT, HEARD, SENT, SILENCE
from hil_tests.world.air import air_s
from protocols.wire.airtime import AirRefused, lora, size_max
from protocols.wire.law import CN470, EU868
from tests.firmware.radio_rig import FREQ_HZ, ROOT, Rig


@pytest.fixture(params=["cpython", "micropython"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig(is_micropython=request.param == "micropython")
    yield made
    made.close()


# -- the law -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sf", range(7, 13))
def test_a_packet_of_more_than_a_second_does_not_leave_at_cn470_and_one_of_a_second_does(
    rig: Rig, sf: int
) -> None:
    one = rig.station()
    fits = size_max(lora(sf), 1_000_000)
    if fits < 255:
        with pytest.raises(AirRefused, match=f"at most {fits} bytes") as refused:
            one.radio.start_send(FREQ_HZ, sf, 14, bytes(fits + 1), False)
        assert refused.value.rule == "time"
        rig.run(2.0)
        assert not rig.flights
        assert one.chip.mode == "standby"
    one.radio.start_send(FREQ_HZ, sf, 14, bytes(fits), False)
    assert one.kind == SENT
    assert air_s(rig.flights[0].signal) <= 1.0


@pytest.mark.parametrize(
    ("freq_hz", "dbm", "rule"),
    [(FREQ_HZ + 50_000, 14, "channel"), (868_100_000, 14, "channel"), (FREQ_HZ, 22, "power")],
)
def test_what_else_the_plan_forbids_is_refused_before_anything_happens(
    rig: Rig, freq_hz: int, dbm: int, rule: str
) -> None:
    one = rig.station()
    one.radio.start_listen(FREQ_HZ, 9, True, 0)
    transfers = one.chip.transfers
    with pytest.raises(AirRefused) as refused:
        one.radio.start_send(freq_hz, 9, dbm, b"x", False)
    assert refused.value.rule == rule
    assert one.chip.transfers == transfers
    assert one.chip.mode == "rx", "it goes on listening"


def test_the_one_command_that_transmits_stands_behind_the_law() -> None:
    """In the source: SetTx is sent in one place, after check and sent; and no exit of a CAD transmits by itself."""
    source = (ROOT / "firmware/radios/sx126x.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "_SET_TX"]
    assert len(uses) == 2, "where it is defined, and where it is sent"
    (transmit,) = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "_transmit"
    ]
    lines = [ast.unparse(statement) for statement in transmit.body]
    (checked,) = [i for i, line in enumerate(lines) if "self._law.check(" in line]
    (told,) = [i for i, line in enumerate(lines) if line.startswith("self._law.sent(")]
    (sent,) = [i for i, line in enumerate(lines) if "_SET_TX" in line]
    assert checked < told < sent
    assert source.count("0x83") == 1
    opcodes = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert not opcodes & {0xD1, 0xD2}, "continuous wave, infinite preamble"
    assert "self._send(_SET_CAD_PARAMS, symbols, peak, _CAD_LEAST, 0, 0, 0, 0)" in source, (
        "CAD only, no exit to TX"
    )


def test_whatever_is_called_in_whatever_order_nothing_forbidden_is_on_the_air(rig: Rig) -> None:
    """An observer on the air, and public methods at random with the worst of arguments."""
    rng = random.Random(5)
    one = rig.station()
    loud = rig.station(plan_id=None)
    refused = sent = 0
    cads = {"done": 0}
    before = one.chip._cad_done

    def counted() -> None:
        cads["done"] += 1
        before()

    one.chip._cad_done = counted  # type: ignore[method-assign]
    for _ in range(200):
        freq_hz = rng.choice((FREQ_HZ, FREQ_HZ, FREQ_HZ + 200_000, FREQ_HZ + 1, 868_100_000))
        sf, dbm, size = rng.randrange(7, 13), rng.choice((2, 14, 17, 22)), rng.choice((1, 36, 99, 255))
        match rng.randrange(6):
            case 0 | 1:
                try:
                    one.radio.start_send(freq_hz, sf, dbm, bytes(size), rng.random() < 0.5)
                except AirRefused:
                    refused += 1
            case 2:
                one.radio.start_cad(FREQ_HZ, sf)
            case 3:
                one.radio.start_listen(FREQ_HZ, sf, rng.random() < 0.5, rng.choice((0, 50)))
            case 4:
                one.radio.sleep()
            case _:
                if one.chip.mode != "tx":
                    loud.radio.start_send(FREQ_HZ, sf, 14, bytes(30), False)
        rig.run(rng.choice((0.0, 0.05, 0.6)))
    rig.run(3.0)
    for flight in rig.flights:
        if flight.site is one.site:
            sent += 1
            assert flight.end_s - flight.begin_s <= 1.0
            assert 470_000_000 < flight.signal.freq_hz < 510_000_000
            assert flight.signal.freq_hz in (FREQ_HZ, FREQ_HZ + 200_000)
            assert flight.signal.dbm <= 17
    assert refused > 20
    assert sent > 10
    assert cads["done"] >= sent, "each was listened for"
    assert one.radio.errors == 0
    assert not one.chip.complaints
    print(f"calls=200 sent={sent} refused={refused}")


def test_the_duty_cycle_is_asked_by_the_driver_itself(rig: Rig) -> None:
    one = rig.station(plan_id=EU868)
    sent = 0
    refused = None
    while refused is None and sent < 100:
        try:
            one.radio.start_send(868_100_000, 12, 13, bytes(40), False)
            assert one.kind == SENT
            sent += 1
        except AirRefused as exc:
            refused = exc
    assert refused is not None
    assert refused.rule == "duty"
    assert refused.wait_s is not None
    on_air_s = sum(flight.end_s - flight.begin_s for flight in rig.flights)
    assert 30 < on_air_s <= 36
    assert len(rig.flights) == sent


def test_a_board_sends_with_no_more_than_it_may() -> None:
    rig = Rig()
    one = rig.station(plan_id=None)
    one.port.dbm_max = 10
    one.radio.start_send(FREQ_HZ, 7, 22, b"x", False)
    assert one.kind == SENT
    assert rig.flights[0].signal.dbm == 10


@pytest.mark.parametrize("dbm", range(-9, 23))
def test_each_power_is_what_leaves_the_antenna(dbm: int) -> None:
    rig = Rig()
    one = rig.station(plan_id=None)
    one.radio.start_send(FREQ_HZ, 7, dbm, b"x", False)
    assert one.kind == SENT
    assert rig.flights[0].signal.dbm == dbm
    assert one.chip._register(0x08E7) == 0x38, "140 mA, after the PA brought its own limit"


# -- faults ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["start_cad", "start_send", "start_listen"])
@pytest.mark.parametrize("fault", ["stuck", "broken", "dead"])
def test_a_chip_that_does_not_answer_is_a_fault_and_a_reset_and_never_an_exception(
    rig: Rig, fault: str, call: str
) -> None:
    one = rig.station()
    arguments = {
        "start_cad": (FREQ_HZ, 9),
        "start_send": (FREQ_HZ, 9, 14, b"lost", False),
        "start_listen": (FREQ_HZ, 9, True, 100),
    }[call]
    one.chip.fault = fault
    resets = one.port.resets
    getattr(one.radio, call)(*arguments)
    assert one.kind == FAULT
    assert one.radio.errors > 0
    assert one.port.resets > resets
    assert one.radio.is_ready == (fault == "stuck"), "a reset repairs what is stuck"
    one.radio.sleep()
    getattr(one.radio, call)(*arguments)
    assert (one.kind == FAULT) == (fault != "stuck")
    one.chip.fault = None
    getattr(one.radio, call)(*arguments)
    assert one.kind != FAULT
    errors = one.radio.errors
    one.radio.start_send(FREQ_HZ, 9, 14, b"again", False)
    assert one.kind == SENT
    assert one.radio.errors == errors


@pytest.mark.parametrize("fault", ["stuck", "broken", "dead"])
@pytest.mark.parametrize("at_s", [0.002, 0.03, 0.08, 0.2])
def test_a_chip_that_fails_in_the_middle_is_noticed_within_what_it_was_doing(
    rig: Rig, fault: str, at_s: float
) -> None:
    one = rig.station()
    one.radio.start_send(FREQ_HZ, 9, 14, bytes(40), False)
    rig.run(at_s)
    one.chip.fault = fault
    if fault == "dead":
        one.chip.power(False)
    found = one.event(3.0)
    assert found is not None
    assert found.kind in (FAULT, SENT)  # what was on the air already may end well
    one.chip.fault = None
    one.chip.power(True)
    rig.run(0.1)
    one.radio.start_send(FREQ_HZ, 9, 14, b"again", False)
    kinds = [one.kind]
    if kinds == [FAULT]:  # it was asleep in another world until now
        one.radio.start_send(FREQ_HZ, 9, 14, b"again", False)
        kinds.append(one.kind)
    assert kinds[-1] == SENT


def test_a_receiver_that_lost_its_settings_is_noticed_though_it_says_nothing(rig: Rig) -> None:
    """A brown-out of the radio alone: it answers, and listens no more."""
    one, two = rig.station(), rig.station()
    two.radio.start_listen(FREQ_HZ, 9, False, 0)
    rig.run(5.0)
    two.chip.reset()
    found = two.event(15.0)
    assert found is not None
    assert found.kind == FAULT
    two.radio.start_listen(FREQ_HZ, 9, False, 0)
    one.radio.start_send(FREQ_HZ, 9, 14, b"heard again", False)
    assert two.kind == HEARD
    assert two.radio.errors == 1


def test_a_board_without_its_radio_is_told_at_the_start(rig: Rig) -> None:
    one = rig.station(begin=False)
    one.chip.fault = "dead"
    assert one.radio.begin() is False
    assert not one.radio.is_ready
    one.chip.fault = None
    one.radio.start_listen(FREQ_HZ, 9, True, 50)
    assert one.kind == SILENCE, "and it is found when it is there"


@pytest.mark.parametrize(("tcxo_mv", "is_ready"), [(1800, True), (3300, False), (None, True)])
def test_a_tcxo_starts_with_the_voltage_that_the_board_has_for_it(
    rig: Rig, tcxo_mv: int | None, is_ready: bool
) -> None:
    one = rig.station(begin=False, tcxo_mv=tcxo_mv)
    if tcxo_mv == 3300:
        one = rig.station(begin=False, tcxo_mv=1800)
        one.chip._tcxo_mv = 3300  # the board file says less than it needs
    assert one.radio.begin() is is_ready
    assert bool(one.radio.errors) is not is_ready


def test_a_sleep_keeps_the_settings_and_costs_half_a_millisecond(rig: Rig) -> None:
    one, two = rig.station(), rig.station()
    for _ in range(3):
        one.radio.sleep()
        two.radio.sleep()
        rig.run(10.0)
        assert one.chip.mode == two.chip.mode == "sleep"
        two.radio.start_listen(FREQ_HZ, 9, True, 1000)
        one.radio.start_send(FREQ_HZ, 9, 14, b"awake", True)
        assert one.kind == SENT
        assert two.kind == HEARD
    assert one.radio.errors == two.radio.errors == 0
    assert not one.chip.complaints
    assert not two.chip.complaints
    assert one.chip._register(0x08AC) == 0x96, "the boosted gain is kept, which a sleep would forget"
    assert one.port.resets == 1
    assert one.chip.spent_s["sleep"] > 29


def test_few_transfers_make_a_packet() -> None:
    """Each is a round trip on a virtual board, and time on any."""
    rig = Rig()
    one, two = rig.station(), rig.station()
    began = one.chip.transfers
    one.radio.start_send(FREQ_HZ, 9, 14, bytes(20), False)
    assert one.kind == SENT
    first = one.chip.transfers - began
    began = one.chip.transfers
    one.radio.start_send(FREQ_HZ, 9, 14, bytes(20), False)
    assert one.kind == SENT
    again = one.chip.transfers - began
    two.radio.start_listen(FREQ_HZ, 9, False, 1000)
    began = two.chip.transfers
    one.radio.start_send(FREQ_HZ, 9, 14, bytes(20), False)
    assert two.kind == HEARD
    heard = two.chip.transfers - began
    print(f"first_send={first} send={again} hear={heard}")
    assert (first, again, heard) <= (18, 7, 6)


def test_the_bands_of_both_plans_have_their_image_calibrated() -> None:
    for plan_id, freq_hz, band_hz in (
        (CN470, FREQ_HZ, (468_000_000, 516_000_000)),
        (EU868, 868_100_000, (860_000_000, 876_000_000)),
    ):
        one = Rig().station(plan_id=plan_id)
        assert one.chip._image_hz == band_hz
        one.radio.start_send(freq_hz, 9, 13, b"x", False)
        assert one.kind in (SENT, BUSY)
        assert not one.chip.complaints
