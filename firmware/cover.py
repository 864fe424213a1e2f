"""When a manhole cover is open, upturned or displaced. Pure: samples of gravity in, changes out.

The pose is the gravity vector of the cover lying as it should, and an alarm is a question about the angle between it
and what is felt now. Samples come about once a second (the chip's FIFO keeps the last half minute, so the seconds
before a wake are known, too), each with its time. What a vehicle makes of a sample is no gravity: such a sample says
nothing, neither for an alarm nor against it.

    tilted      beyond tilt_deg for tilt_hold_s
    upturned    beyond 90 degrees, at once: the time of three samples, since a lorry can turn one upside down
    displaced   beyond displaced_deg for ten minutes; so a tilt of 5 to 15 degrees is found, too, only later

All three end below 8 degrees (displaced: below seven tenths of its limit) for a minute. The heaviest that holds is
told, and those it includes are not: upturned before tilted before displaced. What is raised stays so when a heavier
one comes.
"""

from struct import calcsize, pack, unpack_from

from firmware.alarms import Change
from protocols.wire.messages import CLEARED, RAISED

TYPE_CHECKING = False
if TYPE_CHECKING:
    Vector = tuple[int, int, int]  # milli-g

# Bits of `raised`, and the event codes that belong to them (SPEC.md 2.3).
TILTED = 0
UPTURNED = 1
DISPLACED = 2
CODES = (6, 7, 8)

# A sample whose length is further from 1 g is not gravity alone. Zero-g offset 40 mg and sensitivity 4 % (LIS3DH
# datasheet) already make 80 mg.
_LENGTH_MIN_MG = 880
_LENGTH_MAX_MG = 1120
_UPTURNED_CDEG = 9000
_DISPLACED_S = 600
# While it may be displaced it is looked at this often: it may be on its way to a tilt, too slowly to wake anybody.
_UNSURE_S = 20
_CLEAR_CDEG = 800
_CLEAR_S = 60
# Back below a limit by this counts against it: noise and temperature are half of that.
_HYSTERESIS_CDEG = 100
# Samples in a row before a state is believed to be there, or to be over: what a vehicle leaves by chance is fewer.
_ROW = 3
_STRIKES = 2
# Samples in a row that were not gravity (a vehicle takes two seconds) before the hold of a tilt begins anew.
_BLIND_MAX = 3
_DWELL = ">iBB"  # since, row, strikes

# atan(k / 16) in hundredths of a degree. Linear between them: 0.02 degrees at most.
_ATAN = (0, 358, 713, 1062, 1404, 1735, 2056, 2363, 2657, 2936, 3201, 3451, 3687, 3909, 4119, 4315, 4500)


def angle_cdeg(a: "Vector", b: "Vector") -> int:
    """Hundredths of a degree between two vectors of about 1 g, within 0.05 degrees; no number beyond 2**30."""
    dot = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    # 1/256 of the cross product is 0.015 degrees at 1 g, and its square still a small integer.
    cx = a[1] * b[2] - a[2] * b[1] + 128 >> 8
    cy = a[2] * b[0] - a[0] * b[2] + 128 >> 8
    cz = a[0] * b[1] - a[1] * b[0] + 128 >> 8
    # Times 16 for the root of a small angle: it is 2**4 finer than its square.
    cross = _root((cx * cx + cy * cy + cz * cz) << 4)
    dot = dot + 32 >> 6
    return _atan2(cross, dot) if dot >= 0 else 18000 - _atan2(cross, -dot)


def is_gravity(sample: "Vector") -> bool:
    """Whether a sample is about 1 g long."""
    square = sample[0] * sample[0] + sample[1] * sample[1] + sample[2] * sample[2]
    return _LENGTH_MIN_MG * _LENGTH_MIN_MG <= square <= _LENGTH_MAX_MG * _LENGTH_MAX_MG


def _root(square: int) -> int:
    """Integer square root."""
    if square < 2:
        return square
    root = square
    better = (root + 1) >> 1
    while better < root:
        root = better
        better = (root + square // root) >> 1
    return root


def _atan2(y: int, x: int) -> int:
    return _atan(y, x) if y <= x else 9000 - _atan(x, y)


def _atan(small: int, big: int) -> int:
    if not big:
        return 0
    share = (small << 12) // big
    k = share >> 8
    if k >= 16:
        return _ATAN[16]
    return _ATAN[k] + ((_ATAN[k + 1] - _ATAN[k]) * (share & 255) + 128 >> 8)


class Dwell:
    """For how long something has been so. One sample against it is no end, a few in a row are."""

    def __init__(self) -> None:
        self.since_s = -1  # -1: it is not so
        self.row = 0  # samples in a row for it
        self.strikes = 0  # samples in a row against it

    def look(self, at_s: int, is_so: bool, is_over: bool) -> None:
        """A sample between the two limits (neither so nor over) changes nothing."""
        if is_so:
            if self.since_s < 0:
                self.since_s = at_s
            self.row += 1
            self.strikes = 0
        elif is_over:
            self.row = 0
            self.strikes += 1
            if self.strikes >= _STRIKES:
                self.since_s = -1

    def end(self) -> None:
        self.since_s = -1
        self.row = 0

    def has_held(self, at_s: int, hold_s: int, row: int) -> bool:
        return self.since_s >= 0 and self.row >= row and at_s - self.since_s >= hold_s

    def left_s(self, now_s: int, hold_s: int) -> int:
        """Seconds until it may have held that long; -1: it is not so."""
        if self.since_s < 0:
            return -1
        return max(1, self.since_s + hold_s - now_s)


class Cover:
    """The alarms of one cover. Changes wait in `changes` until `applied`: they are durable then."""

    def __init__(self, pose: "Vector | None") -> None:
        self.pose = pose
        self.limits(15, 5, 5)
        self.angle_cdeg = -1  # of the latest sample that was gravity; -1: there was none
        self.raised = 0
        self.changes: "list[Change]" = []
        self._wanted = 0  # raised, once everything that waits is applied
        self._tilted = Dwell()
        self._upturned = Dwell()
        self._displaced = Dwell()
        self._cleared = Dwell()
        self._blind = 0
        self._in_row = 0  # samples in a row that were gravity

    def limits(self, tilt_deg: int, tilt_hold_s: int, displaced_deg: int) -> None:
        """What the settings say; they may change at any time."""
        self._hold_s = tilt_hold_s
        self._tilt_cdeg = tilt_deg * 100
        self._displaced_cdeg = displaced_deg * 100
        # 15 and 8 degrees belong together; who asks for a smaller tilt gets a smaller end in proportion.
        self._clear_cdeg = min(_CLEAR_CDEG, self._tilt_cdeg * 8 // 15)
        self._back_cdeg = min(_CLEAR_CDEG, self._displaced_cdeg * 7 // 10)

    @property
    def is_steady(self) -> bool:
        """Whether the latest samples were gravity."""
        return self._in_row >= _ROW

    def restore(self, raised: int) -> None:
        self.raised = self._wanted = raised

    def applied(self, change: "Change") -> None:
        del self.changes[0]
        bit = 1 << change.bit
        self.raised = self.raised | bit if change.state == RAISED else self.raised & ~bit

    def learned(self, pose: "Vector") -> None:
        """The cover lies as it should: whatever was raised is over."""
        self.pose = pose
        self.angle_cdeg = 0
        for dwell in self._dwells():
            dwell.end()
        self._clear(0)

    def feed(self, at_s: int, sample: "Vector") -> None:
        """One sample, in order of their times."""
        if self.pose is None:
            return
        if not is_gravity(sample):
            self._look_away()
            return
        self._blind = 0
        self._in_row += 1
        angle = self.angle_cdeg = angle_cdeg(sample, self.pose)
        self._tilted.look(at_s, angle > self._tilt_cdeg, angle < self._tilt_cdeg - _HYSTERESIS_CDEG)
        self._upturned.look(at_s, angle > _UPTURNED_CDEG, angle < _UPTURNED_CDEG - _HYSTERESIS_CDEG)
        self._displaced.look(
            at_s, angle > self._displaced_cdeg, angle < self._displaced_cdeg - _HYSTERESIS_CDEG
        )
        limit = self._end_cdeg()
        self._cleared.look(at_s, angle < limit, angle >= limit)
        self._judge(at_s, angle)

    def wait_s(self, now_s: int) -> int:
        """Seconds until a sample may change something by time alone; -1: all is as it should be, or stays as it is."""
        waits = []
        if not self._wanted & (1 << UPTURNED | 1 << TILTED):
            waits.append(self._tilted.left_s(now_s, self._hold_s))
            if not self._wanted:
                waits.append(min(self._displaced.left_s(now_s, _DISPLACED_S), _UNSURE_S))
        if not self._wanted >> UPTURNED & 1:
            waits.append(self._upturned.left_s(now_s, 0))
        if self._wanted:
            waits.append(self._cleared.left_s(now_s, _CLEAR_S))
        return min([wait for wait in waits if wait >= 0] or [-1])

    # -- over a deep sleep -----------------------------------------------------------------------------------

    def pack(self) -> bytes:
        """What time has brought so far, for the sleep: where it is lost, the holds begin anew."""
        parts = [pack(">hBB", self.angle_cdeg, min(self._in_row, 255), min(self._blind, 255))]
        for dwell in self._dwells():
            parts.append(pack(_DWELL, dwell.since_s, min(dwell.row, 255), min(dwell.strikes, 255)))
        return b"".join(parts)

    def unpack(self, data: bytes) -> None:
        self.angle_cdeg, self._in_row, self._blind = unpack_from(">hBB", data)
        at = calcsize(">hBB")
        for dwell in self._dwells():
            dwell.since_s, dwell.row, dwell.strikes = unpack_from(_DWELL, data, at)
            at += calcsize(_DWELL)

    def _dwells(self) -> "tuple[Dwell, ...]":
        return (self._tilted, self._upturned, self._displaced, self._cleared)

    # -- judging ---------------------------------------------------------------------------------------------

    def _look_away(self) -> None:
        """Nobody knows how the cover lies while a vehicle is on it."""
        self._blind += 1
        self._in_row = 0
        for dwell in self._dwells():
            dwell.row = 0
        if self._blind > _BLIND_MAX:
            self._tilted.end()

    def _end_cdeg(self) -> int:
        if self._wanted & (1 << TILTED | 1 << UPTURNED):
            return self._clear_cdeg
        return self._back_cdeg

    def _judge(self, at_s: int, angle: int) -> None:
        heavier = self._wanted >> UPTURNED & 1
        if not heavier and self._upturned.has_held(at_s, 0, _ROW):
            self._raise(UPTURNED, angle)
            heavier = 1
        heavier |= self._wanted >> TILTED & 1
        if not heavier and self._tilted.has_held(at_s, self._hold_s, _STRIKES):
            self._raise(TILTED, angle)
            heavier = 1
        heavier |= self._wanted >> DISPLACED & 1
        if not heavier and self._displaced.has_held(at_s, _DISPLACED_S, _ROW):
            self._raise(DISPLACED, angle)
        if self._wanted and self._cleared.has_held(at_s, _CLEAR_S, _ROW):
            self._clear(angle)

    def _raise(self, bit: int, angle: int) -> None:
        self._wanted |= 1 << bit
        self._cleared.end()
        self.changes.append(Change(bit, CODES[bit], RAISED, (angle + 50) // 100))

    def _clear(self, angle: int) -> None:
        for bit in range(len(CODES)):
            if self._wanted >> bit & 1:
                self.changes.append(Change(bit, CODES[bit], CLEARED, (angle + 50) // 100))
        self._wanted = 0
