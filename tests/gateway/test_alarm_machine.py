"""When an alarm begins and ends: the state machine alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.alarm_machine import CLEARED, RAISED, Cause, Change, Machine
from gateway.limits import ALARM_SOURCES_OF_NODE_MAX
from protocols.alarm_rules import Rule, rules

EVENT = Rule("r", "en", "zh", 2, "event", events=(6,), on_delay_s=10, off_delay_s=5, flap_count=0)
LOW = Rule(
    "do", "en", "zh", 2, "warning", measurand="dissolved_oxygen", below=2, below_clear=2.5, need=3, of=4
)


def cause(seq: int = 1) -> Cause:
    return Cause(0x12, 7, seq)


def kinds(changes: list[Change]) -> list[tuple[str, int]]:
    return [(change.kind, change.at_s) for change in changes]


def test_what_holds_for_exactly_the_delay_is_raised_and_one_second_less_is_not() -> None:
    machine = Machine()
    assert machine.event(EVENT, "a", True, 100, cause()) == []
    assert machine.tick(EVENT, 109) == []
    assert kinds(machine.tick(EVENT, 110)) == [(RAISED, 110)]
    other = Machine()
    other.event(EVENT, "a", True, 100, cause())
    assert other.event(EVENT, "a", False, 109, cause(2)) == []
    assert other.tick(EVENT, 1000) == []
    at_the_end = Machine()
    at_the_end.event(EVENT, "a", True, 100, cause())
    assert kinds(at_the_end.event(EVENT, "a", False, 110, cause(2))) == [(RAISED, 110)]


def test_an_alarm_ends_after_the_off_delay_and_not_before_its_shortest_time() -> None:
    machine, rule = Machine(), EVENT._replace(min_s=60)
    machine.event(rule, "a", True, 100, cause())
    machine.tick(rule, 110)
    machine.event(rule, "a", False, 120, cause(2))
    assert machine.due_s(rule) == 170
    assert machine.tick(rule, 169) == []
    assert kinds(machine.tick(rule, 170)) == [(CLEARED, 170)]
    machine.event(EVENT, "a", True, 200, cause(3))
    machine.event(EVENT, "a", False, 300, cause(4))
    assert kinds(machine.tick(EVENT, 305)) == [(CLEARED, 305)]


def test_an_alarm_that_several_hold_ends_when_none_does() -> None:
    machine, rule = Machine(), EVENT._replace(on_delay_s=0, off_delay_s=0)
    assert kinds(machine.event(rule, "tilted", True, 100, cause())) == [(RAISED, 100)]
    assert machine.event(rule, "upturned", True, 101, cause(2)) == []
    assert machine.event(rule, "tilted", False, 101, cause(3)) == []
    assert kinds(machine.event(rule, "upturned", False, 150, cause(4))) == [(CLEARED, 150)]


def test_three_of_four_readings_raise_and_the_hysteresis_holds() -> None:
    machine = Machine()
    told = []
    for at_s, value in enumerate((1.9, 1.8, 3.0, 1.9, 2.4, 2.49, 2.5)):
        told += kinds(machine.reading(LOW, "a", value, at_s + 1, cause(at_s)))
    assert told == [(RAISED, 4), (CLEARED, 7)]


def test_a_reading_older_than_the_newest_says_nothing() -> None:
    machine, rule = Machine(), LOW._replace(need=1, of=1)
    assert machine.reading(rule, "a", 5.0, 1000, cause(10)) == []
    assert machine.reading(rule, "a", 0.5, 900, cause(2)) == []
    assert machine.reading(rule, "a", 0.5, 1000, cause(10)) == []
    assert machine.reading(rule, "a", 0.5, 900, cause(2)._replace(epoch=2)) == [], (
        "of another life, and older"
    )
    assert kinds(machine.reading(rule, "a", 0.5, 1001, cause(11))) == [(RAISED, 1001)]


def test_a_node_whose_clock_was_set_back_is_judged_by_how_it_numbers_what_it_measures() -> None:
    machine, rule = Machine(), LOW._replace(need=1, of=1)
    assert machine.reading(rule, "a", 5.0, 90_000, cause(10)) == []
    assert machine.bring_back(3_600)
    assert kinds(machine.reading(rule, "a", 0.5, 3_600, cause(11))) == [(RAISED, 3_600)]
    assert kinds(machine.reading(rule, "a", 5.0, 3_660, cause(12))) == [(CLEARED, 3_660)]


def test_a_node_that_tells_of_more_probes_than_any_has_is_bounded() -> None:
    machine, rule = Machine(), EVENT._replace(on_delay_s=0, off_delay_s=0)
    for probe in range(10_000):
        source = machine.name_for(f"0012:probe_fault:{probe}", "0012:probe_fault")
        machine.event(rule, source, True, 100 + probe, cause(probe))
    assert len(machine.sources) <= ALARM_SOURCES_OF_NODE_MAX + 1
    for probe in range(10_000):
        source = machine.name_for(f"0012:probe_fault:{probe}", "0012:probe_fault")
        machine.event(rule, source, False, 20_000, cause(probe))
    assert not any(source.holds for source in machine.sources.values())


def test_what_comes_and_goes_is_one_flapping_alarm_until_it_is_quiet() -> None:
    machine, rule = Machine(), EVENT._replace(on_delay_s=0, off_delay_s=0, flap_count=3, flap_window_s=600)
    told = []
    for turn in range(40):
        told += kinds(machine.event(rule, "a", True, 20 * turn, cause(turn)))
        told += kinds(machine.event(rule, "a", False, 20 * turn + 10, cause(turn)))
    assert [kind for kind, _ in told] == [RAISED, CLEARED, RAISED, CLEARED, RAISED]
    assert machine.flapping
    assert machine.due_s(rule) == 20 * 39 + 10 + rule.flap_quiet_s
    assert kinds(machine.tick(rule, 20 * 39 + 10 + rule.flap_quiet_s)) == [(CLEARED, 790 + rule.flap_quiet_s)]
    assert not machine.flapping


def test_what_is_told_during_maintenance_counts_when_it_is_over() -> None:
    machine, rule = Machine(), EVENT._replace(on_delay_s=0, off_delay_s=0)
    assert machine.event(rule, "a", True, 100, cause(), frozen=True) == []
    assert machine.event(rule, "a", False, 120, cause(2), frozen=True) == []
    assert machine.release(rule, "a", 200) == []
    machine.event(rule, "a", True, 300, cause(3), frozen=True)
    assert kinds(machine.release(rule, "a", 400)) == [(RAISED, 400)]


steps = st.lists(
    st.tuples(
        st.sampled_from(["event", "late", "tick", "frozen", "release", "forget", "reading", "restart"]),
        st.sampled_from("abc"),
        st.booleans(),
        st.integers(0, 40),
    ),
    max_size=60,
)


@given(steps, st.integers(0, 30), st.integers(0, 30), st.integers(0, 60), st.integers(0, 4))
def test_raised_and_cleared_alternate_and_times_never_run_backwards(
    done: list[tuple[str, str, bool, int]], on_s: int, off_s: int, min_s: int, flaps: int
) -> None:
    """Never two open alarms of one rule and site, whatever is told, in whatever order, across restarts."""
    rule = LOW._replace(on_delay_s=on_s, off_delay_s=off_s, min_s=min_s, flap_count=flaps, need=2, of=3)
    machine, now_s = Machine(), 1000
    told: list[Change] = []
    for number, (what, source, holds, step_s) in enumerate(done):
        now_s += step_s
        if what in ("event", "frozen"):
            told += machine.event(rule, source, holds, now_s, cause(number), frozen=what == "frozen")
        elif what == "late":
            told += machine.event(rule, source, holds, now_s - 3 * step_s, cause(number))
        elif what == "tick":
            told += machine.tick(rule, now_s)
        elif what == "reading":
            told += machine.reading(rule, source, 1.0 if holds else 3.0, now_s - step_s // 2, cause(number))
        elif what == "restart":
            machine = Machine.unpack(machine.pack())
        else:
            told += getattr(machine, what)(rule, source, now_s)
    assert [change.kind for change in told] == [RAISED if i % 2 == 0 else CLEARED for i in range(len(told))]
    raised = [change.at_s for change in told if change.kind == RAISED]
    assert raised == sorted(raised)
    for begin, end in zip(told[::2], told[1::2], strict=False):
        assert end.at_s - begin.at_s >= min_s


def test_every_built_in_rule_can_be_told_in_both_languages_and_watches_events_of_its_own() -> None:
    watched = [code for rule in rules().values() for code in rule.events]
    assert len(watched) == len(set(watched))
    assert all(rule.en and rule.zh for rule in rules().values())
