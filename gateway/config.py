"""gateway.toml: what an integrator may set, and errors that can be acted on.

The models below are the one place where a setting, its default, its bounds and its explanation live;
messages are made from them. `load()` reports every problem of a file at once:

    gateway.toml:14: serial[0].baud = 96000: allowed is one of 9600, 19200, … Did you mean 9600 or 115200?

pydantic checks, toml_lines finds the lines, config_errors says it the way a person needs it.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

import tomlkit
from pydantic import AfterValidator, Field, PrivateAttr, ValidationError
from tomlkit.exceptions import ParseError, TOMLKitError

from gateway import config_alarms, config_api, config_hj212, config_lora, config_mqtt, config_sl651, limits
from gateway.config_alarms import AlarmSection, AreaSection, WorkOrdersSection
from gateway.config_api import ApiSection
from gateway.config_devices import BleSection, DeviceSection, DevicesSection, ModbusSection
from gateway.config_errors import Problem, explain_all, hide_keys, rows_of, unique, unique_names
from gateway.config_hj212 import Hj212Section
from gateway.config_mqtt import MqttSection
from gateway.config_sl651 import Sl651Section
from gateway.config_store import StoreSection
from gateway.config_types import ARRAY, Address, Area, Baud, FileName, Name, Section, allowed
from gateway.device_check import DeviceCheck
from gateway.errors import ConfigError
from gateway.profiles import Profile
from gateway.toml_lines import key_lines, line_of


def split_bind(value: str) -> tuple[str, int]:
    """ "127.0.0.1:1700" or "[::1]:1700" taken apart. Raises ValueError."""
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif colon:
        host = str(ipaddress.IPv4Address(host))
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ValueError("no port")
    return host, int(port)


def _bind(value: str) -> str:
    split_bind(value)  # its ValueError becomes the problem
    return value


def _sender_id(value: int) -> int:
    if value == 2:
        raise ValueError("2 is the bench tool's")
    return value


# What a forwarder's own config calls gateway_ID.
Eui = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-fA-F]{16}$",
        json_schema_extra=allowed('16 hexadecimal digits, as "gateway_ID" in the config of the forwarder'),
    ),
    AfterValidator(str.lower),
]
Bind = Annotated[
    str,
    AfterValidator(_bind),
    Field(
        json_schema_extra=allowed('an IP address and a UDP port, such as "127.0.0.1:1700" or "[::1]:1700"')
    ),
]


class GatewaySection(Section):
    """Who this gateway is and where it keeps its data."""

    name: Name = Field("gateway", description="names this gateway in logs, metrics and MQTT client ids")
    area: Area = Field("unassigned", description="area code of sites that have none, e.g. 330106")
    data_dir: FileName = Field("data", description="folder of the database; made with mode 0700 when missing")
    trial_s: int = Field(
        300,
        ge=10,
        le=86_400,
        description="a reload after which no changed northbound connects within so long is taken back",
    )
    sender_id: Annotated[int, AfterValidator(_sender_id)] = Field(
        1,
        ge=1,
        le=255,
        description="1 for the gateway that owns its nodes, 3 and up for one that takes over",
        json_schema_extra=allowed("an integer 1 or 3 to 255 (2 is the bench tool's)"),
    )


class KeysSection(Section):
    """The master key under which the keys of nodes are encrypted at rest. Name one of the two."""

    master_key_file: FileName | None = Field(
        None, description="of mode 0600; `tidegate gateway init` makes one"
    )
    master_key_credential: Name | None = Field(None, description="of systemd (LoadCredentialEncrypted=)")


class ClockSection(Section):
    """Nodes are given the time only while this machine's own clock is synchronised."""

    assume_synchronised: bool = Field(
        False, description="true where there is no NTP and the clock is right by other means (GNSS, a person)"
    )


class HealthSection(Section):
    """/healthz, /readyz and Prometheus /metrics."""

    enabled: bool = Field(True, description="false opens no port")
    address: Address = Field("127.0.0.1", description="where to listen")
    port: int = Field(
        config_api.HEALTH_PORT, ge=0, le=65535, description="0 takes a free port, which the log names"
    )
    allow_remote: bool = Field(
        False, description="true lets `address` be other than loopback; these pages have no password"
    )


class LogSection(Section):
    """Structured logs on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug includes the console lines of nodes"
    )
    format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal")


class SerialSection(Section):
    """One port with a node on it. Repeat the table for each port."""

    name: Name = Field(description="names the port in logs and metrics; unique")
    path: FileName = Field(description="best a /dev/serial/by-id/… name: it survives renumbering")
    baud: Baud = Field(115200, description="USB devices and pseudo-terminals ignore it")


class LoraSection(Section):
    """The air: what all radios below and all nodes on LoRa share. Needs a [[semtech]] or a [[bridge]]."""

    plan: Literal["cn470", "eu868"] = Field(
        description="the law of the place: channels, power, time on the air"
    )
    channel: int = Field(ge=0, le=95, description="the nodes' first channel, by its number in the plan")
    channels: int = Field(
        1, ge=1, le=96, description="how many from there on; each needs a radio that hears it"
    )
    sf: int | None = Field(
        None, ge=7, le=12, description="the one spreading factor of all nodes; a [[bridge]] needs it"
    )
    dbm: int | None = Field(
        None,
        ge=-9,
        le=27,
        description="power of downlinks at the antenna's foot; default: what the plan allows",
    )
    antenna_dbi: float = Field(
        2.15, ge=-20.0, le=20.0, description="gain of the radios' antennas less the loss of their cables"
    )
    adr: bool = Field(
        True, description="false leaves power and spreading factor of nodes as they were minted"
    )


class SemtechSection(Section):
    """Concentrators behind the Semtech packet forwarder (UDP). Repeat the table for each port."""

    name: Name = Field(description="names the radio in logs and metrics; unique")
    bind: Bind = Field("127.0.0.1:1700", description="where forwarders send to; the protocol has no password")
    gateways: Annotated[tuple[Eui, ...], ARRAY] = Field(
        max_length=limits.RADIOS_MAX, description="EUIs of the forwarders that are served"
    )


class BridgeSection(Section):
    """A bridge board (one LoRa radio) on a serial port. Repeat the table for each."""

    name: Name = Field(description="names the radio in logs and metrics; unique")
    path: FileName = Field(description="best a /dev/serial/by-id/… name: it survives renumbering")
    baud: Baud = Field(115200, description="USB devices and pseudo-terminals ignore it")


class Config(Section):
    """All of gateway.toml. Paths in it are absolute."""

    gateway: GatewaySection
    keys: KeysSection
    clock: ClockSection
    health: HealthSection
    log: LogSection
    store: StoreSection
    api: ApiSection | None = None
    serial: Annotated[tuple[SerialSection, ...], ARRAY] = Field((), max_length=limits.SERIAL_PORTS_MAX)
    lora: LoraSection | None = None
    semtech: Annotated[tuple[SemtechSection, ...], ARRAY] = Field((), max_length=limits.RADIOS_MAX)
    bridge: Annotated[tuple[BridgeSection, ...], ARRAY] = Field((), max_length=limits.RADIOS_MAX)
    mqtt: Annotated[tuple[MqttSection, ...], ARRAY] = Field((), max_length=limits.NORTHBOUNDS_MAX)
    hj212: Annotated[tuple[Hj212Section, ...], ARRAY] = Field((), max_length=limits.NORTHBOUNDS_MAX)
    sl651: Annotated[tuple[Sl651Section, ...], ARRAY] = Field((), max_length=limits.NORTHBOUNDS_MAX)
    work_orders: Annotated[tuple[WorkOrdersSection, ...], ARRAY] = Field(
        (), max_length=limits.NORTHBOUNDS_MAX
    )
    alarm: Annotated[tuple[AlarmSection, ...], ARRAY] = Field((), max_length=limits.ALARM_RULES_MAX)
    area: Annotated[tuple[AreaSection, ...], ARRAY] = Field((), max_length=limits.AREAS_MAX)
    devices: DevicesSection
    modbus: Annotated[tuple[ModbusSection, ...], ARRAY] = Field((), max_length=limits.BUSES_MAX)
    ble: Annotated[tuple[BleSection, ...], ARRAY] = Field((), max_length=limits.ADAPTERS_MAX)
    device: Annotated[tuple[DeviceSection, ...], ARRAY] = Field((), max_length=limits.DEVICES_MAX)
    _profiles: dict[str, Profile] = PrivateAttr(default_factory=dict)

    @property
    def northbounds(self) -> Iterator[tuple[str, Any]]:
        """(kind, section) of all northbounds, enabled or not."""
        for kind in NORTHBOUNDS:
            for section in getattr(self, kind):
                yield kind, section

    @property
    def of_records(self) -> list[str]:
        """Names of the northbounds that owe records, and so stand in the books."""
        return [section.name for kind, section in self.northbounds if kind not in OF_ALARMS]

    @property
    def of_alarms(self) -> list[str]:
        """Names of those that owe changes of alarms."""
        return [section.name for kind, section in self.northbounds if kind in OF_ALARMS]

    @property
    def profiles(self) -> dict[str, Profile]:
        """The profiles that its devices have, by name; checked."""
        return self._profiles


# Tables that are northbounds, each with a line in gateway/northbounds.py; their names are unique among them all.
NORTHBOUNDS = ("mqtt", "hj212", "sl651", "work_orders")
# Those that deliver alarms: they owe no records, and stand in no books of records.
OF_ALARMS = ("work_orders",)
# Tables that need not be in the file: all their keys have defaults.
OPTIONAL_TABLES = ("gateway", "keys", "clock", "health", "log", "store", "devices")


def load(file: str | os.PathLike[str]) -> Config:
    """Read and check `file`. Raises ConfigError with every problem found."""
    text = _read(FilePath(file))
    return parse(text, str(file), FilePath(file).absolute().parent)


def parse(text: str, name: str, base: FilePath) -> Config:
    """Check TOML `text`, called `name` in messages; relative paths in it count from `base`."""
    try:
        raw = tomlkit.parse(text).unwrap()
    except ParseError as exc:
        raise ConfigError([_syntax_problem(name, text, exc)]) from exc
    except TOMLKitError as exc:
        reason = str(exc).rstrip(".")
        raise ConfigError([f"{name}:{_second_opinion(text)}: not valid TOML: {reason}."]) from exc
    problems: list[Problem] = []
    config: Config | None = None
    try:
        tables = {**{key: {} for key in OPTIONAL_TABLES}, **raw}
        config = Config.model_validate(tables, context={"base": base})
    except ValidationError as exc:
        schema = Config.model_json_schema()
        problems += explain_all(exc.errors(include_url=False), schema, raw)
    problems += check(raw)
    devices = DeviceCheck(raw, base)
    problems += devices.problems()
    if problems or devices.elsewhere or config is None:
        lines = key_lines(text)
        found = sorted({(line_of(lines, problem.path), str(problem)) for problem in problems})
        raise ConfigError([f"{name}:{line}: {message}" for line, message in found] + devices.elsewhere)
    config.profiles.update(devices.profiles)
    if config.modbus:
        _check_loads(config, text, name)
    return config


def _check_loads(config: Config, text: str, name: str) -> None:
    """A bus that is asked for more than it can carry is refused: it would be late for ever."""
    from gateway.pollers.modbus_profile import overloads  # only a gateway with a bus pays for it

    told = list(overloads(config.modbus, config.device, config.profiles))
    if told:
        lines = key_lines(text)
        raise ConfigError(
            [
                f'{name}:{line_of(lines, ("modbus", i))}: modbus "{config.modbus[i].name}": {why}'
                for i, why in told
            ]
        )


def _read(file: FilePath) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(limits.CONFIG_BYTES_MAX + 1)
    except FileNotFoundError as exc:
        raise ConfigError(
            [f"{file}: no such file. `tidegate gateway init {file}` writes a commented one to start from."]
        ) from exc
    except OSError as exc:
        raise ConfigError([f"{file}: cannot be read: {exc.strerror}."]) from exc
    if len(data) > limits.CONFIG_BYTES_MAX:
        raise ConfigError([f"{file}: larger than {limits.CONFIG_BYTES_MAX} bytes; is this the right file?"])
    try:
        return data.decode("utf-8").removeprefix("\ufeff")  # as some editors begin a file
    except UnicodeDecodeError as exc:
        line, byte = data.count(b"\n", 0, exc.start) + 1, data[exc.start]
        raise ConfigError([f"{file}:{line}: byte 0x{byte:02x} is not UTF-8; save it as UTF-8."]) from exc


def _syntax_problem(name: str, text: str, exc: ParseError) -> str:
    lines = text.splitlines()
    if "already exists" in str(exc):  # it is noticed at the end of what stands there the second time
        twice = str(exc).partition(" already exists")[0]
        return (
            f"{name}:{_second_opinion(text)}: not valid TOML: {twice} stands above, too. A table or key stands once: "
            "move its lines there."
        )
    shown = hide_keys(lines[exc.line - 1].strip()) if 0 < exc.line <= len(lines) else ""
    reason = str(exc).removesuffix(f" at line {exc.line} col {exc.col}").rstrip(".")
    where = f" in '{shown[:80]}'" if shown else ""
    return f"{name}:{exc.line}: not valid TOML, column {exc.col + 1}{where}: {reason}."


def _second_opinion(text: str) -> int:
    """The line of what tomlkit refuses without saying where, such as a table that stands twice."""
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        line = re.search(r"at line (\d+)", str(exc))
        return int(line[1]) if line else 1
    return 1


# --- what holds between keys: checked on the raw tables, so that it is reported beside everything else


def check(raw: dict[str, Any]) -> Iterator[Problem]:
    """Problems between keys. Values of a wrong type are skipped here: pydantic has named them."""
    yield from _check_keys(_table(raw, "keys"))
    yield from _check_health(_table(raw, "health"))
    yield from config_api.check(raw)
    yield from config_lora.check(raw)
    for key in ("name", "path"):
        yield from unique("serial", key, rows_of(raw, "serial"))
    yield from config_mqtt.check(raw)
    yield from config_hj212.check(raw)
    yield from config_alarms.check(raw)
    yield from config_sl651.check(raw)
    yield from unique_names(raw, NORTHBOUNDS)


def _table(raw: dict[str, Any], name: str) -> dict[str, Any]:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _check_keys(keys: dict[str, Any]) -> Iterator[Problem]:
    named = [key for key in ("master_key_file", "master_key_credential") if key in keys]
    if not named:
        yield Problem(
            ("keys", "master_key_file"),
            "missing. Name the file or the systemd credential with the master key: "
            'master_key_file = "/etc/tidegate/master.key" (`tidegate gateway init` makes one).',
        )
    if len(named) == 2:
        yield Problem(("keys", named[1]), "cannot stand beside keys.master_key_file: remove one of the two.")


def _check_health(health: dict[str, Any]) -> Iterator[Problem]:
    address = health.get("address")
    if not isinstance(address, str) or health.get("allow_remote") is True:
        return
    try:
        remote = not ipaddress.ip_address(address).is_loopback
    except ValueError:
        return
    if remote:
        yield Problem(
            ("health", "address"),
            f'"{address}" is reachable from other machines, and these pages have no password. Allowed is a '
            "loopback address (127.0.0.1, ::1), or any with allow_remote = true beside it.",
        )
