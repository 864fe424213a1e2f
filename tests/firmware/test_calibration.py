"""A probe is calibrated in two solutions: what the node measures, refuses, keeps, and does to readings after it."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware import calibration
from firmware.sampling import corrected
from hil_tests.world.cutflash import VARIANTS, CutFlash, PowerCut, Rng
from hil_tests.world.flash import LittleFs
from protocols.water import ph_slope_mv
from protocols.wire import codes, messages
from protocols.wire.limits import MAX_DETAIL_TEXT
from protocols.wire.messages import Command, Event, Ping, Result
from tests.firmware.lockstep import Lockstep
from tests.firmware.street import CALM, IDENTITY, Street

if TYPE_CHECKING:
    from pathlib import Path

PH, OXYGEN, LEVEL = 1, 2, 7
ZERO, SPAN, APPLY, DISCARD = range(4)
# What is loaded for a calibration may bring the one name that makes MicroPython take the next size of its table
# of names (DESIGN.md, "Names are heap"): once in a life, and room that stays.
_NAME_TABLE = 8192


def is_set(content: Any) -> bool:
    return isinstance(content[3], tuple | list) and len(content[3]) == len(CALM)


class Bench:
    """A station beside two bottles. ``ph(number, step, value)`` gives a command for pH and returns how it ended."""

    def __init__(self, node_type: str = "river") -> None:
        self.street = Street(settings={0: 900, 1: 60, 2: 86400}, node_type=node_type)
        self.street._wobbling = lambda: dict(self.street.water)  # type: ignore[method-assign]
        self.street.run(60)
        self.number = 0

    def calibrate(self, series: int, step: int, value: int, water: float | None = None) -> tuple[int, Any]:
        if water is not None:
            self.street.water["ph"] = water
        self.number += 1
        self.street.run(1.1)
        self.street.say(Ping(self.number))
        latest = self.street.peer.latest_piv
        self.street.say(Command(latest, self.number, 60, codes.CALIBRATE, [series, step, value]))
        self.street.run(20)
        result = self.street.peer.of(Result)[-1]
        assert result.command_id == self.number
        return result.outcome, result.detail

    def reading(self, series: int = PH) -> int:
        """What the next scheduled set says."""
        before = self.street.node.outbox.next_seq
        self.street.run(1000)
        values = [
            content[3][series] for (_, seq), content in self.street.peer.records.items()
            if seq >= before and is_set(content)
        ]  # fmt: skip
        return int(values[-1])

    def told(self) -> list[Any]:
        return [event.detail for event in self.street.peer.of(Event) if event.code == codes.CALIBRATED]


def test_two_points_and_every_reading_after_them_is_right() -> None:
    """An electrode with 92 % of its slope that is 0.2 pH off at pH 7."""
    bench = Bench()

    def electrode(ph: float) -> float:
        return 7.2 + 0.92 * (ph - 7)

    assert bench.calibrate(PH, ZERO, 686, electrode(6.86)) == (messages.DONE, [707, 686])
    assert bench.calibrate(PH, SPAN, 918, electrode(9.18)) == (messages.DONE, [921, 918])
    assert bench.told() == [], "not yet in force"
    bench.street.water["ph"] = electrode(8.00)
    assert bench.reading() == 812
    assert bench.calibrate(PH, APPLY, 17) == (messages.DONE, [17, 9224, 20])
    assert bench.told() == [[PH, 17, 9224, 20]]
    for ph in (6.2, 7.0, 8.0, 9.18):
        bench.street.water["ph"] = electrode(ph)
        assert bench.reading() == pytest.approx(ph * 100, abs=1)
    assert bench.reading(OXYGEN) == 980, "another series is as it was"


def test_what_is_measured_in_a_bottle_is_no_reading_of_the_river() -> None:
    bench = Bench()
    before = bench.street.node.outbox.next_seq
    bench.calibrate(PH, ZERO, 686, 6.9)
    assert bench.street.node.outbox.next_seq == before + 1, "the result of the command, and no set"
    assert bench.street.peer.of(Result)[-1].seq == before


def test_a_calibration_survives_a_reset_and_the_next_one_replaces_it() -> None:
    bench = Bench()
    bench.calibrate(PH, ZERO, 686, 6.86)
    bench.street.station.power_cut()
    bench.street.station.power_on()
    bench.street.run(60)
    bench.calibrate(PH, SPAN, 918, 9.0)
    assert bench.calibrate(PH, APPLY, 1)[0] == messages.DONE
    bench.street.station.power_cut()
    bench.street.station.power_on()
    bench.street.run(60)
    bench.street.water["ph"] = 9.0
    assert bench.reading() == 918
    bench.calibrate(PH, ZERO, 686, 7.0)
    bench.calibrate(PH, SPAN, 918, 9.2)
    assert bench.calibrate(PH, APPLY, 2)[0] == messages.DONE
    bench.street.water["ph"] = 9.2
    assert bench.reading() == 918
    assert [detail[1] for detail in bench.told()] == [1, 2]


def test_an_outbox_that_was_lost_is_told_again_what_is_in_force() -> None:
    bench = Bench()
    bench.calibrate(PH, ZERO, 686, 6.86)
    bench.calibrate(PH, SPAN, 918, 9.0)
    bench.calibrate(PH, APPLY, 5)
    bench.street.station.power_cut()
    fs = LittleFs(bench.street.station.flash)
    for name, *_ in list(fs.ilistdir("/outbox")):
        fs.remove(f"/outbox/{name}")
    for path in ("/outbox", "/a/outbox", "/b/outbox"):
        fs.remove(path)
    bench.street.station.power_on()
    bench.street.run(120)
    assert [detail[1] for detail in bench.told()] == [5, 5]
    epochs = [epoch for epoch, _ in bench.street.peer.records]
    assert len(set(epochs)) == 2


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([(ZERO, 686, 6.86)], "no span point yet: measure it first"),
        ([(SPAN, 918, 9.18)], "no zero point yet: measure it first"),
        ([], "no zero point yet: measure it first"),
        ([(ZERO, 686, 6.86), (SPAN, 686, 6.9)], "both points have one value: use two standards"),
        ([(ZERO, 686, 6.86), (SPAN, 918, 6.86)], "slope 0, allowed 8500 to 10500 (1/10000): clean, repeat"),
        ([(ZERO, 686, 6.86), (SPAN, 918, 8.80)], "slope 8362, allowed 8500 to 10500 (1/10000): clean, repeat"),
        ([(ZERO, 918, 6.86), (SPAN, 686, 9.18)], "slope -10000, allowed 8500 to 10500 (1/10000): clean, repeat"),
        ([(ZERO, 686, 7.38), (SPAN, 918, 9.70)], "offset 52, allowed -51 to 51: clean, repeat"),
        ([(ZERO, 686, 6.86), (SPAN, 918, 9.18), (DISCARD, 0, 7.0)], "no zero point yet: measure it first"),
    ],
)  # fmt: skip
def test_a_probe_that_is_not_acceptable_is_refused_with_the_reason(
    points: list[tuple[int, int, float]], told: str
) -> None:
    bench = Bench()
    for step, value, water in points:
        assert bench.calibrate(PH, step, value, water)[0] == messages.DONE
    assert bench.calibrate(PH, APPLY, 3) == (messages.REFUSED, told)
    assert len(told.encode()) <= MAX_DETAIL_TEXT
    bench.street.water["ph"] = 7.5
    assert bench.reading() == 750
    assert bench.told() == []


def test_a_refused_point_is_measured_again_without_beginning_anew() -> None:
    bench = Bench()
    bench.calibrate(PH, ZERO, 686, 6.86)
    bench.calibrate(PH, SPAN, 918, 8.0)
    assert bench.calibrate(PH, APPLY, 3)[0] == messages.REFUSED
    bench.calibrate(PH, SPAN, 918, 9.18)
    assert bench.calibrate(PH, APPLY, 3) == (messages.DONE, [3, 10000, 0])


def test_what_no_technician_can_calibrate_is_refused_before_anything_is_measured() -> None:
    bench = Bench()
    outcome, told = bench.calibrate(LEVEL, ZERO, 0)
    assert (outcome, told) == (messages.REFUSED, "series 7 is not calibrated here; 1, 2, 3, 4, 5, 6 are")
    outcome, told = bench.calibrate(PH, APPLY, 0)
    assert outcome == messages.REFUSED
    assert "1 to 65535" in told


def test_a_probe_without_a_value_fails_the_point() -> None:
    bench = Bench()
    bench.street.station.sonde.fault = "silent"
    outcome, told = bench.calibrate(PH, ZERO, 686)
    assert (outcome, told) == (messages.FAILED, "the probe gave no value; look at its cable and try again")


def test_the_offset_of_ph_is_thirty_millivolts() -> None:
    assert calibration.ACCEPTANCE["river"][PH][3] == round(100 * 30 / -ph_slope_mv(25.0))


@given(
    st.integers(-2000, 40000), st.integers(-2000, 40000), st.integers(-2000, 40000), st.integers(-2000, 40000),
    st.integers(-2000, 40000),
)  # fmt: skip
def test_a_correction_is_the_line_through_both_points_to_half_a_step(
    probe: int, probe0: int, true0: int, probe1: int, true1: int
) -> None:
    if probe0 == probe1:
        return
    pairs = (probe0, true0, probe1, true1)
    exact = true0 + (probe - probe0) * (true1 - true0) / (probe1 - probe0)
    assert abs(corrected(probe, pairs) - max(-(1 << 31), min(exact, 1 << 31))) <= 0.5 + 1e-6 * abs(exact)
    assert corrected(probe0, pairs) == true0
    assert corrected(probe1, pairs) == true1


# -- power cuts --------------------------------------------------------------------------------------------------------


class _Life:
    """The document of calibrations on a flash whose power may go at any operation, without a node around it."""

    def __init__(self, flash: CutFlash) -> None:
        from firmware.outbox import Outbox

        self.fs = LittleFs(flash)
        self.outbox = Outbox(self.fs, "/outbox", 5 * 4096)
        self.ended: list[tuple[int, Any]] = []
        self.calibrating: list[int] | None = None
        self.node = self
        self.hal = self
        self.state_fs = self.fs
        self.identity = IDENTITY
        self.sampler = self
        self.uplink = self
        kept = calibration._document(self).load()  # type: ignore[arg-type]
        self.corrections = calibration.restore(self, kept) if kept else {}  # type: ignore[arg-type]

    def record_time(self) -> tuple[int, int]:
        return 1_790_000_000, 1

    def begin_measurement(self, keeps_set: bool) -> None:
        assert not keeps_set

    def hurry(self) -> None: ...

    def end(self, outcome: int, detail: Any) -> None:
        self.ended.append((outcome, detail))

    def calibrate(self, number: int) -> None:
        for step, probe, true in ((ZERO, 690 + number, 686), (SPAN, 915 + number, 918)):
            calibration.begin(self, [PH, step, true])  # type: ignore[arg-type]
            calibration.take(self, [PH, step, true], probe)  # type: ignore[arg-type]
        calibration.begin(self, [PH, APPLY, number])  # type: ignore[arg-type]

    def events(self) -> list[int]:
        """The ids of the calibrations that the outbox tells of, in order."""
        from firmware.outbox import EVENTS
        from protocols.wire import cbor

        told, seq = [], 0
        while (record := self.outbox.next_unacked(EVENTS, seq)) is not None:
            seq = record.seq
            told.append(cbor.loads(record.payload)[4][1])
        return told


def _blank() -> CutFlash:
    flash = CutFlash(bytearray(b"\xff" * (26 * 4096)), seed=1, record=True)
    LittleFs.mkfs(flash)
    return flash


def _numbers(life: _Life) -> list[int]:
    return [pairs[0] - 690 for pairs in life.corrections.values()]


def sweep() -> int:
    """Cut at every operation of two calibrations, in every variant; how many cuts there were."""
    flash = _blank()
    start = bytes(flash.image)
    flash.log, flash.ops = [], 0  # type: ignore[attr-defined]
    life = _Life(flash)
    life.calibrate(1)
    life.calibrate(2)
    assert (life.events(), _numbers(life)) == ([1, 2], [2])
    log = list(flash.log)  # type: ignore[attr-defined]
    cuts = 0
    before = CutFlash(bytearray(start))
    for op, operation in enumerate(log):
        for variant in range(len(VARIANTS)):
            cuts += 1
            torn = CutFlash(bytearray(before.image), seed=op * 8 + variant, record=True)
            torn.tear(*operation, variant)
            image, unstable = (
                bytearray(torn.image),
                {at: bytearray(bits) for at, bits in torn.unstable.items()},
            )
            _judged(torn).calibrate(7)
            again = CutFlash(image, unstable, seed=op)
            again.cut_at = Rng(op * 8 + variant + 1).below(max(1, torn.ops))
            again.variant = variant
            with contextlib.suppress(PowerCut):
                _judged(again).calibrate(7)
            _judged(CutFlash(bytearray(again.image), again.unstable, seed=op + 1))
            cuts += 1
        before.apply(*operation)
    return cuts


def _judged(flash: CutFlash) -> _Life:
    """A start after a cut: the calibration in force is the one that the outbox told of last, whole."""
    from firmware.steady import steady

    steady(flash)
    life = _Life(flash)
    told, numbers = life.events(), _numbers(life)
    assert told == sorted(set(told)), f"told {told}"
    assert numbers == told[-1:], f"in force {numbers}, told {told}"
    for pairs in life.corrections.values():
        number = pairs[0] - 690
        assert pairs == (690 + number, 686, 915 + number, 918)
    return life


def test_a_power_cut_anywhere_leaves_the_old_calibration_or_the_new_one_and_its_event() -> None:
    cuts = sweep()
    print(f"\ncalibration cuts={cuts}")
    assert cuts > 400


# -- on the real MicroPython -------------------------------------------------------------------------------------------


def test_a_calibration_in_160_kb(tmp_path: Path) -> None:
    water = dict(CALM)
    noise = random.Random(4)

    def river(t_s: float) -> dict[str, float]:
        return {name: value * (1 + noise.uniform(-0.0005, 0.0005)) for name, value in water.items()}

    with Lockstep(tmp_path, river) as node:
        node.run(1800)
        before = node.heap_used[-1]
        for number, (step, value, ph) in enumerate(
            ((ZERO, 686, 6.9), (SPAN, 918, 9.1), (APPLY, 17, 8.0)), start=1
        ):
            water["ph"] = ph
            node.send(node.peer.send(Ping(number)))
            node.run(2)
            command = Command(node.peer.latest_piv, number, 60, codes.CALIBRATE, [PH, step, value])
            node.send(node.peer.send(command))
            node.run(30)
        results = node.peer.of(Result)
        assert [result.outcome for result in results] == [messages.DONE] * 3, results
        assert [event.detail[:2] for event in node.peer.of(Event)] == [[PH, 17]]
        node.run(7200)
        print(
            f"\ncalibration heap_before={before} heap_after={node.heap_used[-1]} heap_peak={max(node.heap_used)}"
        )
        assert node.heap_used[-1] <= before + 1024 + _NAME_TABLE
        assert not [line for line in node.log if "failed" in line], node.log
        node.power_cut()
        node.power_on()
        node.run(4000)
        values = [content[3][PH] for _, content in sorted(node.peer.records.items()) if is_set(content)]
        probe0, probe1 = (result.detail[0] for result in node.peer.of(Result)[:2])
        wanted = 686 + (800 - probe0) * (918 - 686) / (probe1 - probe0)
        assert values[-1] == pytest.approx(wanted, abs=2)
