"""Commands: executed at most once, each with a kept result. What each does is in operations.py.

The id is durable before anything is done, the result is kept in the outbox like any record. What a reset interrupted is
answered "failed" at the next start: nobody can say how far it came, and it is not done again.
"""

from firmware import records
from firmware.durable import Commands
from firmware.lane import EVENTS, READINGS
from firmware.modules import forget
from protocols.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.node import Node
    from firmware.sensors import Readings
    from protocols.wire.messages import Command, Detail

# Commands that wait for the one before them (only a reading takes longer than a moment).
_QUEUE_MAX = 4
_WAIT_MS_MAX = 60000
_LOOK_MS = 250


class CommandRunner:
    """``is_reading``: a "read now" waits for its set; ``calibrating``: the args of a "calibrate" that waits for a
    measurement. ``reboot_at_s``, ``dark_at_s`` (when identify ends), ``pass_at_s`` (of ``order``,
    appointment.py): uptimes, -1 when nothing is due.
    """

    # Of the class until one is set: each would be a place in the table of an object that has them for minutes a year.
    reboot_at_s = -1
    dark_at_s = -1
    pass_at_s = -1
    order = b""

    def __init__(self, node: "Node") -> None:
        self.node = node
        self._store = Commands(node.hal.state_fs)
        self._queue: "list[tuple[Command, int]]" = []  # with the uptime of its arrival
        self.is_reading = False
        self.calibrating: "list[int] | None" = None
        self._to_bench = False  # a bench gave the latest one: it is answered aside
        if self._store.latest and not self._store.result:
            self.end(messages.FAILED, "interrupted by a reset")
        else:
            records.finish(node.outbox, self._store.result)

    def receive(self, command: "Command") -> None:
        """Take a command in; a known id is not done again: its result is kept, and offered until it is acknowledged."""
        self._to_bench = self.node.session.is_bench
        if command.command_id > self._store.latest and len(self._queue) < _QUEUE_MAX:
            self._queue.append((command, self.node.hal.clock.uptime_s()))
        elif self._to_bench and command.command_id == self._store.latest and self._store.result:
            from firmware import bench  # on the heap for this moment only

            bench.tell_again(self.node, self._store.result)
            forget("firmware.bench")

    def poll(self) -> None:
        """Begin what waits, end what has ended."""
        now_s = self.node.hal.clock.uptime_s()
        while self._queue and not self.is_reading and self.calibrating is None and self.reboot_at_s < 0:
            command, arrived_s = self._queue.pop(0)
            if command.command_id > self._store.latest:
                self._begin(command, now_s - arrived_s)
        if 0 <= self.dark_at_s <= now_s:
            self.dark_at_s = -1
            self.node.hal.identify(False)
        if 0 <= self.pass_at_s <= now_s:
            from firmware import appointment

            appointment.go(self.node)
            appointment.close()
        if 0 <= self.reboot_at_s <= now_s:
            self.reboot_at_s = -1
            self.node.outbox.flush()
            self.node.hal.reset()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way or waits: the node may sleep."""
        return not (self._queue or self.is_reading or self.reboot_at_s >= 0 or self.dark_at_s >= 0)

    def wait_ms(self) -> int:
        """Milliseconds until poll() has something to do."""
        now_s = self.node.hal.clock.uptime_s()
        wait_ms = _WAIT_MS_MAX
        for at_s in (self.dark_at_s, self.reboot_at_s, self.pass_at_s):
            if at_s >= 0:
                # What is due and has not been done waits for something else, an alarm perhaps: it is looked at again.
                wait_ms = min(wait_ms, max(0, at_s - now_s) * 1000 or _LOOK_MS)
        return wait_ms

    def measured(self, values: "Readings") -> None:
        """A measurement has ended; what the probes said, before any correction."""
        args = self.calibrating
        if args is not None:
            from firmware import calibration  # on the heap for this moment only

            self.calibrating = None
            calibration.take(self, args, values[args[0]])
            forget("firmware.calibration")
            forget("protocols.wire.codes")

    def set_kept(self, seq: int) -> None:
        """The set of a measurement is kept; seq 0: it could not be."""
        if self.is_reading:
            self.is_reading = False
            if seq:
                self.node.uplink.hurry()
                self._tell_bench(READINGS, seq)
                self.end(messages.DONE, seq)
            else:
                self.end(messages.FAILED, "the set could not be kept")

    def end(self, outcome: int, detail: "Detail") -> None:
        """Keep the result of the command that was begun last."""
        node = self.node
        time, tq = node.record_time()
        payload = records.pack_result(time, tq, self._store.latest, outcome, detail)
        self._tell_bench(EVENTS, records.keep_once(node.outbox, self._store.end, records.RESULT, payload))

    def _tell_bench(self, lane: int, seq: int) -> None:
        if self._to_bench:
            from firmware import bench  # on the heap for this moment only

            bench.tell(self.node, lane, seq)
            forget("firmware.bench")

    def _begin(self, command: "Command", waited_s: int) -> None:
        from firmware import operations  # on the heap for this moment only

        self._store.begin(command.command_id)
        operations.begin(self, command, waited_s)
        forget("firmware.operations")
        forget("protocols.wire.codes")
