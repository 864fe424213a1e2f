"""Sets that wander as rivers do, the same on every Python: no float, no random module."""

from protocols.wire import readings
from protocols.wire.errors import DecodeError

REFERENCE = (748, 837, 980, 1258, 1423, -210, 1042, 1234)


class Dice:
    """A small generator of the same numbers everywhere (Park and Miller's, in 31 bits)."""

    def __init__(self, seed: int) -> None:
        self._state = seed or 1

    def below(self, bound: int) -> int:
        self._state = self._state * 48271 % 0x7FFFFFFF
        return (self._state >> 8) % bound


def wander(dice: "Dice", count: int, start: "tuple[int, ...]", noise: int) -> "list[tuple[int, ...]]":
    """``count`` rows of random walks with inertia from ``start``."""
    row = list(start)
    drift = [0] * len(row)
    rows = []
    for _ in range(count):
        for i in range(len(row)):
            drift[i] += dice.below(3) - 1
            row[i] += drift[i] // 2 + dice.below(2 * noise + 1) - noise
        rows.append(tuple(row))
    return rows


def case(seed: int) -> "tuple[readings.Schema, readings.Sets]":
    """One message's worth of sets: any schema, 1 to 96 sets, now and then gaps, flags, jumps and odd times."""
    dice = Dice(seed)
    schema = readings.schema(1 + dice.below(5))
    count = 1 if dice.below(3) == 0 else 2 + dice.below(95 if dice.below(4) == 0 else 7)
    start = tuple([series.centre for series in schema.series])
    rows: list[list[int | None]] = [list(row) for row in wander(dice, count, start, 1 + dice.below(8))]
    if dice.below(4) == 0:
        for _ in range(1 + dice.below(5)):
            rows[dice.below(count)][dice.below(len(start))] = dice.below(1 << 22) * 240 - (1 << 29)
    times = [1790000000]
    for _ in range(count - 1):
        times.append(times[-1] + 900 + (dice.below(7) - 3 if seed % 5 == 0 else 0))
    flags = None
    if dice.below(3) == 0:
        flags = [[1] * len(start) for _ in range(count)]
        flags[dice.below(count)][dice.below(len(start))] = 2 + dice.below(3)
        for _ in range(dice.below(6)):
            n, i = dice.below(count), dice.below(len(start))
            flags[n][i] = 9
            rows[n][i] = None
    kept = None if flags is None else tuple([tuple(row) for row in flags])
    sets = readings.Sets(dice.below(4), tuple(times), tuple([tuple(row) for row in rows]), kept)
    return schema, sets


def garbage_refused(count: int = 1500) -> int:
    """How many of so many random bodies were refused; any exception but DecodeError gets out."""
    dice = Dice(99)
    refused = 0
    for _ in range(count):
        body = bytes([dice.below(256) for _ in range(dice.below(60))])
        try:
            readings.decode(readings.schema(1 + dice.below(5)), 0, body)
        except DecodeError:
            refused += 1
    return refused
