"""What a radio may do at its place: the one that says no, right before each transmission (SPEC.md section 7.1).

    law = Law(plan_id, spent)
    air_us = law.check(now_s, freq_hz, modulation, size, dbm)     # raises AirRefused
    law.sent(now_s, freq_hz, air_us)                              # the chip was told to send

Only the driver calls these two, so no call path leads around them; nothing here can be switched off. A plan with duty
cycle has a ledger (duty.py, which says what ``spent`` is); one without neither reads nor writes.
"""

from protocols.wire import airtime
from protocols.wire.airtime import AirRefused
from protocols.wire.limits import MAX_PACKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from protocols.wire.airtime import Modulation
    from protocols.wire.duty import Ledger, Spent

CN470 = 0
EU868 = 1
# A half-wave dipole, in 1/100 dBi: e.r.p. is measured against it.
DIPOLE_CDBI = 215


class Law:
    def __init__(self, plan_id: int, spent: "Spent | None" = None, antenna_cdbi: int = DIPOLE_CDBI) -> None:
        # Here, so that who started a node can forget the table: it needs one plan of it.
        from protocols.wire.plans_table import PLANS

        if plan_id not in PLANS:
            raise AirRefused("plan", "plan %d: known are %s" % (plan_id, sorted(PLANS)))
        name, self._runs, self._bands, self.longest_us, self._bw_max_hz, eirp, sf_max, listens = PLANS[
            plan_id
        ]
        self.name: str = name
        self.plan_id = plan_id
        self.sf_max: int = sf_max
        self.dbm_max: int = (eirp - antenna_cdbi) // 100  # conducted
        self.channels: int = sum([run[2] for run in self._runs])
        self._listens: bool = listens
        self._ledger: "Ledger | None" = None
        if self._bands[0][2]:
            from protocols.wire.duty import Ledger  # code that a plan without it need not hold

            self._ledger = Ledger(plan_id, self._bands, spent)

    @property
    def needs_listening(self) -> bool:
        """Whether the channel must be found free before each transmission. Part of the plan, not a setting."""
        return self._listens

    def freq_hz(self, channel: int) -> int:
        """Centre of a channel, from 0."""
        at = channel
        for first_hz, step_hz, count in self._runs:
            if 0 <= at < count:
                return int(first_hz + at * step_hz)
            at -= count
        raise AirRefused(
            "channel", "%s has channels 0 to %d, not %d" % (self.name, self.channels - 1, channel)
        )

    def size_max(self, sf: int) -> int:
        """Bytes of the largest packet of ours at this spreading factor; -1 for none."""
        return min(MAX_PACKET, airtime.size_max(airtime.lora(sf), self.longest_us))

    def check(self, now_s: int, freq_hz: int, modulation: "Modulation", size: int, dbm: int) -> int:
        """Microseconds on the air. AirRefused when it must not be sent now; ``now_s`` is uptime."""
        band = self._band(freq_hz)
        if modulation.bw_hz > self._bw_max_hz:
            said = "%d Hz wide, %s allows %d" % (modulation.bw_hz, self.name, self._bw_max_hz)
            raise AirRefused("bandwidth", said)
        if dbm > self.dbm_max:
            raise AirRefused("power", "%d dBm, %s allows %d here" % (dbm, self.name, self.dbm_max))
        try:
            air_us = airtime.time_on_air_us(modulation, size)
        except ValueError as exc:
            raise AirRefused("modulation", str(exc))
        if air_us > self.longest_us:
            self._too_long(modulation, size, air_us)
        if self._ledger is not None:
            self._ledger.check(now_s, band, modulation, air_us)
        return air_us

    def sent(self, now_s: int, freq_hz: int, air_us: int) -> None:
        """A transmission that `check` allowed has begun, or has ended."""
        if self._ledger is not None:
            self._ledger.add(now_s, self._band(freq_hz), air_us)

    def rest(self, now_s: int) -> bytes:
        """What resume() needs after a deep sleep that begins now; b"" where there is nothing to keep."""
        return b"" if self._ledger is None else self._ledger.rest(now_s)

    def resume(self, now_s: int, rested: bytes) -> None:
        """Go on after a deep sleep, before the first check. Only for bytes of the sleep that just ended."""
        if self._ledger is not None and rested:
            self._ledger.resume(now_s, rested)

    def _band(self, freq_hz: int) -> int:
        """Number of the band of a channel."""
        for first_hz, step_hz, count in self._runs:
            at = freq_hz - first_hz
            if at % step_hz == 0 and 0 <= at // step_hz < count:
                for index in range(len(self._bands)):
                    if self._bands[index][0] <= freq_hz < self._bands[index][1]:
                        return index
        raise AirRefused("channel", "%d Hz is no channel of %s" % (freq_hz, self.name))

    def _too_long(self, modulation: "Modulation", size: int, air_us: int) -> "NoReturn":
        sf = modulation.sf
        most = airtime.size_max(modulation, self.longest_us)
        fits = "at most %d bytes" % most if most >= 0 else "not even an empty packet"
        said = "%d bytes at SF%d take %d us, %s allows %d: %s" % (
            size,
            sf,
            air_us,
            self.name,
            self.longest_us,
            fits,
        )
        for faster in range(sf - 1, 6, -1):
            if self.size_max(faster) >= size:
                said += ", or SF%d" % faster
                break
        raise AirRefused("time", said)
