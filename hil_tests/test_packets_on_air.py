"""What is in the packets of real nodes on the simulated air: whole or in pieces, asking or not, heard or not."""

from __future__ import annotations

from pathlib import Path

from boards.virtual.ether import Signal
from hil_tests.air_rig import AirRig

_HOUR_S = 3600
_WHOLE, _ASKS, _FRAGMENT = 0, 1, 7


def _kind(signal: Signal) -> int:
    return signal.payload[0] >> 5


def _uplinks(rig: AirRig) -> list[Signal]:
    """From now on."""
    heard: list[Signal] = []

    def take(signal: Signal) -> None:
        if not signal.is_inverted:
            heard.append(signal)

    rig.air.taps.append(lambda flight: take(flight.signal))
    return heard


def test_an_hour_of_a_river_is_one_packet_at_sf10_and_every_fourth_asks_for_an_answer(tmp_path: Path) -> None:
    with AirRig(
        tmp_path, 0, 31, rivers=1, towers=1, channels=1, sf=10, river_interval_s=900, across_m=500, adr=False
    ) as rig:
        rig.settle_in()
        uplinks = _uplinks(rig)
        before = len(rig.judge.records)
        rig.run_s(12 * _HOUR_S)
        sets = len(rig.judge.records) - before
        reports = [signal for signal in uplinks if 35 < len(signal.payload) < 80]  # no status among them
        sizes = sorted(len(signal.payload) for signal in reports)
        print(f"\nreports={len(reports)} sets={sets} bytes_min={sizes[0]} bytes_max={sizes[-1]}")
        assert sizes[-1] <= 99
        assert all(_kind(signal) != _FRAGMENT for signal in reports)
        assert sets >= 4 * (len(reports) - 1), "four sets of eight in each"
        asking = [_kind(signal) == _ASKS for signal in reports]
        assert len(asking) // 4 - 1 <= sum(asking) <= len(asking) // 4 + 2, asking
        assert rig.judge.problems == []
        assert rig.judge.copies == 0


def test_an_alarm_is_one_packet_at_sf11_and_asks_for_its_answer(tmp_path: Path) -> None:
    with AirRig(tmp_path, 1, 32, towers=1, channels=1, sf=11, across_m=500, adr=False) as rig:
        rig.settle_in()
        uplinks = _uplinks(rig)
        (opening,) = rig.storm(within_s=1)
        rig.run_s(30)
        assert opening.raised_ms is not None
        assert uplinks[0].sf == 11
        assert len(uplinks[0].payload) <= 36
        assert _kind(uplinks[0]) == _ASKS


def test_a_node_hears_its_acks_with_a_sleep_clock_that_is_five_percent_off(tmp_path: Path) -> None:
    with AirRig(tmp_path, 2, 33, towers=1, across_m=500) as rig:
        for station, drift in zip(rig.stations.values(), (0.05, -0.05), strict=True):
            station.station.sleep_drift = drift
        rig.settle_in()
        uplinks = _uplinks(rig)
        rig.run_s(3 * 24 * _HOUR_S)
        kept = {record for station in rig.stations.values() for record in station.held()}
        assert len(kept - rig.judge.records.keys()) <= 2  # what was kept just now
        asking = [signal for signal in uplinks if _kind(signal) == _ASKS]
        # A set, a status, and sometimes an event a day from each: nothing is asked twice.
        print(f"\npackets={len(uplinks)} asking={len(asking)} records={len(kept)}")
        assert len(asking) <= 2 * 3 * 3
        assert rig.judge.copies == 0
