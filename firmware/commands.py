"""Commands: executed at most once, each with a kept result.

The id is durable before anything is done, the result is kept in the outbox like any record. What a reset interrupted is
answered "failed" at the next start: nobody can say how far it came, and it is not done again.
"""

from firmware import records
from firmware.durable import Commands
from protocols.wire import codes, messages
from protocols.wire.limits import MAX_DETAIL_TEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from firmware.node import Node
    from protocols.wire.messages import Command, Detail

# Commands that wait for the one before them (only a reading takes longer than a moment).
_QUEUE_MAX = 4
# Time for the result of a reboot to reach the gateway before the reboot.
_REBOOT_AFTER_S = 5
_WAIT_MS_MAX = 60000


class CommandRunner:
    def __init__(self, node: "Node") -> None:
        self._node = node
        self._store = Commands(node.hal.state_fs)
        self._queue: "list[tuple[Command, int]]" = []  # with the uptime of its arrival
        self._reading = False  # a "read now" waits for its set
        self._reboot_at_s = -1
        self._dark_at_s = -1  # when identify ends
        if self._store.latest and not self._store.result:
            self._end(messages.FAILED, "interrupted by a reset")
        else:
            records.finish(node.outbox, self._store.result)

    def receive(self, command: "Command") -> None:
        """Take a command in; a known id is not done again: its result is kept, and offered until it is acknowledged."""
        if command.command_id > self._store.latest and len(self._queue) < _QUEUE_MAX:
            self._queue.append((command, self._node.hal.clock.uptime_s()))

    def poll(self) -> None:
        """Begin what waits, end what has ended."""
        now_s = self._node.hal.clock.uptime_s()
        while self._queue and not self._reading and self._reboot_at_s < 0:
            command, arrived_s = self._queue.pop(0)
            if command.command_id > self._store.latest:
                self._begin(command, now_s - arrived_s)
        if 0 <= self._dark_at_s <= now_s:
            self._dark_at_s = -1
            self._node.hal.identify(False)
        if 0 <= self._reboot_at_s <= now_s:
            self._reboot_at_s = -1
            self._node.outbox.flush()
            self._node.hal.reset()

    def wait_ms(self) -> int:
        """Milliseconds until poll() has something to do."""
        now_s = self._node.hal.clock.uptime_s()
        ends_s = [at_s for at_s in (self._dark_at_s, self._reboot_at_s) if at_s >= 0]
        return max(0, min(ends_s) - now_s) * 1000 if ends_s else _WAIT_MS_MAX

    def set_kept(self, seq: int) -> None:
        """A measurement has ended; seq 0: its set could not be kept."""
        if self._reading:
            self._reading = False
            if seq:
                self._node.uplink.hurry()
                self._end(messages.DONE, seq)
            else:
                self._end(messages.FAILED, "the set could not be kept")

    def _begin(self, command: "Command", waited_s: int) -> None:
        self._store.begin(command.command_id)
        problem = codes.command_problem(command.op, command.args)
        if waited_s > command.ttl_s:
            self._end(messages.EXPIRED, waited_s)
        elif command.op not in _OPERATIONS:
            self._end(messages.UNKNOWN_OPERATION, command.op)
        elif problem:
            self._end(messages.REFUSED, problem[:MAX_DETAIL_TEXT])
        else:
            _OPERATIONS[command.op](self, command.args)

    def _end(self, outcome: int, detail: "Detail") -> None:
        node = self._node
        time, tq = node.record_time()
        payload = records.pack_result(time, tq, self._store.latest, outcome, detail)
        records.keep_once(node.outbox, self._store.end, records.RESULT, payload)

    def _identify(self, seconds: int) -> None:
        self._node.hal.identify(seconds > 0)
        self._dark_at_s = self._node.hal.clock.uptime_s() + seconds
        self._end(messages.DONE, None)

    def _reboot(self, _: None) -> None:
        self._reboot_at_s = self._node.hal.clock.uptime_s() + _REBOOT_AFTER_S
        self._end(messages.DONE, None)

    def _read_now(self, _: None) -> None:
        self._reading = True
        self._node.begin_measurement()

    def _set_interval(self, seconds: int) -> None:
        self._node.set_interval(seconds)
        self._end(messages.DONE, seconds)

    def _report_settings(self, _: None) -> None:
        self._node.report_settings()
        self._end(messages.DONE, None)


_OPERATIONS: "dict[int, Callable[[CommandRunner, Any], None]]" = {
    codes.IDENTIFY: CommandRunner._identify,
    codes.REBOOT: CommandRunner._reboot,
    codes.READ_NOW: CommandRunner._read_now,
    codes.SET_INTERVAL: CommandRunner._set_interval,
    codes.REPORT_SETTINGS: CommandRunner._report_settings,
}
