"""A planner's question put to the traffic model: so many nodes, such a place, so many gateways. What comes of it?"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hil_tests.world.agenda import Agenda
from hil_tests.world.air import Air
from hil_tests.world.concentrator import DEMODULATORS
from hil_tests.world.energy import Radio, years_on_air
from hil_tests.world.profiles import profile
from hil_tests.world.propagation import Physics, Spot, urban
from hil_tests.world.traffic import Item, Node, Town, settle

# What was told in the last minutes may still be on its way when the run ends, so it goes on without new things to tell.
_AFTER_S = 3_600.0
_STORM_S = 60.0
_DAY_S = 86_400.0
_SLICES = 50


@dataclass(frozen=True)
class Question:
    nodes: Mapping[str, int]  # how many of each type
    plan_id: int = 0
    gateways: int = 1
    is_bridge: bool = False  # one radio, one channel, one spreading factor
    channels: int = 8
    sf: int | None = None  # None: ADR
    area_km2: float = 4.0
    days: float = 1.0
    loss: float = 0.0
    storm: int = 0  # so many alarms within a minute, in the middle
    gateway_height_m: float = 30.0
    iron_db: float = 20.0
    seed: int = 1

    def scaled(self, factor: float) -> Question:
        """With more or fewer of each, on an ordinary day."""
        nodes = {name: round(count * factor) for name, count in self.nodes.items()}
        return replace(self, nodes=nodes, storm=0)

    @property
    def total(self) -> int:
        return sum(self.nodes.values())


@dataclass
class Kind:
    """All nodes of one type."""

    count: int
    delivered: float
    air_s_a_day: float
    worst_air_s_a_day: float
    years: float | None  # on the battery; None: on the mains
    worst_years: float | None


@dataclass
class Outcome:
    question: Question
    total: int
    out_of_reach: int  # nodes that no gateway hears at all; what follows is about the others
    delivered: float  # of the records
    heard: float  # of the packets, by at least one gateway
    alarm_s: Sequence[float]  # from raised to stored, of those that were; sorted
    alarms_lost: int
    storm_s: Sequence[float]
    storm_lost: int
    channel_load: float  # part of the time that there is an uplink on a channel
    down_load: float
    duty_worst: float  # of any node, in its worst hour of the clock
    by_sf: dict[int, int]
    kinds: dict[str, Kind]
    worst_node: str
    counts: Counter[str] = field(default_factory=Counter)


def quantile(values: Sequence[float], part: float) -> float | None:
    """Of sorted values, the nearest rank."""
    return values[min(len(values) - 1, math.ceil(part * len(values)) - 1)] if values else None


def spread(count: int, side_m: float) -> list[tuple[float, float]]:
    """Gateways over a square: in rows as even as may be."""
    rows = max(1, round(math.sqrt(count)))
    spots = []
    for row in range(rows):
        here = count // rows + (row < count % rows)
        spots += [(side_m * (at + 0.5) / here, side_m * (row + 0.5) / rows) for at in range(here)]
    return spots


def ask(question: Question, board: Any, progress: Callable[[float], None] = lambda done: None) -> Outcome:
    """Build it, let the days go by, and count. `progress` is told the part that is done."""
    clock = Agenda()
    town = _town(question, clock)
    end_s = question.days * _DAY_S
    for node in town.nodes:
        node.live(end_s)
    storm: list[Item] = []
    if question.storm:
        _storm(question, town, end_s / 2, storm)
    whole_s = end_s + _AFTER_S
    for number in range(1, _SLICES + 1):
        clock.run_until(whole_s * number / _SLICES)
        progress(number / _SLICES)
    return _count(question, town, storm, board, end_s)


def _town(question: Question, clock: Agenda) -> Town:
    town = Town(
        Air(clock, Physics(0, 0), question.seed),
        question.plan_id,
        list(range(question.channels)),
        question.seed,
    )
    freq_hz = town.law.freq_hz(0)
    town.air.physics = urban(freq_hz, question.gateway_height_m).with_(iron_db=question.iron_db)
    town.air.loss = question.loss
    side_m = 1000 * math.sqrt(question.area_km2)
    spreading = tuple(range(7, 13)) if question.sf is None else (question.sf,)
    for number, (x_m, y_m) in enumerate(spread(question.gateways, side_m)):
        spot = Spot(x_m, y_m, is_high=True)
        town.add_radio(f"gateway {number + 1}", spot, spreading, 1 if question.is_bridge else DEMODULATORS)
    rng = random.Random(f"places {question.seed}")
    for name, count in question.nodes.items():
        for number in range(count):
            _add_node(question, town, rng, name, number, side_m)
    return town


def _add_node(
    question: Question, town: Town, rng: random.Random, name: str, number: int, side_m: float
) -> None:
    spot = Spot(rng.uniform(0, side_m), rng.uniform(0, side_m), is_under_iron=name.startswith("cover"))
    node = Node(town, f"{name} {number + 1}", profile(name), spot, town.law.sf_max, town.law.dbm_max)
    if question.sf is not None:
        node.settled = (question.sf, town.law.dbm_max)
        node.is_fixed = True
    else:
        node.settled = settle(town, losses_db(town, node), town.law.sf_max) or node.settled
    node.sf, node.dbm = node.settled


def losses_db(town: Town, node: Node) -> list[float]:
    return [town.air.loss_db(node.site, town.air.site_of(radio)) for radio in town.radios]


def _storm(question: Question, town: Town, at_s: float, storm: list[Item]) -> None:
    """Of the covers, or of whatever has alarms: the same alarm at nearly the same time, as in a flood."""
    rng = random.Random(f"storm {question.seed}")
    able = [node for node in town.nodes if node.profile.events.is_alarm]
    for node in rng.sample(able, min(question.storm, len(able))):
        town.clock.call_later(
            at_s + rng.uniform(0, _STORM_S),
            lambda node=node: storm.append(node.alarm()),  # type: ignore[misc]
        )


def _count(question: Question, town: Town, storm: list[Item], board: Any, end_s: float) -> Outcome:
    whole_s = end_s + _AFTER_S
    able = [node for node in town.nodes if _is_in_reach(question, town, node)]
    in_storm = set(map(id, storm))
    told = [item for node in able for item in node.items]
    alarms = [item for item in told if item.is_alarm and id(item) not in in_storm]
    storm = [item for item in told if id(item) in in_storm]
    return Outcome(
        question=question,
        total=len(town.nodes),
        out_of_reach=len(town.nodes) - len(able),
        delivered=_delivered(able),
        heard=_ratio(sum(node.used.heard for node in able), sum(node.used.packets for node in able)),
        alarm_s=_waits(alarms),
        alarms_lost=sum(item.stored_s is None for item in alarms),
        storm_s=_waits(storm),
        storm_lost=sum(item.stored_s is None for item in storm),
        channel_load=sum(node.used.tx_s for node in town.nodes) / (question.channels * whole_s),
        down_load=town.down_s / (question.channels * whole_s),
        duty_worst=max((max(node.used.by_hour.values(), default=0) / 3.6e9 for node in able), default=0.0),
        by_sf=dict(sorted(Counter(node.settled[0] for node in able).items())),
        kinds=_kinds(question, able, board, whole_s),
        worst_node=_worst(town, able),
        counts=town.counts + town.air.counts,
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _delivered(nodes: Sequence[Node]) -> float:
    items = [item for node in nodes for item in node.items]
    stored = sum(item.records for item in items if item.stored_s is not None)
    return _ratio(stored, sum(item.records for item in items))


def _waits(items: Sequence[Item]) -> list[float]:
    return sorted(item.stored_s - item.born_s for item in items if item.stored_s is not None)


def _is_in_reach(question: Question, town: Town, node: Node) -> bool:
    sf_max = question.sf if question.sf is not None else town.law.sf_max
    return settle(town, losses_db(town, node), sf_max) is not None


def _kinds(question: Question, able: Sequence[Node], board: Any, whole_s: float) -> dict[str, Kind]:
    kinds = {}
    for name in question.nodes:
        nodes = [node for node in able if node.profile.name == name]
        if nodes:
            kinds[name] = _kind(nodes, board, whole_s / _DAY_S)
    return kinds


def _kind(nodes: Sequence[Node], board: Any, days: float) -> Kind:
    airs = [node.used.tx_s / days for node in nodes]
    lasts = sorted(_years(node, board, days) for node in nodes) if nodes[0].profile.sleeps else []
    return Kind(
        count=len(nodes),
        delivered=_delivered(nodes),
        air_s_a_day=sum(airs) / len(airs),
        worst_air_s_a_day=max(airs),
        years=quantile(lasts, 0.5),
        worst_years=lasts[0] if lasts else None,
    )


def _years(node: Node, board: Any, days: float) -> float:
    used, told = node.used, node.profile
    radio = Radio(used.tx_s / days, used.rx_s / days, used.awake_s / days)
    return years_on_air(board, told.wakes_a_day, told.awake_s_a_day, radio)


def _worst(town: Town, able: Sequence[Node]) -> str:
    """The node in reach that delivers least; among equals, the one that needs most tries."""
    if not able:
        return ""
    node = min(able, key=lambda node: (_delivered([node]), -node.used.packets / max(1, node.used.heard)))
    losses = losses_db(town, node)
    best = losses.index(min(losses))
    away_m = math.dist(node.site.spot[:2], town.air.site_of(town.radios[best]).spot[:2])
    return (
        f"{node.name}: {100 * _delivered([node]):.1f} % delivered, {node.used.packets} packets, "
        f"{node.used.heard} of them heard; {away_m:.0f} m and {losses[best]:.0f} dB from {town.radios[best].name}, "
        f"SF{node.settled[0]} at {node.settled[1]} dBm"
    )
