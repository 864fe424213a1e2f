"""[[mqtt]]: one broker, and what must hold between its keys; on the raw tables, as in config.py."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from gateway.config_errors import Problem, rows_of
from gateway.config_types import FileName, Host, Name, Section
from gateway.toml_lines import Path


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
    topic: str = Field(
        "tidegate/{area}/{site}/{node}/{stream}",
        min_length=1,
        max_length=512,
        description="template with {area} {site} {node} {stream}, {gateway}, and of area codes {province} {city} "
        "{district} {street}",
    )
    status_topic: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="retained: online, and by the broker offline when we are gone; may have {gateway}",
    )


def check(raw: dict[str, Any]) -> Iterator[Problem]:
    """Problems between keys. Values of a wrong type are skipped: pydantic has named them."""
    for index, row in enumerate(rows_of(raw, "mqtt")):
        yield from _check(index, row)


def _check(index: int, row: dict[str, Any]) -> Iterator[Problem]:
    path: Path = ("mqtt", index)
    for key in ("ca_file", "cert_file", "key_file"):
        if key in row and row.get("tls") is not True:
            yield Problem(("mqtt", index, key), "needs tls = true beside it.")
    for key, other in (("cert_file", "key_file"), ("key_file", "cert_file"), ("password_file", "username")):
        if key in row and other not in row:
            yield Problem(("mqtt", index, key), f"needs {other} beside it.")
    topic = row.get("topic")
    if isinstance(topic, str):
        yield from _check_topic((*path, "topic"), topic, TOPIC_FIELDS)
        if "{node}" not in topic or "{stream}" not in topic:
            told = f'"{topic}" would mix nodes or streams: it must contain {{node}} and {{stream}}.'
            yield Problem((*path, "topic"), told)
    status = row.get("status_topic")
    if isinstance(status, str):
        yield from _check_topic((*path, "status_topic"), status, ("gateway",))


TOPIC_FIELDS = ("area", "site", "node", "stream", "gateway", "province", "city", "district", "street")


def _check_topic(path: Path, topic: str, fields: Sequence[str]) -> Iterator[Problem]:
    allowed = ", ".join("{" + field + "}" for field in fields)
    for name in re.findall(r"\{([^{}]*)\}", topic):
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f" Did you mean {{{near[0]}}}?" if near else ""
            yield Problem(path, f'"{topic}" holds an unknown field, {{{name}}}. Allowed are {allowed}.{hint}')
    if re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", topic)):
        yield Problem(path, f'"{topic}" holds a brace without its other one. Allowed are {allowed}.')
    if "+" in topic or "#" in topic or "\0" in topic:
        yield Problem(path, f'"{topic}" holds a wildcard; a topic to publish to has no "+" and no "#".')
