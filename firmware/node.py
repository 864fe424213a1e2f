"""A node's whole story: wake, sample, check, keep, send, listen, sleep.

One synchronous object. step() does what is due and says how long it wants to sleep; it never blocks longer than one bus
transaction or one flash write, so thousands of nodes can share a simulated world, and a real one always serves its
link. Everything that fails on the way has a place where it is counted, and the rest of the cycle goes on.
"""

from struct import pack, unpack_from

from firmware import health as health_module
from firmware import nodes, records
from firmware.alarms import Alarms
from firmware.commands import CommandRunner
from firmware.downlink import Downlink
from firmware.durable import Boots, Document, read_file
from firmware.errors import NoIdentity, SettingsError, StorageError
from firmware.health import Health
from firmware.modules import forget
from firmware.outbox import EVENTS, READINGS, Outbox
from firmware.sampling import Checker, Sampler, Schedule
from firmware.session import Identity, Session
from firmware.settings import ALARM_REPEAT_S, INTERVAL_S, REPORT_S, STATUS_S, Settings
from firmware.uplink import Uplink
from firmware.watch import NOTE_BIT
from protocols.wire import codes, messages, quality
from protocols.wire.errors import DecodeError
from protocols.wire.messages import UNSYNCHRONISED
from protocols.wire.readings import schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.alarms import Change
    from firmware.hal import Hal
    from firmware.watch import Watch
    from protocols.wire.messages import Detail, Down, Hello
    from protocols.wire.schemas import Schema

FIRMWARE = "0.1.0"
# Written by minting, never by the node (SPEC.md section 6).
IDENTITY_PATH = "/identity"
OUTBOX_PATH = "/outbox"
# Half of a 512 kB state partition: about 7,000 sets, ten weeks of 15 minutes. littlefs needs room to move blocks.
OUTBOX_BYTES = 256 * 1024

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
    def __init__(self, hal: "Hal") -> None:
        fs = hal.state_fs
        self.hal = hal
        self.identity = _identity(fs)
        self.type = _node_type(self.identity)
        hal.configure(self.identity.board)
        self._boots = Boots(fs).started()
        self.settings = Settings(Document(fs, "settings"), self.type.settings)
        self.health = Health(hal, Document(fs, "traceback"), self._boots)

        self.outbox = Outbox(fs, OUTBOX_PATH, min(OUTBOX_BYTES, _size_of(fs) // 2))
        self.session = Session(fs, self.identity, hal.clock, hal.random)
        if self.session.epoch is not None:
            if self.outbox.is_new:
                # The outbox is gone and the channel is not: its seqs would begin again, and name other records.
                self.session.forget()
            else:
                self.outbox.offer_again(self.session.epoch)
                self.outbox.begin_epoch(self.session.epoch)
        self.uplink = Uplink(hal, self.outbox, self.session, self.health, self._hello)
        self.downlink = Downlink(hal.link, self.session, self.health, self._hello)

        of_schema = schema(self.type.schema_id)
        series = len(of_schema.series)
        self.schedule = Schedule(hal.clock)
        self.watch = self._make_watch()
        self.sampler = Sampler(self.type.sensors(hal, self.watch), series)
        self._checkers = _checkers(self.type, of_schema)
        self._flags = bytearray(series)
        self._begun = (0, UNSYNCHRONISED)  # time and its quality when the measurement began
        self._begun_s = 0  # uptime
        self._finished_s = 0  # uptime when the latest one came to its end
        self._step_from_ms = 0
        self._step_wait_ms = 0

        self._alarm_file = Document(fs, "alarms")
        watch_bits = 0 if self.watch is None else self.watch.bits
        self.alarms = Alarms(self.type.rules, series, self._recover_alarms(), watch_bits)
        if self.watch is not None:
            self.watch.restore(self.alarms.raised >> self.alarms.watch_bit)
        self.commands = CommandRunner(self)
        self._status_at_s = self.settings[STATUS_S]
        self._pinged_at_ms = hal.clock.ticks_ms() - _PING_PAUSE_MS
        self._say_hello()

    # -- one step: sample, listen, send ---------------------------------------------------------------------

    def step(self) -> int:
        """Do what is due; milliseconds until there is more to do, unless something arrives on the link before."""
        watch_ms = self._watch()
        sample_ms = self._sample()
        self._listen()
        send_ms = self._send()
        if self._is_making_progress():
            self.hal.feed_watchdog()
        return max(0, min(watch_ms, sample_ms, send_ms, self.commands.wait_ms(), self._status_wait_ms()))

    def _watch(self) -> int:
        if self.watch is None:
            return _WAIT_MS_MAX
        wait_ms = self.watch.poll()
        try:
            for change in tuple(self.watch.changes()):
                if change.bit == NOTE_BIT:
                    self._keep_event(change.code, change.state, change.detail)
                else:
                    self._keep_alarm(change._replace(bit=self.alarms.watch_bit + change.bit))
                    self.schedule.replan(self.interval_s())
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
        if self.schedule.is_due():
            self.schedule.begin(self.interval_s())
            self.begin_measurement()
        if not self.sampler.is_busy:
            return self.schedule.wait_ms()
        left_ms = self._step_wait_ms - clock.ticks_diff(clock.ticks_ms(), self._step_from_ms)
        if left_ms > 0:
            return left_ms
        wait_ms = self.sampler.step()
        if wait_ms is None:
            self._finish_measurement()
            return self.schedule.wait_ms()
        self._step_from_ms = clock.ticks_ms()
        self._step_wait_ms = wait_ms
        return wait_ms

    def _listen(self) -> None:
        try:
            for message in self.downlink.poll():
                self._act(message)
            self.commands.poll()
        except (StorageError, OSError) as exc:
            self.health.flash_failed(exc)

    def _send(self) -> int:
        try:
            self._tell_lost()
            if self.hal.clock.uptime_s() >= self._status_at_s and not self.uplink.is_silent:
                self._send_status()
            return self.uplink.poll()
        except (StorageError, OSError) as exc:
            self.health.flash_failed(exc)
            return _FLASH_PAUSE_MS

    def _is_making_progress(self) -> bool:
        """A node that steps but never ends a measurement must be reset like one that hangs."""
        return self.hal.clock.uptime_s() - self._finished_s < _PROGRESS_S + 2 * self.settings[INTERVAL_S]

    # -- measure, check, keep -------------------------------------------------------------------------------

    def begin_measurement(self) -> None:
        """Take a set now; one that is under way counts."""
        if not self.sampler.is_busy:
            self.sampler.begin()
            self._begun = self.hal.clock.now()
            self._begun_s = self.hal.clock.uptime_s()
            # Ticks begin anywhere: a first step due "since 0" might be due a minute after the wrap.
            self._step_from_ms = self.hal.clock.ticks_ms()
            self._step_wait_ms = 0

    def _finish_measurement(self) -> None:
        self._finished_s = self.hal.clock.uptime_s()
        time, tq = self._measured_at()
        values = self.sampler.values
        flags = self._flags
        for i, checker in enumerate(self._checkers):
            flags[i] = checker.check(self._begun_s, values[i])
        changes = self.alarms.update(values, flags)
        seq = 0
        try:
            # The event first: it is small, and if the power goes between the two the alarm is what must be there.
            for change in changes:
                self._keep_alarm(change)
            payload = records.pack_set(self.type.schema_id, self._on_wire(time, tq), tq, values, flags)
            seq = self.outbox.keep(records.SET, payload)
            self.uplink.kept_set(seq, self.settings[REPORT_S])
            if changes:
                self.uplink.hurry()
            self.commands.set_kept(seq)
        except (StorageError, OSError) as exc:
            self.health.flash_failed(exc)
        self.health.look_at_heap()

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
        return messages.unsynced_time(self._boots, time) if tq == UNSYNCHRONISED else time

    def _keep_event(self, code: int, state: int, detail: "Detail") -> None:
        time, tq = self.record_time()
        self.outbox.keep(records.EVENT, records.pack_event(time, tq, code, state, detail))

    def _keep_alarm(self, change: "Change") -> None:
        """Keep the event and the state it leaves behind, both or neither: a reset neither repeats nor forgets it."""
        time, tq = self.record_time()
        bit = 1 << change.bit
        raised = self.alarms.raised | bit if change.state == messages.RAISED else self.alarms.raised & ~bit
        payload = records.pack_event(time, tq, change.code, change.state, change.detail)
        records.keep_once(
            self.outbox,
            lambda intent: self._alarm_file.save(pack(">I", raised) + intent),
            records.EVENT,
            payload,
        )
        self.alarms.apply(change)

    def _make_watch(self) -> "Watch | None":
        if self.type.watch is None:
            return None
        fs = self.hal.state_fs
        return self.type.watch(self.hal, self.settings, lambda name: Document(fs, name))

    def _recover_alarms(self) -> int:
        """The alarms that are raised, once the event of the latest change is in the outbox."""
        kept = self._alarm_file.load()
        if kept is None:
            return 0
        records.finish(self.outbox, kept[4:])
        return int(unpack_from(">I", kept)[0])

    def _tell_lost(self) -> None:
        lost = self.outbox.lost()
        if lost is not None:
            self._keep_event(codes.RECORDS_LOST, messages.NOTE, [lost[0], lost[1]])
            self.outbox.lost_told()

    # -- what the gateway says ------------------------------------------------------------------------------

    def _act(self, message: "Down") -> None:
        if self.session.epoch is not None:
            # These do something only after a join.
            self.outbox.offer_again(self.session.epoch)
            self.outbox.begin_epoch(self.session.epoch)
        if self.uplink.is_silent:
            # Whoever answers may not know how often it will hear of this node, nor how it is.
            self._status_at_s = min(self._status_at_s, self.hal.clock.uptime_s() + _TELL_AFTER_S)
        self.uplink.heard()
        if isinstance(message, messages.Ack):
            self.uplink.acknowledged(message)
        elif isinstance(message, messages.Time):
            self._set_clock(message.seconds, message.millis)
        elif isinstance(message, messages.Command):
            self.commands.receive(message)
        elif isinstance(message, messages.Settings):
            self._take_settings(message.version, message.document)
        elif isinstance(message, messages.Ping):
            self._answer_ping()

    def _set_clock(self, seconds: int, millis: int) -> None:
        step_s = self.hal.clock.set(seconds, millis)
        self.schedule.replan(self.interval_s())
        if abs(step_s) >= CLOCK_STEP_S:
            self.health.clock_steps += 1
            self._keep_event(codes.CLOCK_STEPPED, messages.NOTE, step_s)

    def _take_settings(self, version: int, document: "dict[int, int]") -> None:
        try:
            self.settings.replace(version, document)
            self.schedule.replan(self.interval_s())
        except SettingsError as exc:
            self.hal.log(str(exc))
        self.report_settings()

    def set_interval(self, seconds: int) -> None:
        self.settings.change(INTERVAL_S, seconds)
        self.schedule.replan(self.interval_s())

    def report_settings(self) -> None:
        """Tell which settings are in force: the answer to a document, taken or refused."""
        self.uplink.send_aside(messages.SettingsReport(self.settings.version, self.settings.document()))

    def _answer_ping(self) -> None:
        now_ms = self.hal.clock.ticks_ms()
        # At most one a second; a difference that wrapped is long ago.
        if not 0 <= self.hal.clock.ticks_diff(now_ms, self._pinged_at_ms) < _PING_PAUSE_MS:
            self._pinged_at_ms = now_ms
            self._send_status()

    # -- what the node says of itself -----------------------------------------------------------------------

    def _hello(self) -> "Hello":
        epoch = self.session.epoch
        return messages.Hello(
            self.session.dn_piv,
            epoch,
            self.outbox.oldest_in(epoch),
            self.outbox.next_seq,
            self.identity.node_type,
            self.identity.board,
            FIRMWARE,
            self._boots,
            self.hal.reset_cause,
        )

    def _status_wait_ms(self) -> int:
        wait_s = self._status_at_s - self.hal.clock.uptime_s()
        return _WAIT_MS_MAX if self.uplink.is_silent else max(0, min(wait_s * 1000, _WAIT_MS_MAX))

    def _send_status(self) -> None:
        self._status_at_s = self.hal.clock.uptime_s() + self.settings[STATUS_S]
        time, tq = self.record_time()
        counters = self.health.counters()
        counters[health_module.OUTBOX_RECORDS] = self.outbox.count(READINGS) + self.outbox.count(EVENTS)
        counters[health_module.OUTBOX_FREE_RECORDS] = self.outbox.free_records
        counters[health_module.RECORDS_EVICTED] = self.outbox.evicted
        counters[health_module.FRAMES_REFUSED] = (
            sum(self.health.refusals.values()) + self.downlink.line_errors
        )
        counters[health_module.SENSOR_ERRORS] = self.sampler.errors() + (
            0 if self.watch is None else self.watch.errors
        )
        counters[health_module.FLASH_ERRORS] = self.health.flash_errors + self.outbox.flash_errors
        counters[health_module.INTERVAL_S] = self.settings[INTERVAL_S]
        counters[health_module.SETTINGS_VERSION] = self.settings.version
        counters[health_module.REPORT_S] = self.settings[REPORT_S]
        if self.settings.has(ALARM_REPEAT_S):
            counters[health_module.ALARM_REPEAT_S] = self.settings[ALARM_REPEAT_S]
        self.uplink.send_aside(messages.Status(self.session.dn_piv, time, tq, counters))

    def _say_hello(self) -> None:
        waiting = self.outbox.count(READINGS) + self.outbox.count(EVENTS)
        self.hal.log(
            "tidegate %s: node %04x, %s on %s, boot %d, reset cause %d, %s, %d records waiting"
            % (
                FIRMWARE,
                self.identity.address,
                self.type.name,
                self.identity.board,
                self._boots,
                self.hal.reset_cause,
                "no epoch" if self.session.epoch is None else "epoch %012x" % self.session.epoch,
                waiting,
            )
        )


def _identity(fs: "Any") -> "Identity":
    """Who this node is, as a plain tuple: the module that reads it is not needed again."""
    from protocols.wire import identity

    data = read_file(fs, IDENTITY_PATH, 256)
    if data is None:
        raise NoIdentity("no file %s on the state partition; mint this node" % IDENTITY_PATH)
    try:
        found = identity.decode(data)
    except DecodeError as exc:
        raise NoIdentity("%s does not hold one (%s); mint this node again" % (IDENTITY_PATH, exc))
    forget("protocols.wire.identity")
    return Identity(found.address, found.master_secret, found.master_salt, found.node_type, found.board)


def _size_of(fs: "Any") -> int:
    """Bytes of the partition."""
    found = fs.statvfs("/")
    return int(found[1] * found[2])


def _checkers(node_type: "nodes.NodeType", of_schema: "Schema") -> "list[Checker]":
    limits = node_type.limits or quality.limits_of(of_schema)
    forget("protocols.wire.limits_table")
    forget("protocols.wire.registry_table")
    return [Checker(one) for one in limits]


def _node_type(identity: "Identity") -> "nodes.NodeType":
    found = nodes.load(identity.node_type)
    if found is None:
        known = ", ".join(sorted(nodes.MODULES))
        raise NoIdentity("node type %s is not in this firmware (it has %s)" % (identity.node_type, known))
    return found
