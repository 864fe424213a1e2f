"""Deep sleep: when a node may, until when, and what it knows afterwards.

A node that sleeps has two states: asleep, or awake for as long as there is something to do. Each wake is a start of the
program, so whatever should go on is packed into RTC memory before the sleep (hal/cache.py) and taken out of it once:
what is used twice (a PIV, a count) would be worse than what is lost. It is a cache. After a power cut, a watchdog or a
brown-out it is gone; then the wake is an ordinary boot, which counts as one, begins a new block of PIVs and says hello.
A wake with its cache writes nothing to flash by itself.

How long it listens: a frame that must be answered is waited for as ever (uplink.py), and after the last frame either
way the link stays open for LISTEN_MS, in which a gateway says what it has for this node (time, settings, a command; on
LoRa the windows after it are all there is). A gateway that does not answer TRIES_MAX frames in a row, with
an event EVENT_TRIES (uplink.py), is left alone until the next set is due, six hours at most, or, if an event waits, for
ten minutes, then twenty, and so on up to an hour.
"""

from struct import calcsize, pack, unpack_from

from firmware.errors import StorageError
from firmware.hal import CAUSE_DEEP_SLEEP
from firmware.modules import forget
from firmware.outbox import EVENTS
from firmware.settings import INTERVAL_S, STATUS_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal
    from firmware.node import Node

# Serial; the gateway says all it has within one commit of a slow SD card.
LISTEN_MS = 500
TRIES_MAX = 3
_GIVEN_UP = 255  # attempts, on any carrier
_RETRY_S = 600
_RETRY_MAX_S = 3600
_RETRY_DOUBLED_MAX = 8
_RETRY_SETS_S = 6 * 3600
# A wake costs the boot, 0.8 s at full current: below a few of that it is cheaper, and simpler, to stay.
SLEEP_MIN_S = 4
# How the sleep's clock errs is known from the gateway's time after this, and not only after a whole day.
_LEARN_RATE_S = 3600

# wakes | awake s | retries | retry at | status at || due | begun | on raster || must hello | report at | fresh from |
# newest set || frames sent, resent, clock steps, flash errors, refused, sensor errors || maintenance ends
_FIELDS = ">IIBIIIIBBiIIIIHHHHI"


class Nap:
    """One life between two sleeps. Made before anything that asks what time it is."""

    is_held = False  # by a release on trial that was not found healthy yet

    def __init__(self, hal: "Hal") -> None:
        self._hal = hal
        self.wakes = 0
        self.sensor_errors = 0  # of the lives before
        self.retries = 0
        self.retry_at_s = 0  # uptime
        self.awake_before_s = 0
        clock = _take(hal, "clock")
        self.kept = _take(hal, "node")
        # Both or none: counters without their clock would be those of another day.
        self.woke = hal.reset_cause == CAUSE_DEEP_SLEEP and self.kept is not None and clock is not None
        if self.woke and clock is not None:
            hal.clock.resume(clock)
        self.from_s = hal.clock.uptime_s()

    def take_up(self, node: "Node") -> None:
        """Give every part back what it had."""
        node.uplink.tries_max = TRIES_MAX
        if self.woke:
            _resume(self, node)
        else:
            node.status_at_s = self.from_s + self.status_s(node.settings[STATUS_S])
        self.kept = None
        forget("firmware.hal.cache")

    def awake_s(self) -> int:
        """In all lives since power on."""
        return self.awake_before_s + self._hal.clock.uptime_s() - self.from_s

    def set_kept(self, node: "Node") -> None:
        """The status goes with the set, when it is nearly due: one wake for both. Not with that of an alarm: in a flood
        the air is needed for the alarms of others."""
        if node.alarms.raised:
            return
        clock = self._hal.clock
        now_s = clock.uptime_s()
        if clock.knows_rate and node.status_at_s - now_s < node.settings[STATUS_S] // 2:
            node.status_at_s = now_s

    def status_s(self, status_s: int) -> int:
        """Between two statuses: a status is answered with the time, from which the clock of the sleep is learned."""
        return status_s if self._hal.clock.knows_rate else min(status_s, _LEARN_RATE_S)

    def look(self, node: "Node") -> None:
        """Sleep, if there is nothing else to do: then this does not return."""
        if (
            self.is_held
            or node.sampler.is_busy
            or not node.commands.is_idle
            or node.uplink.quiet_ms() < LISTEN_MS
        ):
            return
        wait_s = self._wait_s(node)
        if wait_s >= SLEEP_MIN_S:
            self._sleep(node, wait_s)

    def _wait_s(self, node: "Node") -> int:
        """Seconds until there is something to do."""
        now_s = self._hal.clock.uptime_s()
        wait_s = node.schedule.wait_ms() // 1000
        if not node.uplink.is_silent:  # else the status waits for somebody to answer, however long it is due
            wait_s = min(wait_s, max(0, node.status_at_s - now_s))
        if node.commands.pass_at_s >= 0:
            wait_s = min(wait_s, max(0, node.commands.pass_at_s - now_s))
        if node.maintenance.seconds:
            wait_s = min(wait_s, node.maintenance.left_s())
        if node.watch is not None:
            wait_s = min(wait_s, node.watch.wait_s())
        if node.uplink.has_given_up:
            self._plan_retry(node, now_s)
            return min(wait_s, self.retry_at_s - now_s)
        rest_s = node.uplink.rest_s()
        if rest_s:  # everything is where it should be
            self.retries = self.retry_at_s = 0
        return min(wait_s, rest_s)

    def _plan_retry(self, node: "Node", now_s: int) -> None:
        """When it is this gateway's turn again, unless something is raised before."""
        if now_s < self.retry_at_s:
            return
        # What has no event is in no hurry; but with daily sets, waiting for the next one would take two days at worst.
        retry_s = min(_RETRY_S << self.retries, _RETRY_MAX_S) if node.outbox.count(EVENTS) else _RETRY_SETS_S
        self.retry_at_s = now_s + min(retry_s, node.settings[INTERVAL_S])
        self.retries = min(self.retries + 1, _RETRY_DOUBLED_MAX)

    def _sleep(self, node: "Node", wait_s: int) -> None:
        pins = node.watch.wake_pins() if node.watch is not None else ()
        # What was acknowledged is told once, or each wake would offer it again.
        try:
            node.outbox.flush()
        except (StorageError, OSError) as exc:
            node.health.flash_failed(exc)
        _save(self, node)
        self._hal.deep_sleep(self._hal.clock.asleep_ms(wait_s), pins)


def _take(hal: "Hal", name: str) -> "bytes | None":
    """Out of the cache, for good; None when it is not of the sleep that just ended."""
    data = hal.cache.load(name)
    if not data:
        return None
    hal.cache.save(name, b"")
    return data if hal.reset_cause == CAUSE_DEEP_SLEEP else None


def _resume(nap: "Nap", node: "Node") -> None:
    """Give every part back what it had."""
    channel = _take(node.hal, "channel")
    if channel is not None:
        from firmware import carry  # on the heap for this moment only

        carry.go_on(node.session.channel, channel)
        forget("firmware.carry")
    order = _take(node.hal, "pass")
    if order is not None:
        node.commands.order = order
        node.commands.pass_at_s = int.from_bytes(order[:4], "big")
    assert nap.kept is not None
    f = unpack_from(_FIELDS, nap.kept)
    nap.wakes = f[0] + 1
    nap.awake_before_s, nap.retries, nap.retry_at_s, node.status_at_s = f[1:5]
    node.schedule.resume(f[5], f[6], f[7] != 0)
    node.uplink.resume(f[8], f[9], f[10], f[11])
    if nap.from_s + SLEEP_MIN_S < nap.retry_at_s:  # woken for something else
        node.uplink.attempts = _GIVEN_UP
    health = node.health
    health.frames_sent, health.frames_resent, health.clock_steps, health.flash_errors = f[12:16]
    if f[16]:
        health.refusals["before"] = f[16]
    nap.sensor_errors = f[17]
    node.maintenance.resume(f[18])
    node.alarms.resume(nap.kept[calcsize(_FIELDS) :])


def _save(nap: "Nap", node: "Node") -> None:
    """Nothing may be sent, accepted or counted after this."""
    cache = node.hal.cache
    health = node.health
    due_s, begun_s, on_raster = node.schedule.rest()
    fields = [nap.wakes, nap.awake_s(), nap.retries, nap.retry_at_s, node.status_at_s]
    fields += [due_s, begun_s, int(on_raster)]
    fields += node.uplink.rest()
    fields += (health.frames_sent, health.frames_resent)
    refused = sum(health.refusals.values())
    for count in (health.clock_steps, health.flash_errors, refused, node.sensor_errors()):
        fields.append(min(count, 0xFFFF))
    fields.append(node.maintenance.rest())
    cache.save("pass", node.commands.order if node.commands.pass_at_s >= 0 else b"")
    from firmware import carry

    cache.save("channel", carry.counters(node.session.channel))
    del carry
    forget("firmware.carry")
    cache.save("node", pack(_FIELDS, *fields) + node.alarms.rest())
    cache.save("clock", node.hal.clock.rest())
