"""From the table [[mqtt]] to a runner: which payload, which topics, what is announced."""

from __future__ import annotations

import random
from collections.abc import Callable

from gateway.clock import Clock
from gateway.config_mqtt import MqttSection
from gateway.devices import Devices
from gateway.marks import Marks
from gateway.northbound import mqtt_platforms, payloads
from gateway.northbound.mqtt import Announce, MqttSender, MqttSettings
from gateway.northbound.payloads import Known, Message, Record
from gateway.northbound.runner import Place, Runner
from gateway.store import Store
from gateway.tls_files import TlsFiles
from protocols.northbound import topics


def build(
    section: MqttSection, gateway: str, token: str | None, password: str | None, tls: TlsFiles | None, store: Store,
    places: Callable[[int, int], Place], marks: Marks | None, devices: Devices | None, clock: Clock, rng: random.Random,
) -> Runner:  # fmt: skip
    """The delivery to one broker."""
    known = Known(marks, devices)
    settings = MqttSettings(
        host=section.host,
        port=section.port,
        client_id=section.client_id or f"tidegate-{gateway}-{section.name}",
        topic=section.topic,
        username=token or section.username,
        password=password,
        tls=tls,
        gateway=gateway,
        status_topic=section.status_topic,
        version=section.version,
        announce=announce_of(section, gateway, known),
    )
    format = format_of(section, places, known)
    return Runner(section.name, store, format, MqttSender(settings), places, clock, rng)


def format_of(
    section: MqttSection, places: Callable[[int, int], Place], known: Known
) -> Callable[[Record, str, bool], Message]:
    """What a record becomes."""
    if section.payload == "thingsboard":
        return mqtt_platforms.thingsboard_format(section.device, places)
    make = payloads.by_value if by_value(section) else payloads.whole
    return make(section.payload, known)


def announce_of(section: MqttSection, gateway: str, known: Known) -> Announce | None:
    """What the platform wants to hear first."""
    if section.payload == "thingsboard":
        return mqtt_platforms.thingsboard_announce(section.device)
    if not section.homeassistant:
        return None
    status = None
    if section.status_topic is not None:
        status = topics.fill(section.status_topic, topics.Fields(gateway=gateway))
    return mqtt_platforms.homeassistant_announce(section.homeassistant, by_value(section), status, known)


def by_value(section: MqttSection) -> bool:
    """Whether each value of a set has a topic of its own."""
    return "{measurand}" in section.topic
