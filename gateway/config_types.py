"""What the tables of gateway.toml and of device profiles are made of: names, paths, and the base of every table."""

from __future__ import annotations

import ipaddress
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo


def _resolve(value: str, info: ValidationInfo) -> str:
    """Make a path absolute: relative ones count from the folder of the file that names them."""
    if "\0" in value:
        raise ValueError("a NUL cannot be part of a path")
    base = (info.context or {}).get("base", FilePath())
    return str(FilePath(base, value))


def _tuple(value: object) -> object:
    """TOML arrays arrive as lists; frozen models keep tuples."""
    return tuple(value) if isinstance(value, list) else value


def allowed(text: str) -> dict[str, Any]:
    """What an error message shall say is allowed, where a pattern would not be understood."""
    return {"allowed": text}


# Put before a tuple[…] type that a TOML array fills.
ARRAY = BeforeValidator(_tuple)

Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$",
        json_schema_extra=allowed("1 to 64 of a-z, 0-9, '-', '_', '.', beginning with a letter or digit"),
    ),
]
# One level of an MQTT topic, so the separators and wildcards of topics are out.
Area = Annotated[
    str,
    Field(
        pattern=r"^[^/+#\s]{1,64}$",
        json_schema_extra=allowed("1 to 64 characters without spaces, '/', '+' and '#'"),
    ),
]
FileName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4096,
        json_schema_extra=allowed("a path; a relative one counts from this file's folder"),
    ),
    AfterValidator(_resolve),
]


def _ip_address(value: str) -> str:
    ipaddress.ip_address(value)  # its ValueError becomes the problem
    return value


# Where a server of ours listens.
Address = Annotated[
    str,
    AfterValidator(_ip_address),
    Field(json_schema_extra=allowed("an IP address of this machine, such as 127.0.0.1 or ::1")),
]


def can_be_looked_up(value: str) -> str:
    """Raises ValueError for a name such as a..b: asked for its address, Python has an error that is no OSError."""
    value.encode("idna")
    return value


# A URL is what people paste here. Two colons and more are an IPv6 address.
Host = Annotated[
    str,
    Field(
        pattern=r"^([^\s/:@]{1,253}|[0-9a-fA-F.]*:[0-9a-fA-F.]*:[0-9a-fA-F:.]*(%\w{1,15})?)$",
        json_schema_extra=allowed("a host name or IP address alone, without mqtt:// and without a port"),
    ),
    AfterValidator(can_be_looked_up),
]


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, OSError) as exc:  # a folder such as "Asia" is an OSError
        raise ValueError("no such zone") from exc
    return value


# The civil time of whoever wants reports by it.
Zone = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        json_schema_extra=allowed('a zone of the tz database, such as "Asia/Shanghai"'),
    ),
    AfterValidator(_zone),
]
Baud = Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600]


class Section(BaseModel):
    """Base of every table: unknown keys and near-miss types are errors, and nothing changes after loading."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )
