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
import re
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from gateway.areas import Areas
from gateway.clock import Clock, SystemClock
from gateway.config_alarms import WorkOrdersSection
from gateway.config_hj212 import Hj212Section
from gateway.config_mqtt import MqttSection
from gateway.config_sl651 import Sl651Section
from gateway.devices import Devices
from gateway.errors import ConfigError, NorthboundError
from gateway.held import Held
from gateway.intervals import Intervals
from gateway.log import printable
from gateway.marks import Marks
from gateway.registry import Registry
from gateway.store import Store
from gateway.tls_files import TlsFiles
from protocols.alarm_rules import Rule

log = logging.getLogger(__name__)
PASSWORD_BYTES_MAX = 1024
HOUR_MS = 3_600_000


class Runner(Protocol):
    """What gateway/northbound/runner.py offers the daemon."""

    async def run(self) -> None: ...

    def status(self) -> dict[str, Any]: ...

    def held(self) -> tuple[Any, ...]: ...  # as Held has it

    def close(self) -> None: ...

    async def restamped(self, rows: Intervals, old: tuple[int, int], new: tuple[int, int]) -> None: ...


class Northbound:
    """A northbound by name, with its state in the units that /metrics and people want."""

    def __init__(self, name: str, runner: Runner, clock: Clock, tls: TlsFiles | None = None) -> None:
        self.name = name
        self._tls = tls
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
            why = getattr(self._runner, "why_not", "")
            return f"not connected: {printable(why)}" if why else "not connected"
        days = None if self._tls is None else self._tls.days_left()
        return f"its certificate ends in {days:.1f} days" if days is not None and days <= 7 else None

    def picture(self) -> dict[str, float]:
        """Counters and gauges."""
        status = self._runner.status()
        oldest_ms = status["oldest_undelivered_ms"]
        age_ms = 0 if oldest_ms is None else max(0, self._clock.unix_ms() - oldest_ms)
        picture = {
            "connected": float(status["connected"]),
            "backlog_records": status["backlog"],
            "backlog_hours": age_ms / HOUR_MS,
            "in_flight": status["in_flight"],
            "delivered": status["delivered"],
            "refused": status["refused"],
        }
        days = None if self._tls is None else self._tls.days_left()
        return picture if days is None else {**picture, "certificate_days": days}

    def held(self) -> Held:
        """What must stay in the store for it."""
        return Held(*self._runner.held())

    def close(self) -> None:
        """It was ended for good: the store tells it nothing any more."""
        self._runner.close()

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


class OrdersNorthbound(Northbound):
    """One that delivers alarms. Each exchange has its own time limit, and a refused order waits for its next try."""

    def progress(self) -> object | None:
        """None: there is no moment at which nothing moving would mean that it hangs."""
        return None


class Context(NamedTuple):
    """What a northbound is made from, beside its own table."""

    gateway: str  # name of this gateway
    store: Store
    registry: Registry
    clock: Clock
    rng: random.Random
    marks: Marks
    devices: Devices | None
    rules: Mapping[str, Rule] = {}
    areas: Areas = Areas()


class Kind(NamedTuple):
    """`build(section, context)` makes a northbound; `check(section)` reads the files that its table names, and says
    for `tidegate gateway check` where it leads to. Both raise ConfigError."""

    build: Callable[[Any, Context], Northbound]
    check: Callable[[Any], str]


def build_mqtt(section: MqttSection, context: Context) -> Northbound:
    """An MQTT northbound."""
    from gateway.northbound import mqtt_build

    token, password = mqtt_secrets(section)
    tls = tls_files(section, context.clock.unix_ms)
    delivery = mqtt_build.build(
        section, context.gateway, token, password, tls, context.store, context.registry.place_of, context.marks,
        context.devices, context.clock, context.rng,
    )  # fmt: skip
    return Northbound(section.name, delivery, context.clock, tls)


def check_mqtt(section: MqttSection) -> str:
    _, password = mqtt_secrets(section)
    tls = tls_files(section, SystemClock().unix_ms)
    told = f"{section.host}:{section.port}, {section.payload}"
    if section.payload != "thingsboard":
        told += f", topic {section.topic}"
    if tls is None and (password is not None or section.token_file is not None):
        told += "; the password goes there unencrypted: tls = true"
    return told + _lasts(tls)


def mqtt_secrets(section: MqttSection) -> tuple[str | None, str | None]:
    """(access token, password)."""
    token = None if section.token_file is None else read_password(section.token_file, "mqtt", "token_file")
    return token, None if section.password_file is None else read_password(section.password_file, "mqtt")


def tls_files(section: MqttSection, now_ms: Callable[[], int]) -> TlsFiles | None:
    """What encrypts the connection and checks the broker; None without TLS."""
    if not section.tls:
        return None
    return TlsFiles(f"mqtt {section.name}", section.ca_file, section.cert_file, section.key_file, now_ms)


def build_hj212(section: Hj212Section, context: Context) -> Northbound:
    """A northbound to an environmental platform."""
    from gateway.northbound.hj212_northbound import build

    password = read_password(section.password_file, "hj212")
    _tell_unknown_sites("hj212", section, [site.site for site in context.registry.sites()])
    set_password = None
    if section.may_set_password:
        set_password = functools.partial(write_password, section.password_file)
    runner = build(
        section, password, set_password, context.store, context.registry.place_of, context.marks, context.clock,
        context.rng, sm4_key(section),
    )  # fmt: skip
    return RowsNorthbound(section.name, runner, context.clock)


def sm4_key(section: Hj212Section) -> bytes | None:
    """The key that data areas are encrypted with; None where they are not."""
    if section.encryption == "none" or section.sm4_key_file is None:
        return None
    return read_sm4_key(section.sm4_key_file, "hj212", "sm4_key_file")


def read_sm4_key(file: str, kind: str, key: str) -> bytes:
    """A key of SM4 that this machine can use."""
    from protocols.northbound import hj212_sm4, sm4

    text = read_password(file, kind, key)
    try:
        found = hj212_sm4.key_of(text)
        sm4.encrypt(found, b"")
    except sm4.Sm4Error as error:
        raise ConfigError([f"{kind}.{key}: {file}: {error}."]) from error
    return found


def _tell_unknown_sites(kind: str, section: Hj212Section | Sl651Section, known: list[str]) -> None:
    """A name that is spelled wrong would be reported on never, without a word."""
    for site in section.stations:
        if site not in known:
            near = difflib.get_close_matches(site, known, n=1, cutoff=0.6)
            hint = f" Did you mean {near[0]}?" if near else " Make it: tidegate gateway site add."
            log.warning(
                "%s %s: there is no site %s yet, so nothing is reported of it.%s",
                kind,
                section.name,
                site,
                hint,
            )


def check_hj212(section: Hj212Section) -> str:
    read_password(section.password_file, "hj212")
    how = "" if sm4_key(section) is None else ", encrypted (SM4)"
    slow = "" if section.ack else _drains(section.timeout_s)
    return f"{section.host}:{section.port}, HJ {section.version}, {_stations(section.stations)}{how}{slow}"


def build_work_orders(section: WorkOrdersSection, context: Context) -> Northbound:
    """A northbound to a platform that takes alarms as work orders."""
    from gateway.northbound.http_client import HttpClient

    tls = orders_tls(section, context.clock.unix_ms)
    return work_orders_by(HttpClient(section.timeout_s, _bearer(section), tls), section, context, tls)


def _bearer(section: WorkOrdersSection) -> str | None:
    """A token that a header can carry: what refuses another one repeats it in its error."""
    if section.token_file is None:
        return None
    token = read_password(section.token_file, "work_orders", "token_file")
    if not re.fullmatch(r"[!-~]+", token):
        told = "must hold the token alone, letters, digits and signs of ASCII: there is a blank or another character"
        raise ConfigError([f"work_orders.token_file: {section.token_file} {told} in it, perhaps at its end."])
    return token


def work_orders_by(
    platform: Any, section: WorkOrdersSection, context: Context, tls: TlsFiles | None = None
) -> Northbound:
    """The same with another way to the platform."""
    from gateway.northbound.work_orders import Settings, WorkOrders

    settings = Settings(
        section.name, context.gateway, section.url, section.answer_url, section.severity_min, section.language,
        section.days, ZoneInfo(section.timezone), section.status_url, section.status_every_s, section.in_flight,
    )  # fmt: skip
    runner = WorkOrders(
        settings, context.store, platform, context.rules, context.areas, context.clock, context.rng
    )
    return OrdersNorthbound(section.name, runner, context.clock, tls)


def orders_tls(section: WorkOrdersSection, now_ms: Callable[[], int]) -> TlsFiles | None:
    """What checks the platform's certificate, and who we are there; None without TLS."""
    urls = (section.url, section.answer_url or "", section.status_url or "")
    if not any(url.startswith("https:") for url in urls):
        return None
    return TlsFiles(
        f"work_orders {section.name}", section.ca_file, section.cert_file, section.key_file, now_ms
    )


def check_work_orders(section: WorkOrdersSection) -> str:
    _bearer(section)
    tls = orders_tls(section, SystemClock().unix_ms)
    return section.url.partition("?")[0] + _lasts(tls)


def _lasts(tls: TlsFiles | None) -> str:
    """How long our own certificate does, where there is one."""
    days = None if tls is None else tls.days_left()
    if days is None:
        return ""
    return f"; certificate good for {days:.0f} days" if days > 0 else "; its certificate HAS EXPIRED"


def build_sl651(section: Sl651Section, context: Context) -> Northbound:
    """A northbound to a hydrological centre."""
    from gateway.northbound.sl651_northbound import build

    password = _sl651_password(section)
    _tell_unknown_sites("sl651", section, [site.site for site in context.registry.sites()])
    runner = build(
        section,
        password,
        context.store,
        context.registry.place_of,
        context.marks.of,
        context.clock,
        context.rng,
    )
    return RowsNorthbound(section.name, runner, context.clock)


def _sl651_password(section: Sl651Section) -> str:
    password = read_password(section.password_file, "sl651").upper()
    if not re.fullmatch(r"[0-9A-F]{4}", password):
        raise ConfigError(
            [f"sl651.password_file: {section.password_file} must hold four hexadecimal digits, such as 03E8."]
        )
    return password


def check_sl651(section: Sl651Section) -> str:
    _sl651_password(section)
    slow = _drains(section.timeout_s) if section.mode == "M1" else ""
    told = f"centre {section.centre}, {section.mode}, {_stations(section.stations)}"
    return f"{section.host}:{section.port}, {told}{slow}"


def _stations(stations: Collection[str]) -> str:
    return "1 station" if len(stations) == 1 else f"{len(stations)} stations"


def _drains(timeout_s: int) -> str:
    """What a long time-out costs where nothing is confirmed; nothing to tell of the usual ones."""
    from gateway.northbound.shares import unacked_window

    rows_per_s = unacked_window(timeout_s) * 3 // 4 // timeout_s
    return "" if rows_per_s >= 1000 else f"; a backlog goes at {rows_per_s} rows a second (timeout_s)"


# By the name of their table; config.NORTHBOUNDS has the same names.
KINDS: dict[str, Kind] = {
    "mqtt": Kind(build_mqtt, check_mqtt),
    "hj212": Kind(build_hj212, check_hj212),
    "work_orders": Kind(build_work_orders, check_work_orders),
    "sl651": Kind(build_sl651, check_sl651),
}


def read_password(file: str, kind: str, key: str = "password_file") -> str:
    """The password in `file`, which only its owner may read."""
    what = f"{kind}.{key}: {file}"
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
