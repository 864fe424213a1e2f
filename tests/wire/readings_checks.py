"""How the golden cases of readings.json and quality.json are checked, on any Python (see vector_checks.py)."""

from protocols.wire import quality, readings
from protocols.wire.errors import DecodeError


class Mismatch(Exception):
    """A golden case that this implementation does not reproduce."""


def _same(got, wanted, what):
    if got != wanted:
        raise Mismatch(f"{what}: got {got!r}, wanted {wanted!r}")


def _rows(case, name):
    return tuple([tuple(row) for row in case[name]]) if name in case else None


def check_readings(case, what):
    """Sets both ways, or a body that must be refused."""
    schema = readings.schema(case["schema"])
    body = bytes.fromhex(case["body"])
    if "refused" in case:
        try:
            got = readings.decode(schema, 1790000000, body)
        except DecodeError:
            return
        raise Mismatch(f"{what}: accepted as {got!r}")
    wanted = readings.Sets(case["tq"], tuple(case["times"]), _rows(case, "rows"), _rows(case, "flags"))
    _same(readings.encode(schema, wanted.tq, wanted.times, wanted.rows, wanted.flags), body, what)
    _same(readings.decode(schema, wanted.times[0], body), wanted, what)


def check_quality(case, what):
    """Every test of quality.py alone against what ioos-qc says."""
    limits = quality.Limits(*case["limits"])
    values = case["values"]
    times = case["times"]
    _same([quality.gross_range(value, limits) for value in values], case["gross"], what + ", gross range")
    spike = quality.Spike(limits)
    late = [spike.next(value) for value in values]
    late.append(spike.next(None))
    _same(late[1:], case["spike"], what + ", spike")
    rate = quality.RateOfChange(limits)
    _same(
        [rate.next(times[i], values[i]) for i in range(len(values))], case["rate"], what + ", rate of change"
    )
    flat = quality.FlatLine(limits)
    _same([flat.next(times[i], values[i]) for i in range(len(values))], case["flat"], what + ", flat line")
