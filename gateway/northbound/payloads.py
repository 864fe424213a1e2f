"""What MQTT carries of a record: the payloads of [[mqtt]], by name.

A format turns a record into a Message: one payload, or one for each value of a set when the topic names the measurand.
The formatters themselves are pure (protocols/northbound); here they get what they need to know of a record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gateway.devices import Devices
from gateway.marks import Marks
from gateway.records import KIND_RESULT, Event, Reading
from protocols.measurands import registry
from protocols.northbound import format_json
from protocols.wire.codes import EVENT_NAMES

RESULT = "result"
Record = Reading | Event


class Part(NamedTuple):
    """One publish. `measurand` fills the topic; `topic` stands in the place of the template."""

    measurand: str
    payload: bytes
    topic: str | None = None


class Message(NamedTuple):
    """Everything that one record is published as; it is confirmed when all parts are."""

    parts: tuple[Part, ...]
    record: Record


class Known:
    """What is known of a record beside itself."""

    def __init__(self, marks: Marks | None = None, devices: Devices | None = None) -> None:
        self.marks = marks
        self.devices = devices

    def device(self, record: Record) -> tuple[str, str, str] | None:
        return None if self.devices is None else self.devices.known(record.ledger.node)

    def head(self, record: Record, site: str) -> str:
        """What the JSON of a record begins with."""
        ledger = record.ledger
        return format_json.head(ledger.node, site, ledger.number, self.device(record))

    def marked(self, record: Reading) -> tuple[Mapping[int, int] | None, bool]:
        """(calibrations by series, whether somebody was working there)."""
        return (None, False) if self.marks is None else self.marks.of(record)


def json_of(record: Record, site: str, resent: bool, known: Known) -> bytes:
    """The JSON of a record."""
    head = known.head(record, site)
    if isinstance(record, Reading):
        _, _, seq, backlog, received_ms, time, tq, schema, values, flags = record
        calibrations, maintenance = known.marked(record)
        return format_json.reading(
            head, seq, backlog, resent, time, tq, received_ms, schema, values, flags, calibrations, maintenance
        )  # fmt: skip
    formatter = format_json.result if record.kind == KIND_RESULT else format_json.event
    return formatter(
        head, record.seq, resent, record.time, record.tq, record.received_ms, record.code, record.state, record.detail
    )  # fmt: skip


def cbor_of(record: Record, site: str, resent: bool, known: Known) -> bytes:
    """The same in CBOR."""
    from protocols.northbound import format_cbor

    return format_cbor.from_json(json_of(record, site, resent, known))


def senml_of(record: Record, site: str, resent: bool, known: Known, only: int | None = None) -> bytes:
    """A record as a SenML pack."""
    from protocols.northbound import senml

    node, epoch = record.ledger.node, record.ledger.number
    if isinstance(record, Reading):
        _, _, seq, backlog, received_ms, time, tq, schema, values, flags = record
        return senml.reading(
            node, epoch, seq, backlog, resent, time, tq, received_ms, schema, values, flags, only
        )
    formatter = senml.result if record.kind == KIND_RESULT else senml.event
    return formatter(
        node, epoch, record.seq, resent, record.time, record.tq, record.received_ms, record.code, record.state,
        record.detail,
    )  # fmt: skip


def _json_value(record: Reading, site: str, resent: bool, known: Known, index: int) -> bytes:
    """One value of a set as JSON."""
    _, _, seq, backlog, received_ms, time, tq, schema, values, flags = record
    flag = format_json.GOOD if flags is None else flags[index]
    head = known.head(record, site)
    return format_json.value(
        head, seq, backlog, resent, time, tq, received_ms, schema, index, values[index], flag
    )


def _cbor_value(record: Reading, site: str, resent: bool, known: Known, index: int) -> bytes:
    from protocols.northbound import format_cbor

    return format_cbor.from_json(_json_value(record, site, resent, known, index))


class Payload(NamedTuple):
    """One format: of a whole record, and of one value of a set."""

    whole: Callable[[Record, str, bool, Known], bytes]
    value: Callable[[Reading, str, bool, Known, int], bytes]


PAYLOADS = {
    "json": Payload(json_of, _json_value),
    "cbor": Payload(cbor_of, _cbor_value),
    "senml": Payload(senml_of, senml_of),
}


def whole(name: str, known: Known) -> Callable[[Record, str, bool], Message]:
    """The format of a template without {measurand}."""
    format = PAYLOADS[name].whole

    def make(record: Record, site: str, resent: bool) -> Message:
        return Message((Part("", format(record, site, resent, known)),), record)

    return make


def by_value(name: str, known: Known) -> Callable[[Record, str, bool], Message]:
    """The format of a template with {measurand}."""
    payload = PAYLOADS[name]

    def make(record: Record, site: str, resent: bool) -> Message:
        if not isinstance(record, Reading):
            return Message((Part(name_of(record), payload.whole(record, site, resent, known)),), record)
        return Message(
            tuple(
                Part(series, payload.value(record, site, resent, known, index))
                for index, series in enumerate(names_of(record.schema))
            ),
            record,
        )

    return make


def names_of(schema: int) -> Sequence[str]:
    """What a set of this schema measures."""
    return [measurand.name for measurand in registry().of_schema(schema)]


def name_of(event: Event) -> str:
    """What stands for {measurand} in the topic of an event or a result."""
    return RESULT if event.kind == KIND_RESULT else EVENT_NAMES.get(event.code, f"code_{event.code}")
