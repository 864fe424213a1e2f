"""The tables of gateway.toml about devices that are no nodes of ours: buses, Bluetooth adapters, and the devices."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

from pydantic import Field

from gateway.config_types import Area, Baud, FileName, Host, Name, Section, allowed
from gateway.profiles import PointName

Address = Annotated[
    str,
    Field(
        pattern=r"^([0-9A-F]{2}:){5}[0-9A-F]{2}$",
        json_schema_extra=allowed('an address such as "A4:C1:38:01:02:03", in capitals'),
    ),
]


class DevicesSection(Section):
    """Where profiles of devices come from, beside those that Tidegate brings."""

    profiles: FileName | None = Field(None, description="folder with your own profiles, *.toml")


class ModbusSection(Section):
    """One Modbus bus or TCP endpoint. Repeat the table for each."""

    name: Name = Field(description="names the bus in logs, metrics and [[device]]; unique")
    transport: Literal["rtu", "tcp", "rtu-over-tcp"] = Field("rtu", description="how it is reached")
    path: FileName | None = Field(None, description="rtu: the port, best a /dev/serial/by-id/… name")
    baud: Baud = Field(9600, description="rtu and rtu-over-tcp: bits per second of the line")
    parity: Literal["none", "even", "odd"] = Field("none", description="rtu: parity bit")
    stop_bits: Literal[1, 2] = Field(1, description="rtu: stop bits")
    rs485: bool = Field(
        False,
        description="rtu: true where the driver has to switch the direction by RTS; USB adapters do it themselves",
    )
    rs485_rts: Literal["high", "low"] = Field("high", description="rtu with rs485: RTS while sending")
    host: Host | None = Field(None, description="tcp, rtu-over-tcp: name or IP address")
    port: int = Field(502, ge=1, le=65535, description="tcp, rtu-over-tcp: port")
    timeout_ms: int | None = Field(
        None, ge=20, le=30_000, description="how long answers may take; default: what each profile says"
    )
    gap_ms: float | None = Field(
        None, ge=0, le=10_000, description="silence between requests; default: 3.5 characters"
    )
    enabled: bool = Field(True, description="false leaves the bus alone")


class BleSection(Section):
    """One Bluetooth adapter. Repeat the table for each."""

    name: Name = Field(description="names the adapter in logs, metrics and [[device]]; unique")
    backend: Literal["bluez", "bumble"] = Field(
        "bluez", description="bluez: this system's; bumble: our own host"
    )
    adapter: str = Field(
        "hci0", min_length=1, max_length=256, description="bluez: hci0; bumble: a transport, such as usb:0"
    )
    scan: Literal["auto", "passive", "active"] = Field(
        "auto", description="auto: passive where the adapter can"
    )
    power_cycle: bool = Field(
        True,
        description="switch the adapter off and on when it is stuck; false where something else uses it, too",
    )
    connections: int = Field(3, ge=1, le=16, description="how many devices may be connected at once")
    enabled: bool = Field(True, description="false leaves the adapter alone")


class DeviceSection(Section):
    """One device behind a bus or an adapter. Repeat the table for each."""

    name: Name = Field(description="its readings are kept under this name: do not change it; unique")
    profile: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = Field(
        description="what model it is: the name of a profile",
        json_schema_extra=allowed("the name of a profile: `tidegate gateway profiles` lists them"),
    )
    modbus: Name | None = Field(None, description="name of the [[modbus]] it is on")
    unit: int | None = Field(
        None, ge=1, le=255, description="its unit id on that bus; beyond 247 on tcp only"
    )
    ble: Name | None = Field(None, description="name of the [[ble]] it is heard by")
    address: Address | None = Field(None, description="its Bluetooth address")
    irk_file: FileName | None = Field(
        None,
        description="instead of address, of a device that changes it: file with its identity resolving key, 32 hex "
        "digits, mode 0600",
    )
    key_file: FileName | None = Field(
        None, description="file with the bind key of an encrypted BTHome device, 32 hex digits, mode 0600"
    )
    site: Area | None = Field(None, description="the site it serves; made when missing")
    area: Area | None = Field(None, description="area code of a site that is made; default: the gateway's")
    period_s: float | None = Field(
        None,
        ge=0.1,
        le=86_400,
        description="how often it is read, or kept when it speaks by itself; default: the profile's",
    )
    periods: dict[PointName, Annotated[float, Field(ge=0.1, le=86_400)]] = Field(
        {}, description="seconds by point, where one differs: { flow = 10 }"
    )
    trend: bool = Field(
        True, description="false: no flags for values that change too fast or stand still for too long"
    )
    enabled: bool = Field(True, description="false leaves it alone")

    @property
    def who(self) -> str:
        """What a Bluetooth device is known by: its address, or the name of its key."""
        return self.address or f"irk:{self.name}"

    @property
    def place(self) -> str:
        """Where it is behind its bus or adapter, for people."""
        if self.unit is not None:
            return f"unit {self.unit}"
        return self.address or "by its key"


# What bumble opens (its own list is in code); the part before the colon.
SCHEMES = (
    "usb",
    "pyusb",
    "serial",
    "hci-socket",
    "vhci",
    "tcp-client",
    "ws-client",
    "udp",
    "unix",
    "pty",
    "file",
)


def transport_problem(spec: str) -> str:
    """What is wrong with the name of a radio without BlueZ; "" when nothing is."""
    scheme, _, rest = spec.partition(":")
    if scheme in SCHEMES and rest:
        return ""
    near = difflib.get_close_matches(scheme, SCHEMES, n=1)
    hint = f" Did you mean {near[0]}:…?" if near and near[0] != scheme else ""
    if scheme.startswith("hci"):
        hint = ' An adapter of this system goes with backend = "bluez".'
    return (
        f"{spec!r:.60} names no transport. Allowed are usb:0, serial:/dev/ttyACM0, tcp-client:HOST:PORT and others of "
        f"{', '.join(SCHEMES)}, each with what follows its colon.{hint}"
    )
