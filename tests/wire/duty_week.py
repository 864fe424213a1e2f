"""A radio under a duty cycle in true time, and somebody outside who writes down all that it sends.

The node is `Law` alone, asked as a driver asks it. What happens to it is random: traffic, deep sleeps with a clock that
is wrong, RTC memory that is lost in one, power cuts in any place (before, within and after a save, and in the middle of
a transmission), and supplies that come back at once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from protocols.wire import airtime
from protocols.wire.airtime import AirRefused
from protocols.wire.law import EU868, Law

HOUR_S = 3600.0
WEEK_S = 7 * 24 * HOUR_S
# As ERC/REC 70-03 has it, not as our table has it.
BANDS = {(865_000_000, 868_000_000): 36.0, (868_000_000, 868_600_000): 36.0}


class PowerCut(Exception):
    """Nothing of the node runs on."""


@dataclass
class Observer:
    """Every transmission, by true time."""

    sent: list[tuple[float, float, int]] = field(default_factory=list)  # begin, end, Hz

    def worst(self, band: tuple[int, int]) -> float:
        """Most seconds on the air in any hour: it begins where a transmission begins, or ends where one ends."""
        spans = [(begin, end) for begin, end, freq_hz in self.sent if band[0] <= freq_hz < band[1]]
        most = total = 0.0
        first = 0
        for begin, end in spans:
            total += end - begin
            while spans[first][1] <= end - HOUR_S:
                total -= spans[first][1] - spans[first][0]
                first += 1
            most = max(most, total - max(0.0, end - HOUR_S - spans[first][0]))
        last = len(spans) - 1
        total = 0.0
        for begin, end in reversed(spans):
            total += end - begin
            while spans[last][0] >= begin + HOUR_S:
                total -= spans[last][1] - spans[last][0]
                last -= 1
            most = max(most, total - max(0.0, spans[last][1] - begin - HOUR_S))
        return most


class Flash:
    """Implements duty.Spent; a cut leaves the old or the new document."""

    def __init__(self, rng: random.Random, cut_share: float) -> None:
        self._rng = rng
        self._cut_share = cut_share
        self.data = b""
        self.saves = 0

    def load(self) -> bytes:
        return self.data

    def save(self, data: bytes) -> bool:
        is_cut = self._rng.random() < self._cut_share
        if not is_cut or self._rng.random() < 0.5:
            self.data = data
            self.saves += 1
        if is_cut:
            raise PowerCut
        return True


@dataclass
class Week:
    """Shares are per transmission asked for; ``wrong`` is by how much the sleep's clock is fast."""

    seed: int
    pause_s: float = 0.2  # mean, between two transmissions
    cut_share: float = 0.003
    sleep_share: float = 0.3
    sleep_s: float = 120.0  # mean
    wrong: float = 0.05
    rtc_lost_share: float = 0.02
    ahead_s: float = 0.0  # at most, from what the law is told to the begin of it
    clock_from_s: float | None = (
        None  # None: the node's clock begins with each life, else it counts on from there
    )
    until_s: float = WEEK_S

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.observer = Observer()
        self.flash = Flash(self.rng, self.cut_share)
        self.now_s = 0.0
        self.cuts = self.sleeps = self.refused = 0
        self._begin()

    def _begin(self) -> None:
        self.law = Law(EU868, self.flash)
        self.uptime_from_s = self.now_s if self.clock_from_s is None else -self.clock_from_s

    def uptime_s(self) -> int:
        return int(self.now_s - self.uptime_from_s)

    def run(self) -> Week:
        while self.now_s < self.until_s:
            try:
                self._step()
            except PowerCut:
                self.cuts += 1
                self.now_s += self.rng.choice((0.1, 0.1, 5.0, 600.0))
                self._begin()
        return self

    def _step(self) -> None:
        self.now_s += self.rng.expovariate(1 / self.pause_s)
        sf = self.rng.randint(7, 12)
        size = self.rng.randint(1, self.law.size_max(sf))
        freq_hz = self.law.freq_hz(self.rng.randrange(self.law.channels))
        wait_s = 0.0
        try:
            air_us = self.law.check(self.uptime_s(), freq_hz, airtime.lora(sf), size, 13)
        except AirRefused as exc:
            if exc.rule != "duty":
                raise
            self.refused += 1
            wait_s = min(exc.wait_s or 0, self.rng.expovariate(1 / 60))
        else:
            self._send(freq_hz, air_us / 1_000_000)
        if self.rng.random() < self.sleep_share:
            self._sleep(max(wait_s, self.rng.expovariate(1 / self.sleep_s)))
        else:
            self.now_s += wait_s

    def _send(self, freq_hz: int, air_s: float) -> None:
        tells_first = self.rng.random() < 0.5  # a driver may count when it begins, or when it has ended
        if tells_first:
            self.law.sent(self.uptime_s(), freq_hz, round(air_s * 1_000_000))
            self.now_s += self.rng.uniform(0, self.ahead_s)
        is_cut = self.rng.random() < self.cut_share
        on_air_s = air_s * self.rng.random() if is_cut else air_s
        self.observer.sent.append((self.now_s, self.now_s + on_air_s, freq_hz))
        self.now_s += on_air_s
        if is_cut:
            raise PowerCut
        if not tells_first:
            self.law.sent(self.uptime_s(), freq_hz, round(air_s * 1_000_000))

    def _sleep(self, true_s: float) -> None:
        self.sleeps += 1
        before_s = self.uptime_s()
        rested = self.law.rest(before_s)
        self.now_s += true_s
        if self.rng.random() < self.rtc_lost_share:
            self._begin()
            return
        measured_s = true_s * (1 + self.wrong)
        self.uptime_from_s = self.now_s - (before_s + measured_s)
        self.law = Law(EU868, self.flash)
        self.law.resume(self.uptime_s(), rested)

    def worst(self) -> float:
        """Of all bands, as a share of what the law allows."""
        return max(self.observer.worst(band) / allowed for band, allowed in BANDS.items())

    def figures(self) -> str:
        air_s = sum(end - begin for begin, end, _ in self.observer.sent)
        return (
            f"seed={self.seed} wrong={self.wrong:+.3f} sent={len(self.observer.sent)} air_s={air_s:.0f} "
            f"refused={self.refused} cuts={self.cuts} sleeps={self.sleeps} saves={self.flash.saves} "
            f"worst_hour={100 * self.worst():.2f}%"
        )
