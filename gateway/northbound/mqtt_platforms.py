"""What platforms want beside the records: ThingsBoard its devices connected, Home Assistant its sensors told."""

from __future__ import annotations

from collections.abc import Callable

from gateway.northbound.mqtt import Announce
from gateway.northbound.payloads import Known, Message, Part, Record
from gateway.northbound.runner import Destination, Place
from gateway.records import KIND_RESULT, Event, Reading
from protocols.measurands import registry
from protocols.northbound import homeassistant, thingsboard, topics
from protocols.wire.codes import NODE_SILENT

_RAISED = 1


def thingsboard_format(
    template: str, places: Callable[[int, int], Place]
) -> Callable[[Record, str, bool], Message]:
    """Records as ThingsBoard takes them; a node that fell silent is disconnected, and connected when it is back."""

    def make(record: Record, site: str, resent: bool) -> Message:
        area = places(record.ledger.node, record.received_ms).area
        device = device_name(template, area, site, f"{record.ledger.node:04x}")
        parts = [Part("", _telemetry(device, record), thingsboard.TELEMETRY)]
        if isinstance(record, Event) and record.kind != KIND_RESULT and record.code == NODE_SILENT:
            if record.state == _RAISED:
                parts.append(Part("", thingsboard.disconnect(device), thingsboard.DISCONNECT))
            else:
                parts.insert(0, Part("", thingsboard.connect(device), thingsboard.CONNECT))
        return Message(tuple(parts), record)

    return make


def _telemetry(device: str, record: Record) -> bytes:
    if isinstance(record, Reading):
        _, _, _, _, received_ms, time, tq, schema, values, flags = record
        return thingsboard.reading(device, time, tq, received_ms, schema, values, flags)
    formatter = thingsboard.result if record.kind == KIND_RESULT else thingsboard.event
    return formatter(
        device, record.time, record.tq, record.received_ms, record.code, record.state, record.detail
    )


def device_name(template: str, area: str, site: str, node: str) -> str:
    """What ThingsBoard calls the device behind a record."""
    return topics.fill(template, topics.Fields(area=area, site=site, node=node))


def thingsboard_announce(template: str) -> Announce:
    """A device is connected, and told where it stands, before its first record of a connection."""

    def announce(
        destination: Destination, message: Message, topic_of: Callable[[str], str]
    ) -> list[tuple[str, bytes, bool]]:
        area, site, node = destination.area, destination.site, destination.node
        device = device_name(template, area, site, node)
        about = {"node": node, "site": site, "area": area}
        return [
            (thingsboard.CONNECT, thingsboard.connect(device), False),
            (thingsboard.ATTRIBUTES, thingsboard.attributes(device, about), False),
        ]

    return announce


def homeassistant_announce(prefix: str, by_value: bool, status_topic: str | None, known: Known) -> Announce:
    """The series of a node are told before its first set of a connection."""

    def announce(
        destination: Destination, message: Message, topic_of: Callable[[str], str]
    ) -> list[tuple[str, bytes, bool]]:
        record = message.record
        if not isinstance(record, Reading):
            return []
        node = record.ledger.node
        device = known.device(record)
        name = destination.site if device is None else device[0]
        told = []
        for measurand in registry().of_schema(record.schema):
            kind = registry().by_id[measurand.id].name
            state = topic_of(measurand.name)
            payload = homeassistant.config(measurand, kind, node, name, state, by_value, status_topic)
            told.append((homeassistant.topic(prefix, node, measurand.name), payload, True))
        return told

    return announce
