"""[[mqtt]]: one broker, and what must hold between its keys; on the raw tables, as in config.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from gateway.config_errors import Problem, rows_of
from gateway.config_types import FileName, Host, Name, Section
from protocols.northbound import topics

Payload = Literal["json", "cbor", "senml", "thingsboard"]
Version = Literal["auto", "5", "3.1.1"]
DEVICE = "{site}-{node}"
DEVICE_FIELDS = ("site", "node", "area", *topics.AREA_LEVELS)


class MqttSection(Section):
    """One broker. Without this table the gateway keeps everything in its own database."""

    name: Name = Field(description="its progress is kept under this name: do not change it")
    enabled: bool = Field(True, description="false pauses the delivery; its backlog is kept")
    host: Host = Field(description="name or IP address of the broker")
    port: int = Field(1883, ge=1, le=65535, description="8883 is usual with TLS")
    tls: bool = Field(False, description="true encrypts and checks the broker's certificate")
    ca_file: FileName | None = Field(None, description="certificates to trust instead of the system's")
    cert_file: FileName | None = Field(None, description="certificate this gateway shows")
    key_file: FileName | None = Field(None, description="private key of cert_file")
    username: str | None = Field(None, min_length=1, max_length=256, description="user at the broker")
    password_file: FileName | None = Field(None, description="file with the password alone, mode 0600")
    client_id: str | None = Field(
        None, min_length=1, max_length=64, description="default: tidegate-<gateway name>-<name>"
    )
    token_file: FileName | None = Field(
        None, description="file with an access token, mode 0600, which goes in the place of a user name"
    )
    version: Version = Field("auto", description="auto: MQTT 5, and 3.1.1 with a broker that knows no other")
    payload: Payload = Field(
        "json", description="thingsboard: the gateway API of ThingsBoard, with its own topics"
    )
    topic: str = Field(
        "tidegate/{area}/{site}/{node}/{stream}",
        min_length=1,
        max_length=512,
        description="template with {area} or its levels {province} {city} {district} {street} {community}, {site} "
        "{node} {stream} {gateway}; with {measurand} each value has a topic of its own",
    )
    status_topic: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="retained: online, and by the broker offline when we are gone; may have {gateway}",
    )
    device: str = Field(
        DEVICE,
        min_length=1,
        max_length=255,
        description="name of a device in ThingsBoard; {site} alone stays the same when a node is replaced",
    )
    homeassistant: str = Field(
        "",
        max_length=64,
        pattern=r"^[A-Za-z0-9_/-]*$",
        description='prefix of discovery, mostly "homeassistant": sensors appear by themselves; "" for none',
    )


def check(raw: dict[str, Any]) -> Iterator[Problem]:
    """Problems between keys. Values of a wrong type are skipped: pydantic has named them."""
    for index, row in enumerate(rows_of(raw, "mqtt")):
        yield from _check(index, row)


def _check(index: int, row: dict[str, Any]) -> Iterator[Problem]:
    for key in ("ca_file", "cert_file", "key_file"):
        if key in row and row.get("tls") is not True:
            yield Problem(("mqtt", index, key), "needs tls = true beside it.")
    for key, other in (("cert_file", "key_file"), ("key_file", "cert_file"), ("password_file", "username")):
        if key in row and other not in row:
            yield Problem(("mqtt", index, key), f"needs {other} beside it.")
    for problem in _check_texts(row):
        yield Problem(("mqtt", index, problem[0]), problem[1])


def _check_texts(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with it)."""
    if "token_file" in row and "username" in row:
        yield "token_file", "goes in the place of username: remove one of the two."
    payload = row.get("payload", "json")
    if payload == "thingsboard":
        for key in ("topic", "status_topic", "homeassistant"):
            if row.get(key):
                yield (
                    key,
                    'cannot stand beside payload = "thingsboard", which has topics of its own: remove it.',
                )
    elif row.get("device", DEVICE) != DEVICE:
        yield "device", 'needs payload = "thingsboard" beside it.'
    if row.get("homeassistant") and payload != "json":
        yield "homeassistant", 'needs payload = "json": Home Assistant reads nothing else.'
    templates = (
        ("topic", topics.RECORD_FIELDS, ("node", "stream")),
        ("status_topic", topics.GATEWAY_FIELDS, ()),
        ("device", DEVICE_FIELDS, ()),
    )
    for key, fields, needed in templates:
        text = row.get(key)
        if isinstance(text, str):
            told = topics.problem(text, fields, needed)
            if told is not None:
                yield key, told
