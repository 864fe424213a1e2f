"""From adverts of configured devices to sets: decoded by the profile, each measurement once, as often as asked.

    advert → which device → BTHome or the profile's own layout → new, or told before? → due? → accept

A device repeats an advert many times, and some send a new one each second; what is kept is the first of each `period_s`
(limits.OVERHEARD_PERIOD_S when nothing is said), and every one that the device marks as triggered. What is refused is
counted by reason in the device's counters: refused_auth, refused_replay, and so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from gateway import limits
from gateway.accept import Accept
from gateway.clock import Clock
from gateway.devices import Device
from gateway.pollers import bthome
from gateway.pollers.bthome_counters import Counters, Verdict
from gateway.profiles import AdvertProfile, BthomeProfile, full_uuid
from protocols.fields import FieldError


class Heard(Protocol):
    """An advert; UUIDs lower case and whole. ``who``: what its sender is known by, mostly its address."""

    @property
    def address(self) -> str: ...

    @property
    def who(self) -> str: ...

    @property
    def service_data(self) -> Mapping[str, bytes]: ...

    @property
    def manufacturer_data(self) -> Mapping[int, bytes]: ...


class _News(NamedTuple):
    """``mark``: what tells this measurement from the one before; None: nothing does. ``must``: keep it in any case."""

    values: dict[str, float | None]
    mark: int | None
    must: bool


class _Ear:
    def __init__(self, device: Device, key: bytes | None) -> None:
        self.device = device
        self.key = key
        self.mark: int | None = None
        self.marked_s = float("-inf")
        self.kept_s = float("-inf")
        period_s = device.section.period_s
        self.period_s = limits.OVERHEARD_PERIOD_S if period_s is None else period_s


class Overheard:
    """The decoders of adverts; one per adapter."""

    def __init__(
        self,
        accept: Accept,
        devices: Iterable[Device],
        counters: Counters,
        clock: Clock,
        keys: Mapping[str, bytes],
    ) -> None:
        """`keys`: bind keys by the name of the device."""
        self._accept = accept
        self._counters = counters
        self._clock = clock
        self._started_s = clock.monotonic()
        self._ears = {
            device.section.who: _Ear(device, keys.get(device.name))
            for device in devices
            if device.profile.gatt is None
        }

    def advert(self, heard: Heard) -> None:
        """Take one advert; of devices that are not configured it is nothing. Never raises for what is in it."""
        ear = self._ears.get(heard.who)
        if ear is None:
            return
        profile = ear.device.profile
        try:
            if profile.bthome is not None:
                news = self._bthome(ear, profile.bthome, heard)
            else:
                news = None if profile.advert is None else _layout(profile.advert, heard)
        except bthome.BthomeError as refusal:
            self._count(ear, f"refused_{refusal.reason}")
            return
        if news is None or not news.values:
            return
        if news.mark is not None and news.mark == ear.mark:
            self._count(ear, "repeats")
            return
        now_s = self._clock.monotonic()
        if profile.bthome is not None and _is_late(ear, news.mark, now_s):
            self._count(ear, "late")
            return
        ear.mark, ear.marked_s = news.mark, now_s
        # A tenth is forgiven, or a sensor of 60 s would be kept every second time.
        if not news.must and now_s - ear.kept_s < 0.9 * ear.period_s:
            self._count(ear, "passed_over")
            return
        ear.kept_s = now_s
        self._accept.accept(ear.device, news.values)

    def look(self) -> None:
        """Tell of devices that are not heard any more. Called every few seconds."""
        now_s = self._clock.monotonic()
        for ear in self._ears.values():
            since_s = self._started_s if ear.device.heard_s is None else ear.device.heard_s
            limit_s = max(limits.OVERHEARD_SILENT_S, limits.OVERHEARD_SILENT_PERIODS * ear.period_s)
            if now_s - since_s > limit_s:
                self._accept.state(ear.device, "down", f"not heard for {int(now_s - since_s)} s")

    def _bthome(self, ear: _Ear, profile: BthomeProfile, heard: Heard) -> _News | None:
        data = heard.service_data.get(bthome.UUID)
        if data is None:
            return None
        said = bthome.decode(data, key=ear.key, address=heard.address)
        if said.is_cut:
            self._count(ear, "cut")
        mark = said.packet_id
        if said.counter is not None:
            verdict = self._counters.take(ear.device.address, said.counter)
            if verdict is Verdict.REPLAY:
                self._count(ear, "refused_replay")
                return None
            if verdict is Verdict.REPEAT:
                self._count(ear, "repeats")
                return None
            mark = None
        return _News(dict(bthome.values(profile, said)), mark, said.is_triggered)

    def _count(self, ear: _Ear, what: str) -> None:
        ear.device.counters[what] = ear.device.counters.get(what, 0) + 1


def _is_late(ear: _Ear, mark: int | None, now_s: float) -> bool:
    """Whether an advert was overtaken by the one before it, as radios and their drivers have it: its packet id, which
    goes round at 256, is a little lower. After a while a device may have begun anew."""
    if mark is None or ear.mark is None or now_s - ear.marked_s > limits.BTHOME_LATE_S:
        return False
    return (ear.mark - mark) % 256 <= limits.BTHOME_LATE_PACKETS


def _layout(profile: AdvertProfile, heard: Heard) -> _News | None:
    """A layout of the maker's own."""
    if profile.company is not None:
        data = heard.manufacturer_data.get(profile.company)
    else:
        data = heard.service_data.get(full_uuid(profile.service or ""))
    if data is None or not profile.matches(data):
        return None
    values: dict[str, float | None] = {}
    for point in profile.point:
        try:
            value = point.value(data)
        except FieldError:
            value = None
        values[point.key] = None if isinstance(value, str) else value
    return _News(values, None if profile.sequence is None else profile.sequence.value(data), False)
