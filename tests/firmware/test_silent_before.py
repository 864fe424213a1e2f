"""What was silent before an update may be silent after it, and nothing else may: every node type, from pass to verdict.

A node with its register-level chips is brought a release over its line, receives it in a life of its own, installs and
tries it. What a release breaks is broken from outside at its first start.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import pytest

from boards.virtual.chips.bmp390 import Bmp390
from boards.virtual.chips.lis3dh import Lis3dh
from boards.virtual.chips.ultrasonic import Ultrasonic
from firmware import gate
from firmware.settings import INTERVAL_S, REPORT_S, STATUS_S
from hil_tests.world.lift_profile import LiftDrive
from hil_tests.world.lift_shaft import Shaft
from hil_tests.world.sim_slots import SlotStation
from hil_tests.world.street_cover import CoverMotion
from protocols.wire import codes, messages, outcomes
from protocols.wire import update as wire
from protocols.wire.messages import Event
from tests.firmware.install_cases import files, update
from tests.firmware.receive_rig import NODE, SESSION, Desk, answers, data_of, is_receiving, sender_of
from tests.firmware.sky import Sky
from tests.firmware.street import START_MS, Street

if TYPE_CHECKING:
    from collections.abc import Mapping

OLD, NEW = 1, 12
# So often that a cover stays awake between two sets.
SETTINGS = {INTERVAL_S: 3, REPORT_S: 60, STATUS_S: 3600}
# By node type: what can fall silent, and the series of its schema that are that.
PARTS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "river": {"ph": (1,), "orp": (5,)},
    "river_solar": {"ph": (1,), "supply": (8,)},
    "cover": {"tilt": (0,), "supply": (2,)},
    "cover_gas": {"loop": (4,), "tilt": (0,)},
    "cover_level": {"level": (1,), "supply": (2,)},
    "lift": {"barometer": (8,), "accelerometer": (2, 3, 4, 5, 6, 7)},
}


@pytest.fixture(autouse=True)
def _minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial's hour is two minutes."""
    monkeypatch.setattr(gate, "HEALTHY_S", 120)
    monkeypatch.setattr(gate, "_HOUR_S", 120)
    monkeypatch.setattr(gate.gc, "collect", lambda: None)


class Station(SlotStation):
    """Its supply can not be measured while it is None."""

    millivolts: int | None = 3600

    @property  # type: ignore[override]
    def supply_mv(self) -> int:
        if self.millivolts is None:
            raise OSError(5)
        return self.millivolts

    @supply_mv.setter
    def supply_mv(self, value: int) -> None:
        pass


class Yard(Street):
    """``silent``: what says nothing, by its name in PARTS."""

    def __init__(self, node_type: str) -> None:
        super().__init__(
            node_type=node_type, powered=False, settings=SETTINGS,
            make_station=functools.partial(Station, files=files(OLD)),
        )  # fmt: skip
        self.chips: dict[str, Any] = {}
        if node_type.startswith("cover"):
            motion = CoverMotion(5, start_s=START_MS / 1000, trucks_a_day=0)
            self.chips["tilt"] = chip = Lis3dh(
                motion.acceleration, steady_until=motion.steady_until, noise=20.0
            )
            self.station.attach(chip, motion=chip.int1)
        if node_type == "cover_level":
            self.chips["level"] = Ultrasonic(lambda _: 2000.0)
            self.station.attach_uart("ultrasonic", self.chips["level"])
        if node_type == "lift":
            shaft = Shaft((0.0, 4.5, 7.5), LiftDrive(1.6, 0.9, 1.2))
            self.chips["accelerometer"] = Lis3dh(shaft.acceleration, seed=5)
            self.chips["barometer"] = Bmp390(shaft.air, seed=5)
            for name in self.chips:
                self.station.attach(self.chips[name])
            self.station.set_pin("door", 1)

    def silence(self, *names: str) -> None:
        """These say nothing from now on, and all others do."""
        station: Any = self.station
        station.millivolts = None if "supply" in names else 3600
        station.loop_mv = 0 if "loop" in names else 400
        for name in ("ph", "orp"):
            self.water[name] = math.nan if name in names else 7.5
        for name, chip in self.chips.items():
            chip.fault = ("silent" if name == "level" else "absent") if name in names else None

    def is_brought(self, *after: str) -> int:
        """The second release comes, and these are silent under it: how that ended. Under the first all is as before."""
        station: Any = self.station
        before = [name for name in ("ph", "orp") if math.isnan(self.water[name])]
        before += [name for name, chip in self.chips.items() if chip.fault]
        before += ["supply"] * (station.millivolts is None) + ["loop"] * (not station.loop_mv)
        station.on_release = lambda sequence: self.silence(*(after if sequence == NEW else before))
        self.receive()
        for _ in range(600):
            self.run(1)
            if self.told():
                break
        ((sequence, outcome),) = self.told()
        assert sequence == NEW
        assert station.sequences[-1] == (NEW if outcome == outcomes.INSTALLED else OLD)
        return int(outcome)

    def receive(self) -> None:
        desk = Desk(self, sender_of(update(files(OLD), files(NEW), NEW), 200))
        desk.invite()
        desk.sender.begin()
        desk.call()
        for _ in range(100):
            if is_receiving(self.station):
                break
            self.run(0.5)
        desk.send()

    def told(self) -> list[Any]:
        return [event.detail for event in self.peer.of(Event) if event.code == codes.UPDATE]


def yard_of(node_type: str, *silent: str, age_s: float = 30) -> Yard:
    yard = Yard(node_type)
    yard.silence(*silent)
    yard.station.power_on()
    yard.run(age_s)
    return yard


@pytest.mark.parametrize("node_type", PARTS)
def test_what_was_silent_before_is_excused_and_nothing_else(node_type: str) -> None:
    """Either of two sensors is broken before, and then that one, the other one, or none."""
    for broken, other in (tuple(PARTS[node_type]), tuple(PARTS[node_type])[::-1]):
        for after, ending in (
            ((broken,), outcomes.INSTALLED),  # as it was
            ((), outcomes.INSTALLED),  # it came alive
            ((other,), outcomes.UNHEALTHY),  # the release broke what worked
            ((broken, other), outcomes.UNHEALTHY),
        ):
            assert yard_of(node_type, broken).is_brought(*after) == ending, (broken, after)
    assert yard_of(node_type).is_brought(broken) == outcomes.UNHEALTHY


@pytest.mark.parametrize("age_s", [1, 3, 8, 60])
def test_a_lift_that_has_just_started_is_excused_nothing(age_s: int) -> None:
    """Its first set is due before its chips have said anything."""
    for name in PARTS["lift"]:
        assert yard_of("lift", age_s=age_s).is_brought(name) == outcomes.UNHEALTHY
    assert yard_of("lift", age_s=age_s).is_brought() == outcomes.INSTALLED


@pytest.mark.parametrize(
    ("names", "silent"), [((), 0), (("tilt",), 1 << 0), (("tilt", "supply"), 1 << 0 | 1 << 2)]
)
def test_a_sleeper_that_woke_for_a_pass_looks_at_its_sensors_first(
    names: tuple[str, ...], silent: int
) -> None:
    motion = CoverMotion(5, start_s=START_MS / 1000, trucks_a_day=0)
    chip = Lis3dh(motion.acceleration, steady_until=motion.steady_until, noise=20.0)

    def fit(station: Any) -> None:
        station.attach(chip, motion=chip.int1)
        station.millivolts = 3600

    sky = Sky(
        settings={INTERVAL_S: 1800, REPORT_S: 60, STATUS_S: 600}, node_type="cover", boot_ms=800, prepare=fit,
        make_station=functools.partial(Station, files=files(OLD)),
    )  # fmt: skip
    sky.run(120)
    sender = sender_of(data_of(1500))
    setup = sender.for_node(NODE)
    assert setup is not None

    def calls(piv: int) -> Any:
        return messages.Update(
            SESSION, wire.encode_pass(wire.Pass(piv, 3000, 120, 471_900_000, 9, bytes(16)))
        )

    for makes in (lambda _: messages.Update(SESSION, setup), calls):
        sky.gateway.says = [makes]
        said = len(answers(sky.peer))
        while len(answers(sky.peer)) == said:
            sky.run(1)
    while sky.station.sleep is None:
        sky.run(1)
    station: Any = sky.station
    chip.fault = "absent" if "tilt" in names else None
    station.millivolts = None if "supply" in names else 3600
    starts = station.starts
    for _ in range(400):
        sky.run(1)
        if is_receiving(station):
            break
    assert station.starts == starts + 2, "it woke for the pass, and went there"
    assert station.node.call.silent == silent
