"""[api]: where the management API listens."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from gateway.config_errors import Problem
from gateway.config_types import Address, FileName, Section
from gateway.errors import ConfigError

API_PORT, HEALTH_PORT = 9467, 9466


class ApiSection(Section):
    """The management API; without this table there is none. `tidegate gateway token add` lets somebody in."""

    address: Address = Field("127.0.0.1", description="where to listen; other than loopback wants TLS")
    port: int = Field(API_PORT, ge=0, le=65535, description="0 takes a free port, which the log names")
    cert_file: FileName | None = Field(None, description="certificate (and chain) to show, PEM")
    key_file: FileName | None = Field(None, description="private key of cert_file")


def check(raw: dict[str, Any]) -> Iterator[Problem]:
    """Problems between keys. Values of a wrong type are skipped: pydantic has named them."""
    api = raw.get("api")
    if not isinstance(api, dict):
        return
    for key, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if key in api and other not in api:
            yield Problem(("api", key), f"needs {other} beside it.")
    yield from _check_port(api, raw.get("health"))
    address = api.get("address", "127.0.0.1")
    try:
        is_local = ipaddress.ip_address(address).is_loopback
    except ValueError:
        return
    if not is_local and "cert_file" not in api:
        yield Problem(
            ("api", "address"),
            f'"{address}" is reachable from other machines, and tokens would travel in the clear. Allowed is a '
            "loopback address (127.0.0.1, ::1), or any with cert_file and key_file beside it.",
        )


def _check_port(api: dict[str, Any], health: object) -> Iterator[Problem]:
    """Two servers do not share a port; the second one would try for ever."""
    other = health if isinstance(health, dict) else {}
    port = api.get("port", API_PORT)
    if port and port == other.get("port", HEALTH_PORT) and other.get("enabled", True) is not False:
        table = "api" if "port" in api else "health"
        path = (table, "port") if "port" in api or "port" in other else (table,)
        yield Problem(path, f"{port} is the port of [api] and of [health]: each needs its own.")


def tls_context(section: ApiSection) -> ssl.SSLContext | None:
    """What the API shows its clients. Raises ConfigError when the files can not be used."""
    if section.cert_file is None or section.key_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(section.cert_file, section.key_file)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(
            [f"api.cert_file: {section.cert_file} with {section.key_file} can not be used: {exc}."]
        ) from exc
    return context
