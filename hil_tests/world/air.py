"""The simulated air between LoRa antennas: what reaches whom, on any clock with now_s() and call_later().

It implements boards/virtual/ether.py. A packet is heard by a receiver that listened for it through `lock_symbols` of
its preamble, was free, gets it above the noise, and finds it stronger than whatever else is on the channel from then
to its end (propagation.py has the figures). What it knows of packets, antennas and time costs nothing for those who
are silent: listeners are found by frequency and spreading factor.

Left out: the shape of a chirp. A channel is 125 kHz (or 250, 500) around its frequency; others are not heard at all,
and interference that lasts a microsecond spoils a packet like one that lasts a second.
"""

from __future__ import annotations

import functools
import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from boards.virtual.ether import Antenna, Reception, Signal, Tuning
from hil_tests.errors import RigError
from hil_tests.world.propagation import SNR_MIN_DB, Physics, Spot, link_loss_db
from protocols.wire.airtime import Modulation, time_on_air_us

# A receiver follows a carrier that is off by up to a quarter of the width: AN1200.22 of Semtech, for 125 kHz.
_SAME_CHANNEL_HZ = 31_250
_SYNC_SYMBOLS = 4.25
_HEADER_SYMBOLS = 8
_EPSILON_S = 1e-7  # sums of floats

Key = tuple[int, int, int, bool]  # spreading factor, width, sync word, IQ


class AirClock(Protocol):
    def now_s(self) -> float: ...

    def call_later(self, delay_s: float, function: Callable[[], Any], /) -> object: ...


@functools.cache
def _air_s(modulation: Modulation, size: int) -> float:
    return float(time_on_air_us(modulation, size)) / 1e6


def air_s(signal: Signal) -> float:
    """How long it is on the air."""
    modulation = Modulation(
        signal.sf,
        signal.bw_hz,
        signal.cr,
        signal.preamble,
        signal.is_implicit,
        signal.has_crc,
        signal.has_ldro,
    )
    return _air_s(modulation, len(signal.payload))


class Site:
    """An antenna in its place."""

    __slots__ = ("ears", "has_own_losses", "losses", "name", "outage", "sending", "spot", "stops")

    def __init__(self, name: str, spot: Spot) -> None:
        self.name = name
        self.spot = spot
        self.sending: Flight | None = None
        self.ears: dict[Ear, None] = {}
        self.losses: dict[Site, float] = {}
        self.has_own_losses = False  # of nothing at random here: it draws for itself
        self.stops = 0  # what was to be sent later is not, after one of these
        # In a burst of loss (True) or between two, until that moment.
        self.outage: tuple[bool, float] | None = None


class Channel:
    __slots__ = ("ears", "freq_hz", "live")

    def __init__(self, freq_hz: int) -> None:
        self.freq_hz = freq_hz
        self.live: dict[Flight, None] = {}
        self.ears: dict[Key, dict[Ear, None]] = {}


class Flight:
    """A packet on the air."""

    __slots__ = (
        "begin_s",
        "channel",
        "end_s",
        "header_s",
        "is_cut",
        "is_jammed",
        "is_watched",
        "key",
        "locks",
        "others",
        "powers",
        "preamble_s",
        "signal",
        "site",
        "symbol_s",
    )

    def __init__(self, site: Site, signal: Signal, channel: Channel, begin_s: float, seconds: float) -> None:
        self.site = site
        self.signal = signal
        self.channel = channel
        self.key: Key = (signal.sf, signal.bw_hz, signal.sync_word, signal.is_inverted)
        self.begin_s = begin_s
        self.end_s = begin_s + seconds
        self.symbol_s = 2**signal.sf / signal.bw_hz
        self.preamble_s = begin_s + signal.preamble * self.symbol_s
        sync = _SYNC_SYMBOLS + 2 * (signal.sf < 7)
        header = 0 if signal.is_implicit else _HEADER_SYMBOLS
        self.header_s = self.preamble_s + (sync + header) * self.symbol_s
        self.others: list[Flight] = []  # whatever shares the channel with it for a while
        self.locks: dict[Ear, Lock] = {}
        self.powers: dict[Site, float] = {}
        self.is_cut = False
        self.is_jammed = False
        self.is_watched = False  # somebody looks at its header when it is over


class Lock:
    """A receiver follows a packet."""

    __slots__ = ("from_s", "power_dbm")

    def __init__(self, power_dbm: float, from_s: float) -> None:
        self.power_dbm = power_dbm
        self.from_s = from_s


class Ear:
    """A receiver on one frequency for one kind of packet."""

    TRIES_AGAIN = True  # the rest of a preamble may do, once it is free
    __slots__ = ("antenna", "channel", "following", "key", "since_s", "site")

    def __init__(self, site: Site, antenna: Antenna) -> None:
        self.site = site
        self.antenna = antenna
        self.channel: Channel | None = None
        self.key: Key | None = None
        self.since_s = 0.0
        self.following: dict[Flight, None] = {}

    def has_room(self) -> bool:
        """Whether it can follow one more: a chip follows one."""
        return not self.following

    def take(self, flight: Flight) -> None:
        self.following[flight] = None

    def release(self, flight: Flight) -> None:
        del self.following[flight]


class Air:
    """`loss`: what else keeps a packet from a receiver, drawn anew for each pair; with `burst_s` a receiver is deaf
    for so long on average, and for that part of the time. `jammers` are asked about each packet as it begins; one
    that says yes spoils its payload for everybody. `taps` are told of each packet as it ends."""

    def __init__(self, clock: AirClock, physics: Physics, seed: int = 1) -> None:
        self.clock = clock
        self.physics = physics
        self.seed = seed
        self.rng = random.Random(f"air {seed}")
        self.loss = 0.0
        self.burst_s = 0.0
        self.jammers: list[Callable[[Flight], bool]] = []
        self.taps: list[Callable[[Flight], None]] = []
        self.counts: Counter[str] = Counter()
        self._sites: dict[Any, Site] = {}
        self._channels: dict[int, Channel] = {}
        self._noise_dbm: dict[int, float] = {}

    # -- who is where ----------------------------------------------------------------------------------------

    def place(self, antenna: Antenna | object, name: str, spot: Spot) -> Site:
        """Give an antenna its place; the name decides, with the seed, what lies between it and others."""
        site = self._sites[antenna] = Site(name, spot)
        return site

    def remove(self, antenna: Antenna) -> None:
        self.stop(antenna)
        site = self._sites.pop(antenna)
        for ear in tuple(site.ears):
            self.mute(ear)

    def site_of(self, antenna: object) -> Site:
        site = self._sites.get(antenna)
        if site is None:
            raise RigError("An antenna is used that has no place on the air; call Air.place() with it first.")
        return site

    def power_dbm(self, flight: Flight, site: Site) -> float:
        """What the receiver there gets of it."""
        power = flight.powers.get(site)
        if power is None:
            power = flight.signal.dbm - self.loss_db(flight.site, site)
            if self.physics.fading_sd_db:
                power += self.rng.gauss(0.0, self.physics.fading_sd_db)
            flight.powers[site] = power
        return power

    def loss_db(self, one: Site, other: Site) -> float:
        loss = one.losses.get(other)
        if loss is None:
            loss = link_loss_db(self.physics, self.seed, (one.name, other.name), (one.spot, other.spot))
            one.losses[other] = other.losses[one] = loss
        return loss

    def _noise(self, bw_hz: int) -> float:
        noise = self._noise_dbm.get(bw_hz)
        if noise is None:
            noise = self._noise_dbm[bw_hz] = self.physics.noise_dbm(bw_hz)
        return noise

    def _channel(self, freq_hz: int) -> Channel:
        channel = self._channels.get(freq_hz)
        if channel is None:
            known = set(self._channels.values())
            near = [one for one in known if abs(one.freq_hz - freq_hz) <= _SAME_CHANNEL_HZ]
            channel = near[0] if near else Channel(freq_hz)
            self._channels[freq_hz] = channel
        return channel

    # -- Ether -----------------------------------------------------------------------------------------------

    def transmit(self, antenna: Antenna | object, signal: Signal, after_s: float = 0.0) -> float:
        site, seconds = self.site_of(antenna), air_s(signal)
        if after_s > 0:
            stops = site.stops
            self.clock.call_later(after_s, lambda: self._begin_unless_stopped(site, signal, seconds, stops))
        else:
            self._begin(site, signal, seconds)
        return seconds

    def stop(self, antenna: Antenna) -> None:
        site = self.site_of(antenna)
        site.stops += 1
        if site.sending is not None:
            self._cut(site.sending)

    def tune(self, antenna: Antenna, tuning: Tuning | None, after_s: float = 0.0) -> None:
        if after_s > 0:
            self.clock.call_later(after_s, lambda: self.tune(antenna, tuning))
            return
        site = self.site_of(antenna)
        for ear in tuple(site.ears):
            self.mute(ear)
        if tuning is not None:
            self.listen(Ear(site, antenna), tuning)

    def is_active(self, antenna: Antenna, tuning: Tuning) -> bool:
        site = self.site_of(antenna)
        wanted_dbm = self._noise(tuning.bw_hz) + SNR_MIN_DB[tuning.sf]
        return any(
            flight.key[:2] == (tuning.sf, tuning.bw_hz)
            and flight.site is not site
            and self.power_dbm(flight, site) >= wanted_dbm
            for flight in self._channel(tuning.freq_hz).live
        )

    def rssi_dbm(self, antenna: Antenna, freq_hz: int, bw_hz: int) -> float:
        site = self.site_of(antenna)
        live = [
            self.power_dbm(flight, site) for flight in self._channel(freq_hz).live if flight.site is not site
        ]
        return _sum_dbm([self._noise(bw_hz), *live])

    # -- listening -------------------------------------------------------------------------------------------

    def listen(self, ear: Ear, tuning: Tuning) -> None:
        """Open an ear; what is in its preamble may still be caught."""
        ear.key = (tuning.sf, tuning.bw_hz, tuning.sync_word, tuning.is_inverted)
        ear.channel = self._channel(tuning.freq_hz)
        ear.channel.ears.setdefault(ear.key, {})[ear] = None
        ear.site.ears[ear] = None
        self._open(ear)

    def mute(self, ear: Ear) -> None:
        self._drop(ear)
        if ear.channel is not None and ear.key is not None:
            del ear.channel.ears[ear.key][ear]
        ear.channel = None
        ear.site.ears.pop(ear, None)

    def _open(self, ear: Ear) -> None:
        now_s = ear.since_s = self.clock.now_s()
        assert ear.channel is not None
        for flight in ear.channel.live:
            wait_s = self.physics.lock_symbols * flight.symbol_s
            if flight.key == ear.key and now_s + wait_s <= flight.preamble_s + _EPSILON_S:
                self.clock.call_later(wait_s, functools.partial(self._try_again, flight, ear, now_s))

    def _drop(self, ear: Ear) -> None:
        """Forget what is being followed: its receiver does something else."""
        for flight in tuple(ear.following):
            del flight.locks[ear]
            ear.release(flight)

    # -- a packet's life -------------------------------------------------------------------------------------

    def _begin_unless_stopped(self, site: Site, signal: Signal, seconds: float, stops: int) -> None:
        if site.stops == stops:
            self._begin(site, signal, seconds)

    def _begin(self, site: Site, signal: Signal, seconds: float) -> None:
        if site.sending is not None:
            self._cut(site.sending)
        for ear in site.ears:
            self._drop(ear)
        channel = self._channel(signal.freq_hz)
        flight = Flight(site, signal, channel, self.clock.now_s(), seconds)
        site.sending = flight
        self.counts["sent"] += 1
        for other in channel.live:
            other.others.append(flight)
            flight.others.append(other)
            if other.locks:
                self._watch_header(other)
        channel.live[flight] = None
        if self.jammers:
            flight.is_jammed = any(jam(flight) for jam in self.jammers)
        if channel.ears.get(flight.key):
            wait_s = self.physics.lock_symbols * flight.symbol_s
            self.clock.call_later(wait_s, functools.partial(self._preamble_seen, flight))
        self.clock.call_later(seconds, functools.partial(self._end, flight))

    def _preamble_seen(self, flight: Flight) -> None:
        latest_s = flight.begin_s + _EPSILON_S
        for ear in tuple(flight.channel.ears.get(flight.key, ())):
            if ear.since_s <= latest_s and not self._try(ear, flight, flight.begin_s):
                wait_s = flight.preamble_s - self.clock.now_s()
                from_s = flight.preamble_s - self.physics.lock_symbols * flight.symbol_s
                if wait_s > 0:
                    again = functools.partial(self._try_again, flight, ear, from_s)
                    self.clock.call_later(wait_s, again)

    def _try_again(self, flight: Flight, ear: Ear, from_s: float) -> None:
        if ear not in flight.locks and ear.since_s <= from_s + _EPSILON_S:
            self._try(ear, flight, from_s)

    def _try(self, ear: Ear, flight: Flight, from_s: float) -> bool:
        """Lock on it, having listened since `from_s`. False: not now, but the end of the preamble may do."""
        site, signal = ear.site, flight.signal
        if ear.key != flight.key or ear.channel is not flight.channel:
            return True  # it has been tuned elsewhere
        if site.sending is not None or flight.is_cut:
            return True
        power_dbm = self.power_dbm(flight, site)
        if power_dbm - self._noise(signal.bw_hz) < SNR_MIN_DB[signal.sf]:
            return True
        if flight.others and not self._is_clean(flight, site, from_s, self.clock.now_s()):
            return False
        if self._is_lost(site):
            self.counts["lost at random"] += 1
            return True
        if not ear.has_room():
            self.counts["receiver busy"] += 1
            return not ear.TRIES_AGAIN
        ear.take(flight)
        flight.locks[ear] = Lock(power_dbm, from_s)
        if flight.others:
            self._watch_header(flight)
        ear.antenna.detected()
        return True

    def _watch_header(self, flight: Flight) -> None:
        """A spoiled header shows as soon as it is over, and its receiver is free again."""
        wait_s = flight.header_s - self.clock.now_s()
        if not flight.is_watched and wait_s > 0 and not flight.signal.is_implicit:
            flight.is_watched = True
            self.clock.call_later(wait_s, functools.partial(self._header_over, flight))

    def _header_over(self, flight: Flight) -> None:
        for ear, lock in tuple(flight.locks.items()):
            if flight.locks.get(ear) is lock and not self._is_clean(
                flight, ear.site, lock.from_s, flight.header_s
            ):
                self._tell(ear, flight, has_header=False, is_intact=False)

    def _end(self, flight: Flight) -> None:
        if not flight.is_cut:
            self._silence(flight)
        for ear, lock in tuple(flight.locks.items()):
            if flight.locks.get(ear) is lock:  # whoever was told before may have retuned this one
                is_intact = not flight.is_jammed and self._is_clean(
                    flight, ear.site, lock.from_s, flight.end_s
                )
                self._tell(ear, flight, has_header=True, is_intact=is_intact)
        for tap in self.taps:
            tap(flight)
        flight.others = []

    def _cut(self, flight: Flight) -> None:
        flight.is_cut = True
        flight.end_s = self.clock.now_s()
        self._silence(flight)
        if flight.locks:
            self._watch_header(flight)

    def _silence(self, flight: Flight) -> None:
        del flight.channel.live[flight]
        flight.site.sending = None
        for ear in flight.site.ears:
            self._open(ear)

    def _tell(self, ear: Ear, flight: Flight, has_header: bool, is_intact: bool) -> None:
        lock = flight.locks.pop(ear)
        ear.release(flight)
        if ear.TRIES_AGAIN:
            self._open(ear)
        self.counts["heard" if is_intact else "spoiled"] += 1
        signal = flight.signal
        noise_dbm = self._noise(signal.bw_hz)
        if not has_header:
            signal = signal._replace(payload=b"")
        elif not is_intact:
            signal = signal._replace(payload=self._spoil(signal.payload))
        ear.antenna.heard(
            Reception(
                signal=signal,
                rssi_dbm=_sum_dbm([lock.power_dbm, noise_dbm]),
                snr_db=lock.power_dbm - noise_dbm,
                has_header=has_header,
                is_intact=is_intact,
            )
        )

    def _spoil(self, payload: bytes) -> bytes:
        """Bit errors from some byte on."""
        if not payload:
            return payload
        first = self.rng.randrange(len(payload))
        return payload[:first] + bytes(byte ^ self.rng.randrange(1, 256) for byte in payload[first:])

    # -- what else is on the channel -------------------------------------------------------------------------

    def _is_clean(self, flight: Flight, site: Site, from_s: float, to_s: float) -> bool:
        """Whether it stands out of everything else at that receiver for all this time."""
        if flight.is_cut and flight.end_s <= to_s:
            return False
        physics, sf, is_inverted = self.physics, flight.signal.sf, flight.signal.is_inverted
        if physics.capture_db is None:
            from_s = flight.begin_s
        groups: dict[float, list[Flight]] = {}
        for other in flight.others:
            if other.begin_s < to_s and other.end_s > from_s:
                signal = other.signal
                over_db = physics.needed_over_db(sf, signal.sf, signal.is_inverted != is_inverted)
                groups.setdefault(over_db, []).append(other)
        power_dbm = self.power_dbm(flight, site)
        return all(
            over_db != math.inf and power_dbm - self._peak_dbm(others, site, from_s) >= over_db
            for over_db, others in groups.items()
        )

    def _peak_dbm(self, flights: list[Flight], site: Site, from_s: float) -> float:
        """The most that these have together at one moment."""
        if len(flights) == 1:
            return self.power_dbm(flights[0], site)
        peaks = []
        for first in flights:
            moment_s = max(first.begin_s, from_s)
            peaks.append(
                _sum_dbm(
                    [self.power_dbm(one, site) for one in flights if one.begin_s <= moment_s < one.end_s]
                )
            )
        return max(peaks)

    def _is_lost(self, site: Site) -> bool:
        if not self.loss or site.has_own_losses:
            return False
        if not self.burst_s:
            return self.rng.random() < self.loss
        now_s = self.clock.now_s()
        # Such that it begins in the state that it is in on average.
        is_deaf, until_s = site.outage or (self.rng.random() >= self.loss, now_s)
        while until_s <= now_s:
            is_deaf = not is_deaf
            mean_s = self.burst_s if is_deaf else self.burst_s * (1 - self.loss) / self.loss
            until_s += self.rng.expovariate(1 / mean_s)
        site.outage = is_deaf, until_s
        return is_deaf


def _sum_dbm(powers_dbm: list[float]) -> float:
    return 10 * math.log10(math.fsum(10 ** (power / 10) for power in powers_dbm))
