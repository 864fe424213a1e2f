"""Calibration of a probe in two standard solutions (SPEC.md section 2.5).

The node measures in each solution and keeps the pair: what the probe said, and what it should have said. Applied, the
two pairs correct every reading of the series, exactly at both points and in a straight line through them
(sampling.corrected). Slope and offset are what a technician judges a probe by: with a reference point of pH 7 for pH
and zero for the rest,

    probe - reference = offset + slope * (true - reference)

so a perfect probe has slope 1 and offset 0. A probe outside the limits is worn or dirty, or stood in the wrong bottle:
it is refused, and what was in force stays. Nobody calibrates often: this module is on the heap only meanwhile.

One document holds everything: {series: [id, probe0, true0, probe1, true1]} in force, {2 * series + step: [probe, true]}
of points that wait, and the event of the latest calibration until it is kept (records.keep_once).
"""

from struct import pack, unpack_from

from firmware import records
from firmware.durable import Document
from protocols.wire import cbor, codes, messages
from protocols.wire.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.commands import CommandRunner
    from firmware.node import Node

# Series of river8 and river9: reference point, slope from and to in 1/10000, offset at most, in steps of the reading.
# pH: 85 to 105 % of the electrode's 59.16 mV per pH, and 30 mV (0.51 pH) at pH 7. Level and temperature are set by
# whoever mounts the probe, ORP and the others may be off by what their makers give them for a year.
_RIVER = {
    1: (700, 8500, 10500, 51),  # pH
    2: (0, 8000, 12000, 50),  # dissolved oxygen, mg/L in hundredths
    3: (0, 8000, 12000, 30),  # conductivity, uS/cm
    4: (0, 8000, 12000, 50),  # turbidity, NTU in tenths
    5: (0, 9000, 11000, 50),  # ORP, mV
    6: (0, 7500, 12500, 50),  # ammonia nitrogen, mg/L in hundredths
}
ACCEPTANCE = {"river": _RIVER, "river_solar": _RIVER}


def begin(runner: "CommandRunner", args: "list[int]") -> None:
    """Carry out a command "calibrate", or let the node measure for it: take() ends it then."""
    series, step, value = args
    node = runner.node
    if series not in ACCEPTANCE.get(node.identity.node_type, {}):
        known = ", ".join([str(one) for one in sorted(ACCEPTANCE.get(node.identity.node_type, {}))])
        runner.end(messages.REFUSED, "series %d is not calibrated here; %s are" % (series, known or "none"))
    elif step <= codes.CALIBRATE_SPAN:
        runner.calibrating = args
        node.begin_measurement(False)
    elif step == codes.CALIBRATE_DISCARD:
        in_force, points = _load(_document(node).load())
        for step in (codes.CALIBRATE_ZERO, codes.CALIBRATE_SPAN):
            points.pop(2 * series + step, None)
        _document(node).save(_packed(in_force, points))
        runner.end(messages.DONE, None)
    else:
        _apply(runner, series, value)


def take(runner: "CommandRunner", args: "list[int]", probe: "int | None") -> None:
    """The node has measured in a solution; ``probe`` is what the probe said, uncorrected."""
    series, step, value = args
    if probe is None:
        runner.end(messages.FAILED, "the probe gave no value; look at its cable and try again")
        return
    document = _document(runner.node)
    in_force, points = _load(document.load())
    points[2 * series + step] = [probe, value]
    document.save(_packed(in_force, points))
    runner.end(messages.DONE, [probe, value])


def restore(node: "Node", kept: bytes) -> "dict[int, Any]":
    """At start: keep the event that the last run meant to keep; by series the two pairs in force.

    An outbox that was lost took the events with it, and its seqs begin again: what is in force is told once more.
    """
    in_force, _ = _load(kept)
    if not node.outbox.is_new:
        records.finish(node.outbox, _intent(kept))
    else:
        for series, (number, *pairs) in in_force.items():
            time, tq = node.record_time()
            node.outbox.keep(records.EVENT, _event(node, time, tq, series, number, pairs))
    return {series: tuple(found[1:]) for series, found in in_force.items()}


def _apply(runner: "CommandRunner", series: int, number: int) -> None:
    node = runner.node
    document = _document(node)
    in_force, points = _load(document.load())
    zero = points.get(2 * series + codes.CALIBRATE_ZERO)
    span = points.get(2 * series + codes.CALIBRATE_SPAN)
    if zero is None or span is None:
        runner.end(messages.REFUSED, "no %s point yet: measure it first" % ("span" if zero else "zero"))
        return
    pairs = zero + span
    problem = _problem(ACCEPTANCE[node.identity.node_type][series], pairs)
    if problem:
        runner.end(messages.REFUSED, problem)
        return
    in_force[series] = [number] + pairs
    del points[2 * series + codes.CALIBRATE_ZERO], points[2 * series + codes.CALIBRATE_SPAN]
    packed = _packed(in_force, points)
    time, tq = node.record_time()
    event = _event(node, time, tq, series, number, pairs)
    records.keep_once(node.outbox, lambda intent: document.save(packed + intent), records.EVENT, event)
    node.sampler.corrections[series] = tuple(pairs)
    node.uplink.hurry()
    runner.end(
        messages.DONE, [number] + _slope_and_offset(ACCEPTANCE[node.identity.node_type][series][0], pairs)
    )


def _problem(limits: "tuple[int, ...]", pairs: "list[int]") -> str:
    reference, slope_low, slope_high, offset_max = limits
    if pairs[1] == pairs[3]:
        return "both points have one value: use two standards"
    slope, offset = _slope_and_offset(reference, pairs)
    if not slope_low <= slope <= slope_high:
        return "slope %d, allowed %d to %d (1/10000): clean, repeat" % (slope, slope_low, slope_high)
    if not -offset_max <= offset <= offset_max:
        return "offset %d, allowed %d to %d: clean, repeat" % (offset, -offset_max, offset_max)
    return ""


def _slope_and_offset(reference: int, pairs: "list[int]") -> "list[int]":
    """Of the probe: slope in 1/10000, offset at the reference point in steps of the reading; rounded half up."""
    probe0, true0, probe1, true1 = pairs
    over = 2 * (true1 - true0)
    slope = (20000 * (probe1 - probe0) + over // 2) // over
    at_reference = probe0 + (2 * (reference - true0) * (probe1 - probe0) + over // 2) // over
    return [slope, at_reference - reference]


def _event(node: "Node", time: int, tq: int, series: int, number: int, pairs: "list[int]") -> bytes:
    reference = ACCEPTANCE[node.identity.node_type][series][0]
    detail = [series, number] + _slope_and_offset(reference, pairs)
    return records.pack_event(time, tq, codes.CALIBRATED, messages.NOTE, detail)


def _document(node: "Node") -> Document:
    return Document(node.hal.state_fs, "calibration")


def _packed(in_force: "dict[int, Any]", points: "dict[int, Any]") -> bytes:
    data = cbor.dumps([in_force, points])
    return pack(">H", len(data)) + data


def _load(kept: "bytes | None") -> "tuple[dict[int, Any], dict[int, Any]]":
    """What is in force, and the points that wait. What another firmware kept otherwise is no calibration."""
    if not kept:
        return {}, {}
    try:
        in_force, points = cbor.loads(kept[2 : 2 + int(unpack_from(">H", kept)[0])])[:2]
    except (DecodeError, TypeError, ValueError, KeyError):
        return {}, {}
    return in_force, points


def _intent(kept: bytes) -> bytes:
    return kept[2 + int(unpack_from(">H", kept)[0]) :]
