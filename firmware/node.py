"""A node's whole story: wake, sample, check, keep, send, listen, sleep.

One synchronous object. step() does what is due and says how long it wants to sleep; it never blocks longer than one bus
transaction or one flash write, so thousands of nodes can share a simulated world, and a real one always serves its
link. Everything that fails on the way has a place where it is counted, and the rest of the cycle goes on.
"""

from struct import pack

from firmware import records
from firmware.errors import StorageError
from firmware.modules import forget
from firmware.settings import ALARM_REPEAT_S, INTERVAL_S, REPORT_S, STATUS_S
from firmware.trials import SAFE_S
from firmware.watch import NOTE_BIT
from protocols.wire import codes, messages
from protocols.wire.errors import WireError
from protocols.wire.messages import UNSYNCHRONISED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.alarms import Alarms, Change
    from firmware.commands import CommandRunner
    from firmware.hal import Hal
    from firmware.health import Health
    from firmware.maintenance import Maintenance
    from firmware.nap import Nap
    from firmware.outbox import Outbox
    from firmware.sampling import Sampler, Schedule
    from firmware.session import Identity, Session
    from firmware.settings import Settings
    from firmware.trials import Trials
    from firmware.uplink import Uplink
    from firmware.watch import Watch
    from protocols.wire.messages import Detail, Down, Hello

# A correction of the clock from this on is told as an event; below it is drift.
CLOCK_STEP_S = 2
# A measurement must come to its end within this and two intervals, or the watchdog is no longer fed.
_PROGRESS_S = 600
# A hello that was answered is followed by a status: long enough after it for what the gateway has to say to it.
_TELL_AFTER_S = 3
_PING_PAUSE_MS = 1000
_FLASH_PAUSE_MS = 5000
_WAIT_MS_MAX = 60000


class Node:
    """``safe``: starts failed again and again (trials.py), so this one does without sensors; else None."""

    # Its parts, which making.py gives it.
    hal: "Hal"
    safe: "Trials | None"
    identity: "Identity"
    carrier: "Any"  # a Carrier; that for the air can do more
    settings: "Settings"
    nap: "Nap | None"
    watch: "Watch | None"
    sampler: "Sampler"
    health: "Health"
    outbox: "Outbox"
    session: "Session"
    uplink: "Uplink"
    schedule: "Schedule"
    alarms: "Alarms"
    maintenance: "Maintenance"
    commands: "CommandRunner"
    status_at_s: int  # uptime

    def __init__(self, hal: "Hal", trials: "Trials | None" = None) -> None:
        from firmware import making  # on the heap for this moment only

        self._begun = (0, UNSYNCHRONISED)  # time and its quality when the measurement began
        self._begun_s = 0  # uptime
        self._keeps_set = False  # and not only a calibration looks at it
        self.has_measured = False
        self._memory: "list[Any]" = []  # of derive
        self._pinged_at_ms = hal.clock.ticks_ms() - _PING_PAUSE_MS
        self._schema_id, self._checkers, self._derive, self._alarm_file = making.make(
            self, hal, trials, self._hello
        )
        self.finished_s = hal.clock.uptime_s()  # when the latest one came to its end
        del making
        forget("firmware.making")

    # -- one step: sample, listen, send ---------------------------------------------------------------------

    def step(self) -> int:
        """Do what is due; milliseconds until there is more to do, unless something arrives on the link before."""
        watch_ms = self._watch()
        self._listen()  # first: what it begins, a reading or a calibration, must not wait for the next step
        sample_ms = self._sample()
        send_ms = self._send()
        if self._is_making_progress():
            self.hal.feed_watchdog()
        waits = (watch_ms, sample_ms, send_ms, self.commands.wait_ms(), self._maintenance_wait_ms())
        return max(0, min(waits + (self._status_wait_ms(),)))

    def _watch(self) -> int:
        if self.watch is None:
            return _WAIT_MS_MAX
        wait_ms = self.watch.poll()
        try:
            for change in tuple(self.watch.changes()):
                if change.bit == NOTE_BIT:
                    self._keep_event(change.code, change.state, change.detail)
                elif self.maintenance.seconds or self.maintenance.held:
                    self.maintenance.held[change.bit] = change
                else:
                    self._keep_alarm(self.alarms.of_watch(change))
                self.watch.applied(change)
                self.uplink.hurry()
        except (StorageError, OSError) as exc:
            self.health.flash_failed(exc)
            return _FLASH_PAUSE_MS
        return wait_ms

    def interval_s(self) -> int:
        """Between two sets: shorter while an alarm is raised, on nodes that have a setting for it."""
        interval_s = self.settings[INTERVAL_S]
        if self.alarms.raised and self.settings.has(ALARM_REPEAT_S):
            return min(interval_s, self.settings[ALARM_REPEAT_S])
        return interval_s

    def _sample(self) -> int:
        clock = self.hal.clock
        if self.safe is not None:
            if clock.uptime_s() >= SAFE_S:
                self.safe.try_again()
                self.outbox.flush()
                self.hal.reset()
            return _WAIT_MS_MAX
        if self.schedule.is_due():
            self.schedule.begin(self.interval_s())
            self.begin_measurement()
        if not self.sampler.is_busy:
            return self.schedule.wait_ms()
        if self.carrier.is_busy:
            return _WAIT_MS_MAX  # a probe's bus may take a second, and a window has its moment
        wait_ms = self.sampler.poll()
        if wait_ms is None:
            self._finish_measurement()
            return self.schedule.wait_ms()
        return wait_ms

    def _listen(self) -> None:
        try:
            for frame in self.carrier.poll():
                self._open(frame)
            self.commands.poll()
            if self.maintenance.is_over() and not self.sampler.is_busy:
                self.maintain(0)
            if not self.maintenance.seconds:
                self._tell_held()  # what the flash did not take at once
        except (StorageError, OSError) as exc:
            self.health.flash_failed(exc)

    def _send(self) -> int:
        try:
            self._tell_lost()
            if self.hal.clock.uptime_s() >= self.status_at_s and not self.uplink.is_silent:
                self._send_status()
            return self.uplink.poll()
        except (StorageError, OSError) as exc:
            self.health.flash_failed(exc)
            return _FLASH_PAUSE_MS

    def _is_making_progress(self) -> bool:
        """A node that steps but never ends a measurement must be reset like one that hangs."""
        return (
            self.safe is not None
            or self.hal.clock.uptime_s() - self.finished_s < _PROGRESS_S + 2 * self.settings[INTERVAL_S]
        )

    # -- measure, check, keep -------------------------------------------------------------------------------

    def begin_measurement(self, keeps_set: bool = True) -> None:
        """Measure now, for a set or only for whoever asked; a measurement that is under way counts."""
        self._keeps_set = self._keeps_set or keeps_set
        if not self.sampler.is_busy:
            self.sampler.begin()
            self._begun = self.hal.clock.now()
            self._begun_s = self.hal.clock.uptime_s()

    def _finish_measurement(self) -> None:
        self.has_measured = True
        self.finished_s = self.hal.clock.uptime_s()
        try:
            self.commands.measured(self.sampler.values)
        except (StorageError, OSError) as exc:
            self.health.flash_failed(exc)
        if self._keeps_set:
            self._keeps_set = False
            self.sampler.correct()
            self._take_set()
        self.health.look_at_heap()

    def _take_set(self) -> None:
        time, tq = self._measured_at()
        values = self.sampler.values
        flags = bytearray(len(self._checkers))
        for i, checker in enumerate(self._checkers):
            flags[i] = checker.check(self._begun_s, values[i])
        derived = () if self._derive is None else self._derive(self._memory, self._begun_s, values, flags)
        self.alarms.unfitted = self.sampler.unfitted()
        changes = self.alarms.update(values, flags, derived)
        if self.maintenance.seconds:
            changes = []  # not applied, they come again with the first set after it
        try:
            # The event first: it is small, and if the power goes between the two the alarm is what must be there.
            for change in changes:
                self._keep_alarm(change)
            payload = records.pack_set(self._schema_id, self._on_wire(time, tq), tq, values, flags)
            seq = self.outbox.keep(records.SET, payload)
            self.uplink.kept_set(seq, self.settings[REPORT_S])
            if changes:
                self.uplink.hurry()
            self.commands.set_kept(seq)
            if self.nap is not None:
                self.nap.set_kept(self)
        except (StorageError, OSError) as exc:
            self.health.flash_failed(exc)

    def _measured_at(self) -> "tuple[int, int]":
        """When the measurement began, by what the clock knows now: it may have been set meanwhile."""
        time, tq = self.hal.clock.now()
        if self._begun[1] != UNSYNCHRONISED or tq == UNSYNCHRONISED:
            return self._begun
        return time - (self.hal.clock.uptime_s() - self._begun_s), tq

    # -- events ---------------------------------------------------------------------------------------------

    def record_time(self) -> "tuple[int, int]":
        """Now, as a record carries it: (time, time quality)."""
        time, tq = self.hal.clock.now()
        return self._on_wire(time, tq), tq

    def _on_wire(self, time: int, tq: int) -> int:
        return messages.unsynced_time(self.health.boots, time) if tq == UNSYNCHRONISED else time

    def _keep_event(self, code: int, state: int, detail: "Detail") -> None:
        time, tq = self.record_time()
        self.outbox.keep(records.EVENT, records.pack_event(time, tq, code, state, detail))

    def _keep_alarm(self, change: "Change") -> None:
        """Keep the event and the state it leaves behind, both or neither: a reset neither repeats nor forgets it."""
        bit = 1 << change.bit
        raised = self.alarms.raised | bit if change.state == messages.RAISED else self.alarms.raised & ~bit
        left_s = self.maintenance.left_s()
        self._keep_state(raised, left_s, change.code, change.state, change.detail)
        self.alarms.apply(change)
        # It was planned with another interval, and the gateway expects the next set by the one that holds now.
        self.schedule.replan(self.interval_s())

    def maintain(self, seconds: int) -> None:
        """Somebody works here for so long; 0 ends it, and what the alarms would have told meanwhile is told now."""
        maintenance = self.maintenance
        if not seconds and not maintenance.seconds:
            return
        state = messages.RAISED if seconds else messages.CLEARED
        self._keep_state(self.alarms.raised, seconds, codes.IN_MAINTENANCE, state, seconds)
        maintenance.begin(seconds)
        self.uplink.hurry()
        if not seconds:
            self._tell_held()

    def _tell_held(self) -> None:
        """Each is let go of once it is kept: what the flash does not take now is told later."""
        held = self.maintenance.held
        for bit in tuple(held):
            change = self.alarms.of_watch(held[bit])
            if self.alarms.is_raised(change.bit) != (change.state == messages.RAISED):
                self._keep_alarm(change)
                self.uplink.hurry()
            del held[bit]

    def _maintenance_wait_ms(self) -> int:
        if not self.maintenance.seconds or self.sampler.is_busy:
            return _WAIT_MS_MAX
        return self.maintenance.left_s() * 1000

    def _keep_state(self, raised: int, maintenance_s: int, code: int, state: int, detail: "Detail") -> None:
        time, tq = self.record_time()
        shape = bytes((len(self.alarms.rules), len(self._checkers)))  # as boots.alarm_state asks it
        kept = pack(">I", raised) + shape + self.maintenance.packed(maintenance_s)
        payload = records.pack_event(time, tq, code, state, detail)
        try:
            records.keep_once(
                self.outbox, lambda intent: self._alarm_file.save(kept + intent), records.EVENT, payload
            )
        except (StorageError, OSError):
            # Another record may get that seq: a state without its event must not outlive this life.
            before = (
                pack(">I", self.alarms.raised) + shape + self.maintenance.packed(self.maintenance.left_s())
            )
            self._alarm_file.save(before)
            raise

    def _tell_lost(self) -> None:
        lost = self.outbox.lost()
        if lost is not None:
            self._keep_event(codes.RECORDS_LOST, messages.NOTE, [lost[0], lost[1]])
            self.outbox.lost_told()

    # -- what the gateway says ------------------------------------------------------------------------------

    def _open(self, frame: bytes) -> None:
        """Act upon a frame that may be believed; each refusal is counted by its reason."""
        try:
            message, reply = self.session.open(frame, self._hello)
        except WireError as exc:
            self.health.refused(exc.reason)
            return
        except (StorageError, OSError) as exc:
            self.health.flash_failed(exc)
            return
        if reply is not None:
            self.carrier.send(reply, True)
        if message is not None:
            self._act(message)

    def _act(self, message: "Down") -> None:
        if self.session.epoch is not None:
            # These do something only after a join.
            self.outbox.offer_again(self.session.epoch)
            self.outbox.begin_epoch(self.session.epoch)
        if self.uplink.is_silent:
            # Whoever answers may not know how often it will hear of this node, nor how it is.
            self.status_at_s = min(self.status_at_s, self.hal.clock.uptime_s() + _TELL_AFTER_S)
        self.uplink.heard()
        if isinstance(message, messages.Ack):
            self.uplink.acknowledged(message)
        elif isinstance(message, messages.Time):
            self._set_clock(message.seconds, message.millis)
        elif isinstance(message, messages.Command):
            self.commands.receive(message)
        elif isinstance(message, messages.Settings):
            self._take_settings(message)
        elif isinstance(message, messages.Ping):
            self._answer_ping()
        else:
            from firmware import offers  # on the heap for this moment only

            offers.take(self, message)
            offers.close()

    def _set_clock(self, seconds: int, millis: int) -> None:
        drift_s = self.hal.clock.drift_s()
        step_s = self.hal.clock.set(seconds, millis)
        self.maintenance.clock_set()
        self.schedule.replan(self.interval_s())
        if abs(step_s) >= CLOCK_STEP_S + drift_s:
            self.health.clock_steps += 1
            self._keep_event(codes.CLOCK_STEPPED, messages.NOTE, step_s)

    def _take_settings(self, message: "messages.Settings") -> None:
        from firmware import operations  # on the heap for this moment only

        operations.receive(self, message)
        forget("firmware.operations")

    def _answer_ping(self) -> None:
        now_ms = self.hal.clock.ticks_ms()
        # At most one a second; a difference that wrapped is long ago.
        if not 0 <= self.hal.clock.ticks_diff(now_ms, self._pinged_at_ms) < _PING_PAUSE_MS:
            self._pinged_at_ms = now_ms
            self._send_status()

    # -- what the node says of itself -----------------------------------------------------------------------

    def _hello(self) -> "Hello":
        from firmware import reports  # on the heap for this moment only

        hello = reports.hello(self)
        forget("firmware.reports")
        return hello

    def _status_wait_ms(self) -> int:
        wait_s = self.status_at_s - self.hal.clock.uptime_s()
        return _WAIT_MS_MAX if self.uplink.is_silent else max(0, min(wait_s * 1000, _WAIT_MS_MAX))

    def _send_status(self) -> None:
        status_s = self.settings[STATUS_S]
        if self.nap is not None:
            status_s = self.nap.status_s(status_s)
        self.status_at_s = self.hal.clock.uptime_s() + status_s
        from firmware import reports

        status = reports.status(self)
        forget("firmware.reports")
        self.uplink.send_aside(status)

    def sensor_errors(self) -> int:
        before = 0 if self.nap is None else self.nap.sensor_errors
        return before + self.sampler.errors() + (0 if self.watch is None else self.watch.errors)
