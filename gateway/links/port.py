"""Serial ports with our framing on them: payloads in, payloads out, and a port that always comes back.

pyserial opens and configures a port (and locks it with flock, so a flash tool or a second gateway is told
it is in use); from then on its file descriptor belongs to the event loop. A port is named by any path,
best by-id: when it vanishes it is closed, and the path is looked up again until it is there, whatever
number the kernel gives it.

A port can be handed over for a while (`release`): another program on this machine has it, and it comes back by itself.

DTR and RTS stay as the kernel sets them at opening, both asserted: on boards with the usual
two-transistor reset circuit that is "run", and any other order of setting them one by one passes through
"reset".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import serial

from gateway import limits
from gateway.absences import Absences
from gateway.errors import LinkError
from gateway.links.tail import DOWN, TEXT, UP, Tail
from gateway.log import Logger
from gateway.serial_problem import serial_problem
from protocols.wire import framing


class Timing(NamedTuple):
    """The pauses of a link in seconds; see limits.py for why."""

    absent_s: float = limits.SERIAL_ABSENT_RETRY_S
    retry_min_s: float = limits.SERIAL_RETRY_MIN_S
    retry_max_s: float = limits.SERIAL_RETRY_MAX_S
    check_s: float = limits.SERIAL_CHECK_S


class Handed(NamedTuple):
    """A port that another program has."""

    until_s: float  # monotonic
    who: str
    why: str


class Port(Protocol):
    """The part of serial.Serial that is used."""

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class Counters:
    """What /metrics shows of a port, beside `SerialPort.refused`."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "frames_in",
        "frames_out",
        "log_dropped",
        "log_lines",
        "losses",
        "open_errors",
        "opens",
        "other_channel",
        "queue_dropped",
        "released",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    bytes_in: int
    bytes_out: int
    frames_in: int
    frames_out: int
    log_dropped: int
    log_lines: int
    losses: int
    open_errors: int
    opens: int
    other_channel: int
    queue_dropped: int
    released: int


def open_port(path: str, baud: int) -> Port:
    """Open `path` exclusively. Raises LinkError that says why not and what to do."""
    try:
        return serial.Serial(path, baud, timeout=0, write_timeout=0, exclusive=True)
    except (OSError, ValueError, termios.error) as exc:  # SerialException is an OSError
        raise LinkError(serial_problem(path, exc)) from exc


class SerialPort:
    """One port, for a link to build on: `_take` gets every intact payload, `run()` keeps the port open."""

    def __init__(
        self,
        name: str,
        path: str,
        baud: int,
        log: Logger,
        *,
        on_progress: Callable[[], None] = lambda: None,
        on_state: Callable[[Any], None] = lambda port: None,
        timing: Timing = Timing(),  # noqa: B008  (immutable)
        opener: Callable[[str, int], Port] = open_port,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.path = path
        self.baud = baud
        self.counters = Counters()
        self.is_open = False
        self.last_error = ""
        self._on_progress = on_progress
        self.on_state = on_state
        self._log = log.bind(link=name)
        self._timing = timing
        self._opener = opener
        self._monotonic = monotonic
        self._fd = -1
        self._decoder = framing.Decoder()
        self._refused = {"crc": 0, "oversize": 0, "noise_bytes": 0}
        self._queue: deque[tuple[float, bytes]] = deque()
        self._partial = b""  # what the port has not taken yet of the frame being written
        self._lost: asyncio.Future[str] | None = None
        self._log_budget = _LogBudget(monotonic)
        self.tail = Tail(monotonic)
        self.handed: Handed | None = None
        self._handed_s = 0.0  # since when
        self._absences = Absences()
        self._free = asyncio.Event()  # the device is closed, and nobody is opening it
        self._free.set()
        self._wake = asyncio.Event()  # handed over, or taken back

    def _take(self, channel: int, payload: bytes) -> bool:
        """Take what came in; False when that channel is not ours."""
        raise NotImplementedError

    def _opened(self) -> None:
        """The port was opened: what the far side was told before is void."""

    # --- life ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Open the port, serve it until it is lost, and again; ends only by cancellation."""
        pause_s = self._timing.retry_min_s
        while True:
            self._on_progress()
            if self.handed is not None:
                await self._stay_away(self.handed)
                pause_s = self._timing.retry_min_s
                continue
            if not _is_there(self.path):
                self._failed(f"{self.path}: no such port")
                await self._pause(self._timing.absent_s)
                continue
            self._free.clear()
            try:
                await self._open_and_serve()
                pause_s = self._timing.retry_min_s
            except LinkError as exc:
                self._free.set()
                self._failed(str(exc))
                await self._pause(pause_s)
                pause_s = min(pause_s * 2, self._timing.retry_max_s)
            finally:
                self._free.set()

    async def _open_and_serve(self) -> None:
        port = await self._open()
        if self.handed is None:
            await self._serve(port)
        else:  # while it was being opened
            await asyncio.to_thread(_close, port, port.fileno())

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until the port is handed over or taken back."""
        self._wake.clear()
        # Not wait_for: it loses a cancellation that comes together with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    # --- handing over ----------------------------------------------------------------------------

    async def release(self, seconds: float, who: str, why: str) -> None:
        """Close the port and leave it alone for so long, or until `take`. Returns when the device is free."""
        now_s = self._monotonic()
        if self.handed is None:  # what it was excused for until then is not counted twice
            self._handed_s = max(now_s, self._absences.end())
        self.handed = Handed(now_s + seconds, who, why)
        self.counters.released += 1
        self.last_error = f"handed over to {who} for {seconds:.0f} s ({why})"
        self._log.warning("port_released", seconds=seconds, who=who, why=why)
        self._lose(self.last_error)
        self._wake.set()
        await self._free.wait()

    def take(self, who: str) -> bool:
        """Open the port again; False when it was not handed over."""
        if self.handed is None:
            return False
        now_s = self._monotonic()
        if now_s > self._handed_s:
            # And some more: a node that was not answered meanwhile says hello seldom.
            self._absences.add(self._handed_s, now_s + min(limits.RETURN_S, 2 * (now_s - self._handed_s)))
        self.handed = None
        self.last_error = ""
        self._log.info("port_taken_back", who=who)
        self._wake.set()
        return True

    def handed_left_s(self) -> float:
        """How long it still is with another program; 0 when it is not."""
        return 0.0 if self.handed is None else max(0.0, self.handed.until_s - self._monotonic())

    def absent_s(self, since_s: float, now_s: float) -> float:
        """For how much of that time somebody else had the port: nobody listened here, and no node is to blame."""
        still_s = 0.0 if self.handed is None else max(0.0, now_s - max(since_s, self._handed_s))
        return self._absences.within(since_s, now_s) + still_s

    async def _stay_away(self, handed: Handed) -> None:
        """Until the time is up or somebody takes it back; looks in now and then, to tell that all is well."""
        left_s = self.handed_left_s()
        if left_s > 0:
            await self._pause(min(left_s, self._timing.check_s))
        elif self.handed is handed:
            self.take("the time is up")

    async def _open(self) -> Port:
        """Open in a thread: a hung USB device answers its driver after seconds, and other ports go on."""
        opening = asyncio.ensure_future(asyncio.to_thread(self._opener, self.path, self.baud))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unwanted)
            raise

    def _failed(self, message: str) -> None:
        """Count a failed opening; log it once, not twice a second for the weekend a cable is out."""
        if self.handed is not None:  # meanwhile: what is told of this port is who has it
            return
        self.counters.open_errors += 1
        if message != self.last_error:
            self._log.warning("port_unavailable", reason=message)
            self.last_error = message
        self.on_state(self)

    async def _serve(self, port: Port) -> None:
        loop = asyncio.get_running_loop()
        self._lost = loop.create_future()
        self._fd = fd = port.fileno()
        os.set_blocking(fd, False)
        self._decoder = framing.Decoder()
        self._set_open(True)
        try:
            loop.add_reader(fd, self._readable)
            reason = await self._until_lost(fd, self._lost)
            if self.handed is None:
                self.counters.losses += 1
                self.last_error = reason
                self._log.warning("port_lost", reason=reason)
        finally:
            loop.remove_reader(fd)
            loop.remove_writer(fd)
            self._queue.clear()  # a downlink for the far side of another cable, or too late: never sent
            self._partial = b""
            self._fd = -1
            self._lost = None
            self._add_decoder_counters()
            self._set_open(False)
            await asyncio.to_thread(_close, port, fd)

    async def _until_lost(self, fd: int, lost: asyncio.Future[str]) -> str:
        """Wait until the port fails, or its path names another device."""
        device = os.fstat(fd).st_rdev
        while True:
            self._on_progress()
            done, _ = await asyncio.wait((lost,), timeout=self._timing.check_s)
            if done:
                return lost.result()
            try:
                if os.stat(self.path).st_rdev != device:
                    return "the path names another device now"
            except OSError:
                return "unplugged: the path is gone"

    def _set_open(self, is_open: bool) -> None:
        self.is_open = is_open
        if is_open:
            self.counters.opens += 1
            self.last_error = ""
            self._log.info("port_open", path=self.path, baud=self.baud)
            self._opened()
        self.on_state(self)

    def _lose(self, reason: str) -> None:
        if self._lost is not None and not self._lost.done():
            asyncio.get_running_loop().remove_reader(self._fd)
            asyncio.get_running_loop().remove_writer(self._fd)
            self._lost.set_result(reason)

    # --- in --------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, limits.SERIAL_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as exc:
            self._lose(f"read: {exc.strerror}")
            return
        if not data:  # a tty that was hung up
            self._lose("unplugged: end of file")
            return
        self._came(data)

    def _came(self, data: bytes) -> None:
        self.counters.bytes_in += len(data)
        for channel, payload in self._decoder.feed(data):
            if self._take(channel, payload):
                self.counters.frames_in += 1
                self.tail.add(UP, payload)
            else:
                self.counters.other_channel += 1
        self._console()

    def _console(self) -> None:
        """Pass on the node's console lines, at a bounded rate: a crash loop must not fill the disk."""
        self.counters.log_dropped += self._decoder.log_lines_dropped
        self._decoder.log_lines_dropped = 0
        for line in self._decoder.take_log():
            self.counters.log_lines += 1
            self.tail.add(TEXT, line[: limits.NODE_LOG_CHARS_MAX])
            if self._log_budget.take():
                self._log.debug("node_console", line=line[: limits.NODE_LOG_CHARS_MAX])
            else:
                self.counters.log_dropped += 1

    # --- out -------------------------------------------------------------------------------------

    def _put(self, payload: bytes, channel: int) -> bool:
        """Queue `payload`; False while the port is closed."""
        if self._fd < 0 or self._lost is None or self._lost.done():
            return False
        if len(self._queue) >= limits.SERIAL_QUEUE_FRAMES_MAX:
            self._queue.popleft()
            self.counters.queue_dropped += 1
        was_idle = not self._queue and not self._partial
        self._queue.append((self._monotonic(), framing.encode(payload, channel)))
        self.tail.add(DOWN, payload)
        if was_idle:
            self._writable()
        return True

    @property
    def queued(self) -> int:
        """Frames that the port has not taken yet."""
        return len(self._queue) + bool(self._partial)

    def _writable(self) -> None:
        """Write until the port takes no more, then wait for it to become writable."""
        loop = asyncio.get_running_loop()
        while self._partial or self._queue:
            if not self._partial and not self._next_partial():
                continue
            try:
                count = os.write(self._fd, self._partial)
            except BlockingIOError:
                count = 0
            except OSError as exc:
                self._lose(f"write: {exc.strerror}")
                return
            self.counters.bytes_out += count
            self._partial = self._partial[count:]
            if self._partial:
                loop.add_writer(self._fd, self._writable)
                return
            self.counters.frames_out += 1
        loop.remove_writer(self._fd)

    def _next_partial(self) -> bool:
        """Take the next frame; False when it has become too old to be of use."""
        queued_s, data = self._queue.popleft()
        if self._monotonic() - queued_s > limits.SERIAL_QUEUE_AGE_MAX_S:
            self.counters.queue_dropped += 1
            return False
        self._partial = data
        return True

    def picture(self) -> dict[str, float]:
        """Counters for /metrics and status."""
        counters = {name: getattr(self.counters, name) for name in self.counters.__slots__}
        refused = {f"refused_{reason}": count for reason, count in self.refused.items()}
        now = {"open": float(self.is_open), "queued": self.queued, "handed_over_s": self.handed_left_s()}
        return {**counters, **refused, **now}

    @property
    def refused(self) -> dict[str, int]:
        """What the frame decoder refused since the start: frames by reason, and bytes of noise."""
        now = self._decoder
        return {
            "crc": self._refused["crc"] + now.crc_errors,
            "oversize": self._refused["oversize"] + now.oversize,
            "noise_bytes": self._refused["noise_bytes"] + now.noise_bytes,
        }

    def _add_decoder_counters(self) -> None:
        self._refused = self.refused
        self._decoder = framing.Decoder()


def _is_there(path: str) -> bool:
    """One stat() of a device node, a matter of microseconds."""
    return os.path.exists(path)


def _close(port: Port, fd: int) -> None:
    """Close without waiting for bytes that a hung device will never take (the kernel would wait for 30 s)."""
    with contextlib.suppress(OSError, termios.error):
        termios.tcflush(fd, termios.TCIOFLUSH)
    with contextlib.suppress(OSError, termios.error):
        port.close()


def _close_unwanted(opening: asyncio.Future[Port]) -> None:
    """The link was stopped while its port was being opened."""
    if not opening.cancelled() and opening.exception() is None:
        port = opening.result()
        _close(port, port.fileno())


class _LogBudget:
    """So many lines in each period."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._left = 0
        self._until = float("-inf")

    def take(self) -> bool:
        now = self._monotonic()
        if now >= self._until:
            self._until = now + limits.NODE_LOG_PERIOD_S
            self._left = limits.NODE_LOG_LINES_MAX
        self._left -= 1
        return self._left >= 0
