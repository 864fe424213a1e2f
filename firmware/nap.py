"""Deep sleep: when a node may, until when, and what it knows afterwards.

A node that sleeps has two states: asleep, or awake for as long as there is something to do. Each wake is a start of the
program, so whatever should go on is packed into RTC memory before the sleep (hal/cache.py) and taken out of it once:
what is used twice (a PIV, a count) would be worse than what is lost. It is a cache. After a power cut, a watchdog or a
brown-out it is gone; then the wake is an ordinary boot, which counts as one, begins a new block of PIVs and says hello.
A wake with its cache writes nothing to flash by itself.

How long it listens: a frame that must be answered is waited for as ever (uplink.py), and after the last frame either
way the link stays open for LISTEN_MS, in which a gateway says what it has for this node (time, settings, a command; on
LoRa these will be the two receive windows of class A). A gateway that does not answer TRIES_MAX frames in a row is left
alone until the next set is due or, if an event waits, for ten minutes, then twenty, and so on up to an hour.
"""

from struct import calcsize, pack, unpack_from

from firmware.errors import StorageError
from firmware.hal import CAUSE_DEEP_SLEEP
from firmware.outbox import EVENTS
from firmware.settings import INTERVAL_S, STATUS_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal
    from firmware.node import Node

# Serial; the gateway says all it has within one commit of a slow SD card.
LISTEN_MS = 500
TRIES_MAX = 3
_RETRY_S = 600
_RETRY_MAX_S = 3600
_RETRY_DOUBLED_MAX = 8
# A wake costs the boot, 0.8 s at full current: below a few of that it is cheaper, and simpler, to stay.
_SLEEP_MIN_S = 4
# How the sleep's clock errs is known from the gateway's time after this, and not only after a whole day.
_LEARN_RATE_S = 3600
_DAY_S = 86400

# wakes | awake s | retries | status at || due | begun | on raster || must hello | report at | fresh from |
# newest set || frames sent, resent, clock steps, flash errors, refused, sensor errors || retry at
_FIELDS = ">IIBIIIBBiIIIIHHHHI"


class Nap:
    """One life between two sleeps. Made before anything that asks what time it is."""

    def __init__(self, hal: "Hal") -> None:
        self._hal = hal
        self.wakes = 0
        self.sensor_errors = 0  # of the lives before
        self._retries = 0
        self._retry_at_s = 0  # uptime
        self._awake_s = 0
        self._kept = self._take("node")
        clock = self._take("clock")
        # Both or none: counters without their clock would be those of another day.
        self.woke = hal.reset_cause == CAUSE_DEEP_SLEEP and self._kept is not None and clock is not None
        if self.woke and clock is not None:
            hal.clock.resume(clock)
        self._from_s = hal.clock.uptime_s()

    def _take(self, name: str) -> "bytes | None":
        """Out of the cache, for good; None when it is not of the sleep that just ended."""
        data = self._hal.cache.load(name)
        if not data:
            return None
        self._hal.cache.save(name, b"")
        return data if self._hal.reset_cause == CAUSE_DEEP_SLEEP else None

    def take_up(self, node: "Node") -> None:
        """Give every part back what it had."""
        node.uplink.tries_max = TRIES_MAX
        channel = self._take("channel")
        if not self.woke or self._kept is None:
            node.status_at_s = self._from_s + self.status_s(node.settings[STATUS_S])
            return
        if channel is not None:
            node.session.resume(channel)
        f = unpack_from(_FIELDS, self._kept)
        self.wakes = f[0] + 1
        self._awake_s, self._retries, node.status_at_s = f[1:4]
        self._retry_at_s = f[17]
        if self._from_s + _SLEEP_MIN_S < self._retry_at_s:  # woken for something else
            node.uplink.attempts = TRIES_MAX
        node.schedule.resume(f[4], f[5], f[6] != 0)
        node.uplink.resume(f[7], f[8], f[9], f[10])
        health = node.health
        health.frames_sent, health.frames_resent, health.clock_steps, health.flash_errors = f[11:15]
        if f[15]:
            health.refusals["before"] = f[15]
        self.sensor_errors = f[16]
        node.alarms.resume(self._kept[calcsize(_FIELDS) :])

    def awake_s(self) -> int:
        """In all lives since power on."""
        return self._awake_s + self._hal.clock.uptime_s() - self._from_s

    def set_kept(self, node: "Node") -> None:
        """The status goes with the set, when it is nearly due: one wake for both."""
        clock = self._hal.clock
        now_s = clock.uptime_s()
        if clock.knows_rate and node.status_at_s - now_s < node.settings[STATUS_S] // 2:
            node.status_at_s = now_s

    def status_s(self, status_s: int) -> int:
        """Between two statuses: a status is answered with the time, from which the clock of the sleep is learned."""
        return status_s if self._hal.clock.knows_rate else min(status_s, _LEARN_RATE_S)

    def look(self, node: "Node") -> None:
        """Sleep, if there is nothing else to do: then this does not return."""
        if node.sampler.is_busy or not node.commands.is_idle or node.uplink.quiet_ms() < LISTEN_MS:
            return
        wait_s = self._wait_s(node)
        if wait_s >= _SLEEP_MIN_S:
            self._sleep(node, wait_s)

    def _wait_s(self, node: "Node") -> int:
        """Seconds until there is something to do."""
        now_s = self._hal.clock.uptime_s()
        wait_s = min(node.schedule.wait_ms() // 1000, max(0, node.status_at_s - now_s))
        if node.watch is not None:
            wait_s = min(wait_s, node.watch.wait_s())
        if node.uplink.has_given_up:
            self._plan_retry(node, now_s)
            return min(wait_s, self._retry_at_s - now_s)
        rest_s = node.uplink.rest_s()
        if rest_s:  # everything is where it should be
            self._retries = self._retry_at_s = 0
        return min(wait_s, rest_s)

    def _plan_retry(self, node: "Node", now_s: int) -> None:
        """When it is this gateway's turn again, unless something is raised before."""
        if now_s < self._retry_at_s:
            return
        # What has no event waits for the next set.
        retry_s = min(_RETRY_S << self._retries, _RETRY_MAX_S) if node.outbox.count(EVENTS) else _DAY_S
        self._retry_at_s = now_s + min(retry_s, node.settings[INTERVAL_S])
        self._retries = min(self._retries + 1, _RETRY_DOUBLED_MAX)

    def _sleep(self, node: "Node", wait_s: int) -> None:
        hal = self._hal
        pins = node.watch.rest() if node.watch is not None else ()
        self._flush(node)
        hal.cache.save("channel", node.session.rest())
        hal.cache.save("node", self._pack(node))
        hal.cache.save("clock", hal.clock.rest())
        hal.deep_sleep(hal.clock.asleep_ms(wait_s), pins)

    def _flush(self, node: "Node") -> None:
        """What was acknowledged: told once, or each wake would offer it again."""
        try:
            node.outbox.flush()
        except (StorageError, OSError) as exc:
            node.health.flash_failed(exc)

    def _pack(self, node: "Node") -> bytes:
        health = node.health
        due_s, begun_s, on_raster = node.schedule.rest()
        fields = [self.wakes, self.awake_s(), self._retries, node.status_at_s, due_s, begun_s, int(on_raster)]
        fields += node.uplink.rest()
        fields += (
            health.frames_sent,
            health.frames_resent,
            min(health.clock_steps, 0xFFFF),
            min(health.flash_errors, 0xFFFF),
            min(sum(health.refusals.values()), 0xFFFF),
            min(node.sensor_errors(), 0xFFFF),
            self._retry_at_s,
        )
        return pack(_FIELDS, *fields) + node.alarms.rest()
