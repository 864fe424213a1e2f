"""What the readings of a cover raise: levels, gas, the battery; and a gas head through the whole node."""

from __future__ import annotations

from firmware.alarms import Alarms
from firmware.nodes import NodeType, cover, cover_gas, cover_level
from firmware.settings import LEVEL_HIGH
from protocols.wire.messages import CLEARED, RAISED, Event
from protocols.wire.readings import GOOD
from tests.world.cover_traffic import CoverInTraffic

Told = list[tuple[int, int, object]]


class _Settings:
    def __init__(self, defaults: dict[int, int]) -> None:
        self.values = dict(defaults)

    def __getitem__(self, key: int) -> int:
        return self.values[key]


def alarms_of(node_type: NodeType, series: int) -> Alarms:
    assert callable(node_type.rules)
    return Alarms(node_type.rules(_Settings(node_type.settings)), series)  # type: ignore[arg-type]  (as much as rules ask for)


def told(alarms: Alarms, series: int, values: list[int], count: int) -> Told:
    """What each value in that series changes, the others being calm."""
    found: Told = []
    for value in values:
        row = [0, 0, 360, 200, 0, 0][:count]
        row[series] = value
        for change in alarms.update(row, (GOOD,) * count):
            found.append((change.code, change.state, change.detail))
            alarms.apply(change)
    return found


def test_levels_are_told_at_once_and_end_five_centimetres_below() -> None:
    alarms = alarms_of(cover_level.NODE_TYPE, 4)
    high = cover_level.NODE_TYPE.settings[LEVEL_HIGH]
    assert told(alarms, 1, [high, high + 1], 4) == [(9, RAISED, high + 1)]
    assert told(alarms, 1, [high - 49, high - 49], 4) == []
    assert told(alarms, 1, [2501], 4) == [(10, RAISED, 2501)]
    assert told(alarms, 1, [2450, 2450], 4) == [(10, CLEARED, 2450)]
    assert told(alarms, 1, [high - 50, high - 50], 4) == [(9, CLEARED, high - 50)]


def test_gas_warns_at_ten_and_alarms_at_twenty_and_says_which() -> None:
    alarms = alarms_of(cover_gas.NODE_TYPE, 6)
    assert told(alarms, 4, [99, 100], 6) == [(11, RAISED, [4, 100])]
    assert told(alarms, 4, [199, 200], 6) == [(12, RAISED, [4, 200])]
    assert told(alarms, 4, [181, 180, 180], 6) == [(12, CLEARED, [4, 180])]
    other = alarms_of(cover_gas.NODE_TYPE, 6)
    assert told(other, 5, [99, 200], 6) == [(11, RAISED, [5, 200]), (12, RAISED, [5, 200])]


def test_a_battery_is_low_after_three_sets() -> None:
    alarms = alarms_of(cover.NODE_TYPE, 4)
    assert told(alarms, 2, [329, 329], 4) == []
    assert told(alarms, 2, [329], 4) == [(5, RAISED, 3290)]
    assert told(alarms, 2, [339, 340, 340], 4) == [(5, CLEARED, 3400)]


def test_a_gas_head_on_the_loop_warns_and_alarms_through_the_node() -> None:
    street = CoverInTraffic(3, trucks_a_day=0, node_type="cover_gas")
    street.station.loop_mv = 400  # 4 mA: no gas
    street.station.power_cut()
    street.station.power_on()
    street.run(1800)
    codes = [(event.code, event.state) for event in street.peer.of(Event)]
    assert all(code == 20 for code, _ in codes), codes
    street.station.loop_mv = 400 + 16 * 15  # 15 % LEL
    street.run(1300)
    street.station.loop_mv = 400 + 16 * 25
    street.run(1300)
    gas = [(event.code, event.state, event.detail) for event in street.peer.of(Event) if event.code != 20]
    assert gas == [(11, RAISED, [4, 150]), (12, RAISED, [4, 250])]
    street.station.loop_mv = 0  # the wire breaks
    street.run(2400)
    assert (4, RAISED) in [(event.code, event.state) for event in street.peer.of(Event)], (
        "a probe fault, no all-clear"
    )
