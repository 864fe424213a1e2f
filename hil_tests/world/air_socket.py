"""One air for boards in several processes: `AirServer` beside the air, `FarEther` in place of it where a chip is.

They speak JSON over a socket of the file system that keeps packets apart. A chip asks and waits, as it would call:
an answer comes within a fraction of a millisecond, which is little beside a symbol (1 ms at SF7).

    to the air      ["place", name, spot]  ["transmit", signal]  ["tune", tuning or null]  ["stop"]
                    ["is_active", tuning]  ["rssi_dbm", freq_hz, bw_hz]
    to the chip     ["welcome", radio]  ["answer", value]  ["detected"]  ["heard", reception]

Both ends live on the thread of the virtual boards' hub.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from boards.virtual.clock import BoardClock
from boards.virtual.ether import Antenna, Reception, Signal, Tuning
from boards.virtual.hub import Hub
from flash_tools.radio_plan import Radio
from hil_tests.errors import RigError
from hil_tests.world.air import Air, air_s
from hil_tests.world.propagation import Spot

SOCKET_NAME = "air.sock"
# A board each. One more is refused: the oldest keep their places.
SEATS_MAX = 64
_MESSAGE_MAX = 4096
# An air that does not answer is a process that was stopped: the chip goes on and hears nothing.
_ANSWER_S = 1.0
_SILENCE_DBM = -120.0


class AirServer:
    """Seats for antennas in other processes. `on_change(name, whether it came)` is called on the hub's thread."""

    def __init__(self, hub: Hub, air: Air, folder: Path, radio: Radio) -> None:
        self.seats: list[_Seat] = []
        self.on_change: Callable[[str, bool], None] = lambda name, came: None
        self._hub = hub
        self._air = air
        self._radio = radio
        self._path = folder / SOCKET_NAME
        self._socket = _socket()
        with _Short(folder) as place:
            self._path.unlink(missing_ok=True)
            self._socket.bind(f"{place}/{SOCKET_NAME}")
        self._socket.listen(SEATS_MAX)
        hub.call(lambda: hub.watch(self._socket.fileno(), self._knock))

    def close(self) -> None:
        def end() -> None:
            self._hub.forget(self._socket.fileno())
            self._socket.close()
            for seat in tuple(self.seats):
                self._leave(seat)

        self._hub.call(end)
        self._path.unlink(missing_ok=True)

    def _knock(self, events: int) -> None:
        try:
            end, _ = self._socket.accept()
        except OSError:
            return  # gone before it was let in
        if len(self.seats) >= SEATS_MAX:
            end.close()
            return
        end.setblocking(False)
        seat = _Seat(end)
        self.seats.append(seat)
        seat.tell("welcome", self._radio)
        self._hub.watch(end.fileno(), partial(self._readable, seat))

    def _readable(self, seat: _Seat, events: int) -> None:
        try:
            data = seat.socket.recv(_MESSAGE_MAX)
            if not data:
                raise ConnectionError
            self._obey(seat, *json.loads(data))
        except BlockingIOError:
            return
        except (OSError, ValueError, TypeError, LookupError, RecursionError, RigError):
            self._leave(seat)  # it has ended, or says what no chip says

    def _obey(self, seat: _Seat, what: str, *rest: Any) -> None:
        air = self._air
        if what == "place" and seat.name is None:
            air.place(seat, str(rest[0]), Spot(*rest[1]))
            seat.name = str(rest[0])
            self.on_change(seat.name, True)
        elif what == "transmit":
            air.transmit(seat, _signal(rest[0]))
        elif what == "tune":
            air.tune(seat, None if rest[0] is None else Tuning(*rest[0]))
        elif what == "stop":
            air.stop(seat)
        elif what == "is_active":
            seat.tell("answer", air.is_active(seat, Tuning(*rest[0])))
        elif what == "rssi_dbm":
            seat.tell("answer", air.rssi_dbm(seat, rest[0], rest[1]))
        else:
            raise ValueError(what)

    def _leave(self, seat: _Seat) -> None:
        self._hub.forget(seat.socket.fileno())
        self.seats.remove(seat)
        seat.socket.close()
        if seat.name is not None:
            self._air.remove(seat)
            self.on_change(seat.name, False)


class _Seat:
    """An antenna on the air for one that is elsewhere."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.name: str | None = None

    def detected(self) -> None:
        self.tell("detected")

    def heard(self, reception: Reception) -> None:
        self.tell("heard", [_plain(reception.signal), *reception[1:]])

    def tell(self, *message: Any) -> None:
        try:
            self.socket.send(json.dumps(message).encode())
        except OSError:
            return  # it does not read, or has gone, which recv() will say: it has missed this


class FarEther:
    """The air of another process, for one chip: `attach(chip)` it before the board has power.

    While there is none (`is_open` False) the chip sends into the void; `reach()` tries again.
    """

    def __init__(self, hub: Hub, folder: Path, name: str, spot: Spot) -> None:
        self.radio: Radio | None = None  # of the gateway there; known once it was open
        self.is_open = False
        self._hub = hub
        self._folder = folder
        self._hello = name, spot
        self._chip: Antenna | None = None
        self._tuning: Tuning | None = None
        self._clock = BoardClock(time.time())
        hub.call(lambda: hub.add_clock(self._clock))

    def attach(self, chip: Antenna) -> None:
        self._chip = chip

    def reach(self) -> bool:
        """Whether there is an air now."""
        return self._hub.call(lambda: self.is_open or self._open())

    def close(self) -> None:
        def end() -> None:
            self._lose()
            self._hub.remove_clock(self._clock)

        self._hub.call(end)

    # ---- what a chip calls -----------------------------------------------------------------------------------------

    def transmit(self, antenna: Antenna, signal: Signal, after_s: float = 0.0) -> float:
        self._say_after(after_s, "transmit", _plain(signal))
        return air_s(signal)

    def stop(self, antenna: Antenna) -> None:
        self._say("stop")

    def tune(self, antenna: Antenna, tuning: Tuning | None, after_s: float = 0.0) -> None:
        self._tuning = tuning
        self._say_after(after_s, "tune", tuning)

    def is_active(self, antenna: Antenna, tuning: Tuning) -> bool:
        return bool(self._ask("is_active", tuning, default=False))

    def rssi_dbm(self, antenna: Antenna, freq_hz: int, bw_hz: int) -> float:
        return float(self._ask("rssi_dbm", freq_hz, bw_hz, default=_SILENCE_DBM))

    # ---- the socket ------------------------------------------------------------------------------------------------

    def _open(self) -> bool:
        self._socket = _socket()
        try:
            with _Short(self._folder) as place:
                self._socket.connect(f"{place}/{SOCKET_NAME}")
        except OSError:
            self._socket.close()
            return False
        self.is_open = True
        self._hub.watch(self._socket.fileno(), self._readable)
        what, *rest = self._next() or [""]
        if what != "welcome":
            self._lose()
            return False
        self.radio = tuple(rest[0])
        self._say("place", *self._hello)
        self._say("tune", self._tuning)
        return self.is_open

    def _lose(self) -> None:
        if self.is_open:
            self.is_open = False
            self._hub.forget(self._socket.fileno())
            self._socket.close()

    def _say_after(self, seconds: float, *message: Any) -> None:
        if seconds > 0:
            self._clock.call_later(seconds, lambda: self._say(*message))
        else:
            self._say(*message)

    def _say(self, *message: Any) -> None:
        if not self.is_open:
            return
        try:
            self._socket.send(json.dumps(message).encode())
        except OSError:
            self._lose()

    def _ask(self, *message: Any, default: Any) -> Any:
        self._say(*message)
        while (answer := self._next()) is not None:
            if answer[0] == "answer":
                return answer[1]
            self._clock.call_later(0.0, partial(self._take, *answer))  # not inside the chip's own call
        return default

    def _next(self) -> list[Any] | None:
        """The next message, waited for; None: there is no air (any more)."""
        if not self.is_open:
            return None
        try:
            if select.select([self._socket], [], [], _ANSWER_S)[0] and (
                data := self._socket.recv(_MESSAGE_MAX)
            ):
                return list(json.loads(data))
        except OSError:
            pass  # as when there is no answer
        self._lose()
        return None

    def _readable(self, events: int) -> None:
        # What epoll saw may have been read since, by a chip that waited for an answer.
        if not self.is_open or not select.select([self._socket], [], [], 0)[0]:
            return
        if (message := self._next()) is not None:
            self._take(*message)

    def _take(self, what: str, *rest: Any) -> None:
        if self._chip is None:
            return
        if what == "detected":
            self._chip.detected()
        elif what == "heard":
            signal, *figures = rest[0]
            self._chip.heard(Reception(_signal(signal), *figures))


class _Short:
    """A name for a folder that is short whatever its path: the system takes 108 characters for a socket's."""

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self._fd}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _plain(signal: Signal) -> list[Any]:
    """Ready for JSON: the payload, which is last, as hexadecimal."""
    return [*signal[:-1], signal.payload.hex()]


def _signal(plain: list[Any]) -> Signal:
    return Signal._make([*plain[:-1], bytes.fromhex(plain[-1])])
