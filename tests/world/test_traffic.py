"""The traffic model: the rules of SPEC.md section 7, by single nodes; and what a survey counts."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from boards.heltec_wifi_lora_32_v3 import board
from hil_tests.world.agenda import Agenda
from hil_tests.world.air import Air, Flight
from hil_tests.world.profiles import NAMES, ack_size, event_size, profile, report_size, sets_that_fit
from hil_tests.world.propagation import Spot, open_air
from hil_tests.world.survey import Outcome, Question, ask, quantile, spread
from hil_tests.world.traffic import Node, Town, settle


class Place:
    """One concentrator and nodes near it, in plain air; nothing happens by itself."""

    def __init__(self, plan_id: int = 0, channels: int = 8) -> None:
        self.clock = Agenda()
        self.air = Air(self.clock, open_air())
        self.town = Town(self.air, plan_id, list(range(channels)), seed=1)
        self.town.add_radio("roof", Spot(0, 0, is_high=True), tuple(range(7, 13)), 8)
        self.flights: list[Flight] = []
        self.air.taps.append(self.flights.append)

    def node(self, name: str = "cover", sf: int = 9, dbm: int = 14) -> Node:
        return Node(self.town, f"{name} {len(self.town.nodes)}", profile(name), Spot(100, 0), sf, dbm)

    def run(self, seconds: float = 60.0) -> None:
        self.clock.run_until(self.clock.now_s() + seconds)

    def ways(self) -> str:
        return "".join("d" if flight.signal.is_inverted else "u" for flight in self.flights)


@pytest.fixture
def place() -> Place:
    return Place()


def test_sizes_are_those_that_the_design_promises() -> None:
    assert event_size(6) <= 36
    assert report_size(profile("river").schema_id, 4, 900) <= 99
    assert ack_size() <= 36
    assert sets_that_fit(profile("river").schema_id, 4, 900, 99) == 4
    assert sets_that_fit(profile("river").schema_id, 4, 900, 36) == 0


def test_an_alarm_is_one_packet_up_and_one_down_a_second_after_its_end(place: Place) -> None:
    node = place.node()
    item = node.alarm()
    place.run()
    assert place.ways() == "ud"
    up, down = place.flights
    assert down.begin_s - up.end_s == pytest.approx(1.0)
    assert down.signal.freq_hz == up.signal.freq_hz
    assert down.signal.sf == up.signal.sf
    assert item.stored_s == pytest.approx(up.end_s + 0.05)
    assert node.used.rx_s < 0.5


def test_a_lost_answer_is_asked_for_again_and_the_alarm_is_stored_once(place: Place) -> None:
    place.air.jammers.append(lambda flight: flight.signal.is_inverted and len(place.flights) < 4)
    node = place.node()
    item = node.alarm()
    stored = []
    place.run(1.5)
    stored.append(item.stored_s)
    place.run()
    assert place.ways() == "ududud"
    assert [item.stored_s] == stored
    spacings = [
        later.begin_s - up.begin_s for up, later in zip(place.flights[::2], place.flights[2::2], strict=False)
    ]
    assert spacings[1] > spacings[0] > 3.0


def test_a_routine_report_is_not_answered_and_a_lost_one_goes_again_when_that_shows(place: Place) -> None:
    place.air.jammers.append(lambda flight: not place.flights)
    node = place.node()
    first = node.tell(40, 1, wants_answer=False)
    place.run()
    assert place.ways() == "u"
    second = node.tell(40, 1, wants_answer=False)
    place.run()
    # The second shows that one is missing before it: it is answered, and the first one comes.
    assert place.ways() == "uudud"
    assert first.stored_s is not None
    assert second.stored_s is not None
    assert node.used.frames == 3


def test_what_does_not_fit_goes_in_fragments_and_is_answered(place: Place) -> None:
    node = place.node(sf=11)
    item = node.tell(90, 1, wants_answer=False)
    place.run()
    assert place.ways() == "uuud"
    assert [len(flight.signal.payload) for flight in place.flights[:3]] == [36, 36, 30]
    assert item.stored_s is not None


def test_who_is_not_answered_goes_to_full_power_and_then_to_higher_spreading_factors(place: Place) -> None:
    place.air.loss = 1.0
    node = place.node(sf=9)
    node.alarm()
    place.run(600)
    place.air.loss = 0.0
    tried = [(flight.signal.sf, flight.signal.dbm) for flight in place.flights]
    assert tried[:8] == [(9, 14), (9, 14), (9, 17), (9, 17), (10, 17), (10, 17), (11, 17), (11, 17)]
    place.run(120)
    assert (node.sf, node.dbm) == (9, 14)  # an answer sets it back


def test_a_busy_channel_is_waited_for() -> None:
    place = Place(channels=1)
    nodes = [place.node() for _ in range(6)]
    for node in nodes:
        node.alarm()
    place.run(120)
    assert all(item.stored_s is not None for node in nodes for item in node.items)
    assert sum(node.used.busy for node in nodes) > 0
    ups = [flight for flight in place.flights if not flight.signal.is_inverted]
    # Whoever began in the same instant could not hear the others; after that nobody talks over anybody.
    later = [flight for flight in ups if flight.begin_s > ups[0].end_s]
    assert all(one.end_s <= other.begin_s + 1e-6 for one, other in pairwise(later))


def test_the_duty_cycle_holds_a_chatty_node_back() -> None:
    place = Place(plan_id=1, channels=3)
    node = place.node("river", sf=12, dbm=13)
    for _ in range(60):
        node.tell(50, 1, wants_answer=True)
    place.run(3_600)
    spent_s = sum(flight.end_s - flight.begin_s for flight in place.flights if not flight.signal.is_inverted)
    assert 30 < spent_s <= 36  # 1 % of an hour, all three channels in one band
    assert node.used.held_back > 0


def test_settling_leaves_ten_decibels() -> None:
    place = Place()
    noise_dbm = place.air.physics.noise_dbm(125_000)

    def settled(snr_db: float) -> tuple[int, int] | None:
        """At full power, 17 dBm."""
        return settle(place.town, [17 - noise_dbm - snr_db], 11)

    assert settled(2.5) == (7, 17)
    assert settled(2.4) == (8, 17)
    assert settled(8.6) == (7, 11)
    assert settled(60) == (7, 2)
    assert settled(-17.4) == (11, 17)
    assert settled(-17.6) is None


# -- a survey ------------------------------------------------------------------------------------------------


def survey(seed: int = 1) -> Outcome:
    nodes = {"cover": 60, "river": 10, "lift": 2}
    return ask(Question(nodes, gateways=2, area_km2=2, days=0.5, loss=0.05, storm=20, seed=seed), board)


def test_a_survey_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    one, again, other = survey(), survey(), survey(2)
    assert one.counts == again.counts
    assert one.storm_s == again.storm_s
    assert one.counts != other.counts


def test_a_survey_counts_what_there_is() -> None:
    outcome = survey()
    assert outcome.total == 72
    assert sum(outcome.by_sf.values()) + outcome.out_of_reach == 72
    assert len(outcome.storm_s) + outcome.storm_lost <= 20
    assert outcome.storm_lost == 0
    assert outcome.delivered > 0.98
    assert 0.85 < outcome.heard < 1.0
    assert outcome.kinds["river"].years is None
    assert outcome.kinds["cover"].years is not None


def test_more_nodes_load_the_channels_more_and_a_second_gateway_helps() -> None:
    base = Question({"river": 200}, area_km2=6, days=0.3)
    one, four = ask(base, board), ask(base.scaled(4), board)
    two = ask(Question({"river": 200}, area_km2=6, days=0.3, gateways=2), board)
    assert four.channel_load > 3 * one.channel_load
    assert two.out_of_reach <= one.out_of_reach
    assert two.channel_load < one.channel_load


@pytest.mark.parametrize("count", range(1, 12))
def test_gateways_are_spread_over_the_square(count: int) -> None:
    spots = spread(count, 1000)
    assert len(set(spots)) == count
    assert all(0 < x < 1000 and 0 < y < 1000 for x, y in spots)
    assert sum(x for x, _ in spots) / count == pytest.approx(500)


def test_quantiles_are_of_the_nearest_rank() -> None:
    assert quantile([], 0.5) is None
    assert quantile([1.0], 0.99) == 1.0
    assert quantile([float(n) for n in range(1, 101)], 0.99) == 99.0
    assert not math.isnan(quantile([1.0, 2.0], 0.5) or math.nan)


@pytest.mark.parametrize("name", NAMES)
def test_every_node_type_can_be_planned(name: str) -> None:
    outcome = ask(Question({name: 3}, area_km2=0.1, days=0.3), board)
    assert outcome.delivered > 0.9
