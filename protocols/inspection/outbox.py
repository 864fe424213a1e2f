"""A node's outbox for people: segments of records, the mark beside them, what the gateway has, what is damaged.

The bytes are those of firmware/segment.py and firmware/mark.py; here is a reader of its own, which names what is wrong
where the node's own only walks past it. Pure.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterator, Mapping, Sequence
from struct import Struct
from struct import error as StructError  # noqa: N812  (the standard library's lower-case class)
from typing import Any, NamedTuple

from protocols.inspection.messages import FLAGS, OUTCOMES, QUALITIES, STATES
from protocols.inspection.when import placed
from protocols.inspection.words import hexed
from protocols.measurands import RegistryError, registry
from protocols.northbound.told import Line, Told
from protocols.wire import cbor
from protocols.wire.codes import EVENT_NAMES
from protocols.wire.errors import WireError

LANES = {"r": "readings", "e": "events"}
PREFIX = "".join(LANES)
SEGMENT_BYTES = 4096
NO_EPOCH = (1 << 48) - 1
SET, EVENT, RESULT = 1, 2, 3
KINDS = {SET: "set", EVENT: "event", RESULT: "result"}
_VERSION = 1
_HEADER = Struct("<BBI6sIIHI")
_RECORD_HEAD, _CRC = Struct("<IBB"), Struct("<I")
_RECORD_BYTES = _RECORD_HEAD.size + _CRC.size
_PAYLOAD_MAX = 200
_MARK = Struct("<IIIIIBI6s")
_ITEMS = {SET: 5, EVENT: 5, RESULT: 5}


class Record(NamedTuple):
    seq: int
    kind: int
    payload: bytes


class Segment(NamedTuple):
    """``damage``: runs of bytes that are no record, (offset, length)."""

    name: str
    size: int
    lane: int
    first: int
    epoch: int
    records: list[Record]
    damage: list[tuple[int, int]]
    problems: list[str]


class Mark(NamedTuple):
    """``acked``: per lane, half-open runs of seqs that the gateway has."""

    next_seq: int
    evicted: int
    lost_below: int
    lost_first: int
    lost_count: int
    condemned: tuple[int, int]
    adopted: int
    acked: tuple[tuple[tuple[int, int], ...], ...]


def segment(name: str, data: bytes) -> Segment:
    """What one file holds, as far as it can be told."""
    found = Segment(name, len(data), -1, 0, NO_EPOCH, [], [], [])
    if not data:
        return found  # littlefs makes a file before it fills it: nothing ever was in it
    if len(data) > SEGMENT_BYTES:
        found.problems.append(f"{len(data)} bytes; a segment has at most {SEGMENT_BYTES}")
    if len(data) < _HEADER.size:
        found.problems.append(f"{len(data)} bytes; the header alone has {_HEADER.size}")
        return found
    version, lane, first, epoch, _, _, _, seed = _HEADER.unpack_from(data)
    if version != _VERSION:
        found.problems.append(f"version {version}; known is {_VERSION}")
        return found
    if crc32(data[: _HEADER.size - _CRC.size]) != seed:
        found.problems.append("the CRC of its header does not match: no record of it can be believed")
        return found
    found = found._replace(lane=lane, first=first, epoch=int.from_bytes(epoch, "big"))
    found.problems.extend(_name_problems(name, lane, first))
    _walk(data[:SEGMENT_BYTES], seed, found)
    return found


def _name_problems(name: str, lane: int, first: int) -> Iterator[str]:
    if lane > 1:
        yield f"lane {lane}; known are 0 (readings) and 1 (events)"
    elif name != f"{PREFIX[lane]}{first:08x}" and name[:1] in LANES:
        yield f"its header says that it is {PREFIX[lane]}{first:08x}"


def _walk(data: bytes, seed: int, found: Segment) -> None:
    """Records one behind the other; what is none is walked byte by byte until something checks out again."""
    at = _HEADER.size
    bad_from = -1
    last = 0
    while at < len(data):
        one = _record_at(data, at, seed)
        if one is None:
            bad_from = at if bad_from < 0 else bad_from
            at += 1
            continue
        if bad_from >= 0:
            found.damage.append((bad_from, at - bad_from))
            bad_from = -1
        if one.seq <= last:
            found.problems.append(f"record {one.seq} stands behind record {last}")
        last = max(last, one.seq)
        found.records.append(one)
        at += _RECORD_BYTES + len(one.payload)
    if bad_from >= 0:
        found.damage.append((bad_from, len(data) - bad_from))
    found.problems.extend(f"{size} bytes at {start:#x} are no record" for start, size in found.damage[:20])


def _record_at(data: bytes, at: int, seed: int) -> Record | None:
    if at + _RECORD_BYTES >= len(data):
        return None
    seq, kind, size = _RECORD_HEAD.unpack_from(data, at)
    stop = at + _RECORD_HEAD.size + size
    if not 1 <= size <= _PAYLOAD_MAX or stop + _CRC.size > len(data):
        return None
    if _CRC.unpack_from(data, stop)[0] != crc32(data[at:stop], seed):
        return None
    return Record(seq, kind, data[at + _RECORD_HEAD.size : stop])


def mark(data: bytes) -> Mark:
    """The mark's document. Raises ValueError when it is not one."""
    try:
        fields = _MARK.unpack_from(data)
        at = _MARK.size
        lanes = []
        for _ in range(2):
            count = data[at]
            numbers = Struct(f"<{count}I").unpack_from(data, at + 1)
            lanes.append(tuple(zip(numbers[::2], numbers[1::2], strict=True)))
            at += 1 + 4 * count
    except (StructError, IndexError, ValueError) as error:
        raise ValueError(f"the mark can not be read: {error}") from error
    next_seq, evicted, lost_below, lost_first, lost_count, lane, first, adopted = fields
    condemned = (lane, first)
    epoch = int.from_bytes(adopted, "big")
    return Mark(next_seq, evicted, lost_below, lost_first, lost_count, condemned, epoch, tuple(lanes))


def is_acked(known: Mark | None, lane: int, seq: int) -> bool:
    if known is None or not 0 <= lane < len(known.acked):
        return False
    return any(start <= seq < end for start, end in known.acked[lane])


# --- for people ---------------------------------------------------------------------------------


def tell(files: Mapping[str, bytes], mark_data: bytes | None, shows_records: bool) -> list[Told]:
    """An outbox: its mark, then each segment by lane and seq, then (if wanted) each record."""
    summary = Told("outbox", [], [], [])
    known = _tell_mark(mark_data, summary)
    segments = [segment(name, data) for name, data in files.items()]
    segments.sort(key=lambda one: (one.lane, one.first, one.name))
    told = [summary]
    for one in segments:
        told.extend(_tell_segment(one, known, shows_records))
    counts = [(one.lane, is_acked(known, one.lane, record.seq)) for one in segments for record in one.records]
    for lane, name in enumerate(LANES.values()):
        waiting = counts.count((lane, False))
        summary.lines.append(
            Line(name, f"{waiting + counts.count((lane, True))} records", f"{waiting} not acknowledged")
        )
    damaged = sum(bool(one.problems) for one in segments)
    summary.lines.append(Line("segments", str(len(segments)), f"{damaged} damaged" if damaged else ""))
    return told


def _tell_mark(data: bytes | None, told: Told) -> Mark | None:
    if data is None:
        told.notes.append(
            "no mark: nothing was made durable beside the records yet, so none counts as acknowledged"
        )
        return None
    try:
        known = mark(data)
    except ValueError as error:
        told.problems.append(str(error))
        return None
    told.lines.append(Line("next seq", str(known.next_seq), "at least: the segments may have more"))
    told.lines.append(Line("evicted", str(known.evicted), "given up before the gateway had them, ever"))
    if known.lost_count:
        told.lines.append(Line("lost, not told", str(known.lost_count), f"from seq {known.lost_first} on"))
    for lane, name in enumerate(LANES.values()):
        runs = ", ".join(f"{start} to {end - 1}" for start, end in known.acked[lane])
        told.lines.append(
            Line(f"acknowledged {name}", runs or "none", "as far as durable: the node may know of more")
        )
    return known


def _tell_segment(one: Segment, known: Mark | None, shows_records: bool) -> Iterator[Told]:
    told = Told(f"segment {one.name}", [], list(one.problems), [])
    told.lines.append(Line("segment", one.name, f"{one.size} bytes"))
    if not one.size:
        told.notes.append("empty: begun and never filled, which a power cut leaves behind")
    if one.lane >= 0:
        lane = list(LANES.values())[one.lane] if one.lane < len(LANES) else f"lane {one.lane}"
        epoch = "before the first one" if one.epoch == NO_EPOCH else f"{one.epoch:012x}"
        waiting = [record.seq for record in one.records if not is_acked(known, one.lane, record.seq)]
        told.lines.append(Line("lane", lane))
        told.lines.append(Line("epoch", epoch))
        told.lines.append(
            Line("records", str(len(one.records)), _span([record.seq for record in one.records]))
        )
        told.lines.append(Line("waiting", str(len(waiting)), _span(waiting)))
    yield told
    if shows_records:
        for record in one.records:
            yield tell_record(record, is_acked(known, one.lane, record.seq))


def _span(seqs: Sequence[int]) -> str:
    return f"{seqs[0]} to {seqs[-1]}" if seqs else ""


def tell_record(record: Record, acked: bool) -> Told:
    """What a record says."""
    name = KINDS.get(record.kind, f"kind {record.kind}")
    told = Told(
        f"{name} {record.seq}", [Line("seq", str(record.seq), "acknowledged" if acked else "waiting")], [], []
    )
    try:
        items = cbor.loads(record.payload)
        if not isinstance(items, list) or len(items) != _ITEMS[record.kind]:
            raise ValueError(f"not the {_ITEMS[record.kind]} items of a {name}")
        told.lines.extend(_items(record.kind, items))
    except (WireError, RegistryError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        told.problems.append(f"its content can not be told: {error}")
        told.lines.append(Line("bytes", hexed(record.payload)))
    return told


def _items(kind: int, items: list[Any]) -> Iterator[Line]:
    if kind == SET:
        schema, time, tq, values, flags = items
        yield Line("time", placed(time, tq), QUALITIES[tq])
        series = registry().of_schema(schema)
        for at, (measurand, value) in enumerate(zip(series, values, strict=True)):
            flag = 1 if flags is None else flags[at]
            shown = "none" if value is None else f"{measurand.text(value)} {measurand.unit}"
            yield Line(f"  {measurand.name}", shown, "" if flag == 1 else FLAGS.get(flag, f"flag {flag}"))
        return
    time, tq, number, state, detail = items
    yield Line("time", placed(time, tq), QUALITIES[tq])
    if kind == EVENT:
        yield Line("code", str(number), EVENT_NAMES.get(number, ""))
        yield Line("state", str(state), STATES[state])
    else:
        yield Line("command id", str(number))
        yield Line("outcome", str(state), OUTCOMES[state])
    yield Line("detail", "none" if detail is None else str(detail))
