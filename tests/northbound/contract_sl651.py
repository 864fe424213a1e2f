"""The contract's Subject for SL 651 (mode M2): timed and hourly reports of a station, added ones as its alarms."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gateway import civil
from hil_tests.world.sl_centre import SlCentre
from tests.northbound.hj_rig import ZONE
from tests.northbound.sl_rig import ADDED, HOURLY, STATION, TIMED, SlRig

TIMED_S, HOUR_S = 300, 3600
GRACE_S = 30
# A crossing is told once a minute (SL_ADDED_GAP_S), and falling back, which the next set does, is one too.
ALARM_GAP_S = 180
HIGH = 2000  # 200.0 cm; every other set has 100.0


class SlSubject(SlRig):
    """A report is what must arrive; its key is (station, function, time of observation)."""

    alarms_overtake = True
    alarm_each_s = 2 * 0.045  # a crossing and the fall back, each there and back: mode M2 waits
    shuffling_costs_copies = False
    refusal_holds_up = False  # a NAK says it at once
    refused = 3  # hourly reports, that of the first moment among them
    others = 24 + 12

    def __init__(self, folder: Path, seed: int = 1) -> None:
        super().__init__(folder, SlCentre(), above={"level": 150.0})
        self.alarms: dict[tuple[str, str, str], float] = {}
        self._alarm_s = -ALARM_GAP_S
        self._is_high = False

    def measure(self) -> None:
        now_s = self.clock.unix_ms() // 1000
        self.give(now_s, self.set_of(now_s))
        if self._is_high:
            self._alarm_s, self._is_high = now_s, False

    def alarm(self) -> None:
        """The water is high, in one set."""
        now_s = self.clock.unix_ms() // 1000
        if self._is_high or now_s - self._alarm_s < ALARM_GAP_S:
            return
        self._is_high = True
        self.alarms[STATION, ADDED, self._minute(now_s)] = asyncio.get_running_loop().time()
        self.give(now_s, (*self.set_of(now_s)[:7], HIGH))

    @staticmethod
    def _minute(time_s: int) -> str:
        return civil.text(time_s * 1000, ZONE)[2:12]

    # ---- what must hold ------------------------------------------------------------------------------------------

    def settle_s(self) -> float:
        return 400.0

    def missing(self) -> set[Any]:
        until_s = self.clock.unix_ms() // 1000 - GRACE_S - 30
        gone: set[Any] = set()
        for kind, period_s in ((TIMED, TIMED_S), (HOURLY, HOUR_S)):
            got, wanted = self.ph_got(kind), self.newest_ph(kind, period_s, until_s)
            gone |= {key for key, value in wanted.items() if got.get(key) != value}
        return gone | {key for key in self.alarms if not self._has_come(key)}

    def _has_come(self, key: tuple[str, str, str]) -> bool:
        arrival = self.centre.rows.get(key)
        return arrival is not None and arrival.number(0x39) == HIGH / 1000

    def arrivals(self) -> list[Any]:
        return [arrival.key for arrival in self.centre.arrivals]

    def is_alarm(self, name: Any) -> bool:
        return bool(name[1] == ADDED)

    def owed(self) -> int:
        return int(self.runner.status()["backlog"])

    def lateness_s(self, since_s: float) -> float:
        """Of reports whose moment, and grace, came after that moment of the loop."""
        late = 0.0
        for key, arrival in self.centre.rows.items():
            ready_s = self._ready_s(key)
            if ready_s >= since_s:
                late = max(late, arrival.at_s - ready_s)
        return late

    def _ready_s(self, key: tuple[str, str, str]) -> float:
        if key[1] == ADDED:
            return self.alarms.get(key, -1.0)
        first_s = self.clock.unix_ms() / 1000 - asyncio.get_running_loop().time()
        return civil.unix_ms(f"20{key[2]}00", ZONE) / 1000 + GRACE_S - first_s

    def alarms_came_s(self, until_s: float) -> list[float]:
        return [self.centre.rows[key].at_s for key, given_s in self.alarms.items() if given_s < until_s]

    def in_memory(self) -> int:
        return int(self.runner.status()["in_flight"])

    def memory_max(self) -> int:
        return self.sl.window

    # ---- what the far side does ----------------------------------------------------------------------------------

    def away(self) -> None:
        self.centre.faults.refuses = True
        self.centre.break_lines()

    def back(self) -> None:
        self.centre.faults.refuses = False

    def slow(self, seconds: float) -> None:
        self.centre.faults.ack_after_s = seconds

    def twice(self) -> None:
        self.centre.faults.acks = 2

    def shuffled(self) -> None:
        self.centre.faults.shuffles = True

    def deaf(self, on: bool) -> None:
        self.centre.faults.deaf = on

    def refuse_some(self, on: bool) -> None:
        if on:
            self.centre.faults.nak_for = lambda arrival: arrival.key[1] == HOURLY
        else:
            self.centre.faults.nak_for = lambda arrival: False
