"""From a table of gateway.toml to a running northbound: one line in KINDS for each kind there is.

The libraries of a northbound are imported only when one of its kind is configured: a gateway without a
broker must not carry an MQTT client in its memory.
"""

from __future__ import annotations

import difflib
import functools
import logging
import os
import random
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gateway.certificates import Expiry
from gateway.clock import Clock
from gateway.config_hj212 import Hj212Section
from gateway.config_mqtt import MqttSection
from gateway.devices import Devices
from gateway.errors import ConfigError, NorthboundError
from gateway.held import Held
from gateway.intervals import Intervals
from gateway.marks import Marks
from gateway.registry import Registry
from gateway.store import Store

log = logging.getLogger(__name__)
PASSWORD_BYTES_MAX = 1024
HOUR_MS = 3_600_000


class Runner(Protocol):
    """What gateway/northbound/runner.py offers the daemon."""

    async def run(self) -> None: ...

    def status(self) -> dict[str, Any]: ...

    def held(self) -> tuple[Any, ...]: ...  # as Held has it

    async def restamped(self, rows: Intervals, old: tuple[int, int], new: tuple[int, int]) -> None: ...


class Northbound:
    """A northbound by name, with its state in the units that /metrics and people want."""

    def __init__(self, name: str, runner: Runner, clock: Clock, certificate: Path | None = None) -> None:
        """`certificate`: the file that it shows, whose end is watched."""
        self.name = name
        self._expiry = None if certificate is None else Expiry(name, certificate)
        self.run = runner.run
        self._runner = runner
        self._clock = clock
        self._delivered: object = None

    @property
    def connected(self) -> bool:
        """Whether the far side answers."""
        return bool(self._runner.status()["connected"])

    @property
    def event_cursor(self) -> int:
        """The far side has confirmed every event up to this id."""
        return int(self._runner.status()["event_cursor"])

    async def restamped(self, rows: Intervals, old: tuple[int, int], new: tuple[int, int]) -> None:
        """These readings have other times (restamp.py): the far side must have them once more."""
        await self._runner.restamped(rows, old, new)

    def problem(self) -> str | None:
        """Why it can not do its job, or soon will not; None when it can."""
        if not self.connected:
            return "not connected"
        days = None if self._expiry is None else self._expiry.days_left(self._clock.unix_ms())
        return f"its certificate ends in {days:.1f} days" if days is not None and days <= 7 else None

    def picture(self) -> dict[str, float]:
        """Counters and gauges."""
        status = self._runner.status()
        oldest_ms = status["oldest_undelivered_ms"]
        age_ms = 0 if oldest_ms is None else max(0, self._clock.unix_ms() - oldest_ms)
        days = None if self._expiry is None else self._expiry.days_left(self._clock.unix_ms())
        return {
            **({} if days is None else {"certificate_days": days}),
            "connected": float(status["connected"]),
            "backlog_records": status["backlog"],
            "backlog_hours": age_ms / HOUR_MS,
            "in_flight": status["in_flight"],
            "delivered": status["delivered"],
            "refused": status["refused"],
        }

    def held(self) -> Held:
        """What must stay in the store for it."""
        return Held(*self._runner.held())

    def evicted(self, runs: Intervals) -> None:
        """These readings are not in the store any more."""
        evicted = getattr(self._runner, "evicted", None)
        if evicted is not None:
            evicted(runs)

    def progress(self) -> object | None:
        """Changes with each delivery; None while there is nothing to deliver or nobody to deliver to."""
        status = self._runner.status()
        if not status["connected"] or not status["backlog"]:
            return None
        delivered: object = status["delivered"]
        return delivered


class RowsNorthbound(Northbound):
    """One that delivers rows of reports. A regulator's platform may take minutes over one; the session bounds that."""

    def progress(self) -> object | None:
        """Changes with each row that goes out; None while there is none, or one is under way."""
        status = self._runner.status()
        if not status["connected"] or not status["backlog"] or status["in_flight"]:
            return None
        return status["attempts"], status["refused"]


class Context(NamedTuple):
    """What a northbound is made from, beside its own table."""

    gateway: str  # name of this gateway
    store: Store
    registry: Registry
    clock: Clock
    rng: random.Random
    marks: Marks
    devices: Devices | None


class Kind(NamedTuple):
    """`build(section, context)` makes a northbound; `check(section)` reads the files that its table names, and says
    for `tidegate gateway check` where it leads to. Both raise ConfigError."""

    build: Callable[[Any, Context], Northbound]
    check: Callable[[Any], str]


def build_mqtt(section: MqttSection, context: Context) -> Northbound:
    """An MQTT northbound."""
    from gateway.northbound import mqtt
    from gateway.northbound.runner import Runner as Delivery

    settings = mqtt.MqttSettings(
        host=section.host,
        port=section.port,
        client_id=section.client_id or f"tidegate-{context.gateway}-{section.name}",
        topic=section.topic,
        username=section.username,
        password=_password(section.password_file),
        tls=functools.partial(tls_context, section),
        status_topic=section.status_topic and section.status_topic.format(gateway=context.gateway),
        gateway=context.gateway,
    )
    tls_context(section)  # what is wrong at the start is told at the start
    format = functools.partial(mqtt.format, marks=context.marks, devices=context.devices)
    delivery = Delivery(
        section.name, context.store, format, mqtt.MqttSender(settings), context.registry.place_of, context.clock,
        context.rng,
    )  # fmt: skip
    shown = Path(section.cert_file) if section.tls and section.cert_file else None
    return Northbound(section.name, delivery, context.clock, shown)


def check_mqtt(section: MqttSection) -> str:
    _password(section.password_file)
    tls_context(section)
    return f"{section.host}:{section.port}, topic {section.topic}"


def build_hj212(section: Hj212Section, context: Context) -> Northbound:
    """A northbound to an environmental platform."""
    from gateway.northbound.hj212_northbound import build

    password = read_password(section.password_file, "hj212")
    _tell_unknown_sites(section, [site.site for site in context.registry.sites()])
    set_password = None
    if section.may_set_password:
        set_password = functools.partial(write_password, section.password_file)
    runner = build(
        section, password, set_password, context.store, context.registry.place_of, context.marks, context.clock,
        context.rng,
    )  # fmt: skip
    return RowsNorthbound(section.name, runner, context.clock)


def _tell_unknown_sites(section: Hj212Section, known: list[str]) -> None:
    """A name that is spelled wrong would be reported on never, without a word."""
    for site in section.stations:
        if site not in known:
            near = difflib.get_close_matches(site, known, n=1, cutoff=0.6)
            hint = f" Did you mean {near[0]}?" if near else " Make it: tidegate gateway site add."
            log.warning(
                "hj212 %s: there is no site %s yet, so nothing is reported of it.%s", section.name, site, hint
            )


def check_hj212(section: Hj212Section) -> str:
    read_password(section.password_file, "hj212")
    return f"{section.host}:{section.port}, HJ {section.version}, {len(section.stations)} stations"


# By the name of their table; config.NORTHBOUNDS has the same names.
KINDS: dict[str, Kind] = {
    "mqtt": Kind(build_mqtt, check_mqtt),
    "hj212": Kind(build_hj212, check_hj212),
}


def _password(file: str | None) -> str | None:
    return None if file is None else read_password(file, "mqtt")


def read_password(file: str, kind: str) -> str:
    """The password in `file`, which only its owner may read."""
    what = f"{kind}.password_file: {file}"
    try:
        with Path(file).open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            data = stream.read(PASSWORD_BYTES_MAX + 1)
    except OSError as exc:
        raise ConfigError([f"{what} cannot be read: {exc.strerror}."]) from exc
    if mode & 0o077:
        raise ConfigError([f"{what} has mode {mode:04o}; allowed is 0600: chmod 600 {file}"])
    try:
        password = data.decode().strip("\r\n")
    except UnicodeDecodeError as exc:
        raise ConfigError([f"{what} is not UTF-8."]) from exc
    if not password or len(data) > PASSWORD_BYTES_MAX:
        raise ConfigError([f"{what} must hold a password of 1 to {PASSWORD_BYTES_MAX} bytes."])
    return password


def write_password(file: str, password: str) -> None:
    """Put another password in the place of the one in `file`: a kill leaves one or the other."""
    beside = Path(f"{file}.new")
    try:
        beside.touch(mode=0o600)
        with beside.open("w", encoding="utf-8") as stream:
            stream.write(password)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    except OSError as exc:
        raise NorthboundError(f"{file} cannot be written: {exc.strerror}") from exc


def _readable(name: str, key: str, file: str | None) -> None:
    """ssl says that a file is missing, but not which one."""
    try:
        if file is not None:
            Path(file).open("rb").close()
    except OSError as exc:
        raise ConfigError(
            [f"mqtt {name}: its TLS files cannot be used: {key} {file}: {exc.strerror}."]
        ) from exc


def tls_context(section: MqttSection) -> ssl.SSLContext | None:
    """What encrypts the connection and checks the broker; None without TLS."""
    if not section.tls:
        return None
    for key in ("ca_file", "cert_file", "key_file"):
        _readable(section.name, key, getattr(section, key))
    try:
        context = ssl.create_default_context(cafile=section.ca_file)
        if section.cert_file is not None:
            context.load_cert_chain(section.cert_file, section.key_file)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError([f"mqtt {section.name}: its TLS files cannot be used: {exc}."]) from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
