"""A Modbus device of the simulated street: registers, and bad manners on request. Bytes in, bytes out, no clock.

Written from the application protocol specification V1.1b3 and "Modbus over serial line" V1.02, and sharing nothing
with the gateway's side: what both get wrong together would not be found.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
BIT_FUNCTIONS, REGISTER_FUNCTIONS = (1, 2), (3, 4)


def crc16(data: bytes) -> bytes:
    """The two bytes that end an RTU frame, low one first."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc.to_bytes(2, "little")


def rtu(unit: int, pdu: bytes) -> bytes:
    """An RTU frame."""
    body = bytes([unit]) + pdu
    return body + crc16(body)


def mbap(number: int, unit: int, pdu: bytes) -> bytes:
    """A Modbus TCP frame."""
    return number.to_bytes(2, "big") + b"\0\0" + (len(pdu) + 1).to_bytes(2, "big") + bytes([unit]) + pdu


class Manner(NamedTuple):
    """How the next answer goes wrong.

    silence; late (by `delay_s`); wrong_unit; crc; exception (`code`); split (into pieces of `size`, `delay_s` apart);
    reset (stops after `size` bytes and is silent for `delay_s`); noise (`size` bytes before the answer); mute (takes
    the request, and does not answer: a write is carried out).
    """

    kind: str
    delay_s: float = 0.0
    code: int = 4
    size: int = 3


class Piece(NamedTuple):
    """Bytes on the line, `delay_s` after the end of the request."""

    delay_s: float
    data: bytes


class Slave:
    """One unit id. Registers that are in no map are illegal addresses."""

    def __init__(
        self,
        unit: int,
        *,
        holding: Mapping[int, int] | None = None,
        inputs: Mapping[int, int] | None = None,
        coils: Mapping[int, int] | None = None,
        discrete: Mapping[int, int] | None = None,
        turnaround_s: float = 0.02,
        seed: int = 0,
    ) -> None:
        self.unit = unit
        self.maps: dict[int, dict[int, int]] = {
            1: dict(coils or {}),
            2: dict(discrete or {}),
            3: dict(holding or {}),
            4: dict(inputs or {}),
        }
        self.turnaround_s = turnaround_s
        self.is_dead = False
        self.is_measuring = True
        self.switches: dict[
            tuple[int, int, int], bool
        ] = {}  # (function, address, count) that start or stop it
        self.identity: dict[
            int, bytes
        ] = {}  # what it says of itself, by object; empty: it has not the function
        self.identity_room = 253  # bytes of one answer
        self.has_mask_write = True
        self.registers_max = 125
        self.answers_at_most = 125  # a longer read is answered with so many registers, and no exception
        self.requests: list[bytes] = []  # the latest, PDUs
        self.answered = 0
        self.writes: list[tuple[float, int, tuple[int, ...]]] = []
        self._manners: deque[Manner] = deque()
        self._random = random.Random(seed)
        self._habits: list[tuple[float, Manner]] = []
        self._silent_until_s = 0.0

    def misbehave(self, manner: Manner, times: int = 1) -> None:
        """Answer the next `times` requests so."""
        self._manners.extend([manner] * times)

    def habit(self, probability: float, manner: Manner) -> None:
        """Answer so by chance, from now on."""
        self._habits.append((probability, manner))

    def serve(self, pdu: bytes, now_s: float) -> tuple[bytes | None, Manner | None]:
        """The answer to `pdu`, and how it is to go wrong; None when it says nothing."""
        self.requests = [*self.requests[-63:], pdu]
        if self.is_dead or now_s < self._silent_until_s:
            return None, None
        manner = self._manner()
        if manner is not None and manner.kind == "silence":
            return None, manner
        if manner is not None and manner.kind == "exception":
            return bytes([pdu[0] | 0x80, manner.code]), manner
        answer = self._answer(pdu, now_s)
        if manner is not None and manner.kind == "reset":
            self._silent_until_s = now_s + manner.delay_s
        if manner is not None and manner.kind == "mute":
            return None, manner
        self.answered += 1
        return answer, manner

    def rtu_pieces(self, pdu: bytes, now_s: float) -> list[Piece]:
        """What it puts on a serial line for the request `pdu`."""
        answer, manner = self.serve(pdu, now_s)
        if answer is None:
            return []
        return self.shaped(rtu(self._unit_of(manner), answer), manner)

    def tcp_pieces(self, number: int, pdu: bytes, now_s: float) -> list[Piece]:
        """What it sends on a connection for request `number`."""
        answer, manner = self.serve(pdu, now_s)
        if answer is None:
            return []
        return self.shaped(mbap(number, self._unit_of(manner), answer), manner)

    def _unit_of(self, manner: Manner | None) -> int:
        return self.unit % 247 + 1 if manner is not None and manner.kind == "wrong_unit" else self.unit

    def shaped(self, frame: bytes, manner: Manner | None) -> list[Piece]:
        """`frame` as its manners have it."""
        at_s = self.turnaround_s
        match manner.kind if manner else "":
            case "late" if manner:
                return [Piece(at_s + manner.delay_s, frame)]
            case "crc":
                return [Piece(at_s, frame[:-1] + bytes([frame[-1] ^ 0xFF]))]
            case "reset" if manner:
                return [Piece(at_s, frame[: manner.size])]
            case "noise" if manner:
                return [Piece(at_s, self._random.randbytes(manner.size) + frame)]
            case "split" if manner:
                cuts = range(0, len(frame), manner.size)
                return [
                    Piece(at_s + manner.delay_s * i, frame[c : c + manner.size]) for i, c in enumerate(cuts)
                ]
        return [Piece(at_s, frame)]

    def _manner(self) -> Manner | None:
        if self._manners:
            return self._manners.popleft()
        return next((manner for share, manner in self._habits if self._random.random() < share), None)

    # --- what it was asked -----------------------------------------------------------------------

    def _answer(self, pdu: bytes, now_s: float) -> bytes:
        function = pdu[0]
        if function in (*BIT_FUNCTIONS, *REGISTER_FUNCTIONS) and len(pdu) == 5:
            return self._read(function, int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big"))
        if function in (5, 6) and len(pdu) == 5:
            value = int.from_bytes(pdu[3:5], "big")
            bits = (int(value == 0xFF00),) if function == 5 else (value,)
            return self._write(function, int.from_bytes(pdu[1:3], "big"), bits, now_s) or pdu
        if function in (15, 16) and len(pdu) >= 6 and len(pdu) == 6 + pdu[5]:
            count = int.from_bytes(pdu[3:5], "big")
            values = (
                tuple(pdu[6 + i // 8] >> i % 8 & 1 for i in range(count))
                if function == 15
                else tuple(int.from_bytes(pdu[6 + 2 * i : 8 + 2 * i], "big") for i in range(count))
            )
            return self._write(function, int.from_bytes(pdu[1:3], "big"), values, now_s) or pdu[:5]
        if function == 22 and len(pdu) == 7 and self.has_mask_write:
            address, and_mask, or_mask = (int.from_bytes(pdu[i : i + 2], "big") for i in (1, 3, 5))
            now = self.maps[3].get(address, 0)
            return self._write(22, address, ((now & and_mask) | (or_mask & ~and_mask),), now_s) or pdu
        if function == 43 and len(pdu) == 4 and pdu[1] == 14 and self.identity:
            return self._identify(pdu[2], pdu[3])
        return bytes([function | 0x80, ILLEGAL_FUNCTION])

    def _identify(self, code: int, first: int) -> bytes:
        """Its objects from `first` on, as many as there is room for."""
        level = 0x81 if max(self.identity) <= 2 else 0x82
        last = {1: 2, 2: 127, 3: 255, 4: first}.get(code, -1)
        if last < 0:
            return bytes([0xAB, ILLEGAL_VALUE])
        numbers = [number for number in sorted(self.identity) if first <= number <= last]
        if not numbers and code == 4:
            return bytes([0xAB, ILLEGAL_ADDRESS])
        objects, count, following = b"", 0, 0
        for number in numbers or sorted(self.identity):
            one = bytes([number, len(self.identity[number])]) + self.identity[number]
            if count and 7 + len(objects + one) > self.identity_room:
                following = number
                break
            objects, count = objects + one, count + 1
        more = 0xFF if following else 0
        return bytes([43, 14, code, level, more, following, count]) + objects

    def _read(self, function: int, address: int, count: int) -> bytes:
        switch = self.switches.get((function, address, count))
        if switch is not None:
            self.is_measuring = switch
            return bytes([function, 0]) if count == 0 else bytes([function, 2 * count]) + bytes(2 * count)
        if not 1 <= count <= (2000 if function in BIT_FUNCTIONS else self.registers_max):
            return bytes([function | 0x80, ILLEGAL_VALUE])
        table = self.maps[function]
        if not all(where in table for where in range(address, address + count)):
            return bytes([function | 0x80, ILLEGAL_ADDRESS])
        values = [table[where] if self.is_measuring else 0 for where in range(address, address + count)]
        if function in REGISTER_FUNCTIONS:
            values = values[: self.answers_at_most]
            count = len(values)
        if function in REGISTER_FUNCTIONS:
            return bytes([function, 2 * count]) + b"".join(value.to_bytes(2, "big") for value in values)
        packed = bytearray(-(-count // 8))
        for i, value in enumerate(values):
            packed[i // 8] |= value << i % 8
        return bytes([function, len(packed)]) + bytes(packed)

    def _write(self, function: int, address: int, values: tuple[int, ...], now_s: float) -> bytes | None:
        """Carry it out; an exception, or None when it was."""
        table = self.maps[1 if function in (5, 15) else 3]
        if not all(where in table for where in range(address, address + len(values))):
            return bytes([function | 0x80, ILLEGAL_ADDRESS])
        table.update(zip(range(address, address + len(values)), values, strict=True))
        self.writes.append((now_s, address, values))
        return None


def truth(unit: int, address: int) -> int:
    """What a register of a test street holds: nobody else's value at any other address."""
    return (unit * 7919 + address * 31 + 1) & 0xFFFF


def block(unit: int, addresses: Iterable[int]) -> dict[int, int]:
    """Registers at `addresses`, each with its own value."""
    return {address: truth(unit, address) for address in addresses}
