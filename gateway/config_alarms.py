"""[[alarm]], [[area]] and [[work_orders]], and what must hold between their keys."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from gateway import limits
from gateway.areas import LEVELS
from gateway.config_errors import Problem, rows_of, unique
from gateway.config_types import ARRAY, Area, FileName, Name, Section, Zone, allowed, can_be_looked_up
from protocols.alarm_rules import CODES, NOTES, ORDER_TYPES, Rule
from protocols.alarm_rules import rules as built_in
from protocols.measurands import registry
from protocols.wire.codes import EVENT_NAMES

if TYPE_CHECKING:
    from gateway.config import Config

_DAY_S = 86_400
Limit = Annotated[float | None, Field(allow_inf_nan=False)]
Delay = Annotated[int, Field(ge=0, le=_DAY_S)]


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.fragment:
        raise ValueError("no URL")
    can_be_looked_up(parts.hostname)  # its ValueError becomes the problem, and the port's
    _ = parts.port
    if not value.isascii() or any(char <= " " for char in value):
        raise ValueError("no URL")
    return value


Url = Annotated[
    str,
    AfterValidator(_url),
    Field(
        max_length=2048,
        json_schema_extra=allowed(
            'a URL such as "https://12345.example/api/workorder", without a user in it'
        ),
    ),
]


class AlarmSection(Section):
    """A rule of alarms: changes the built-in one of that name, or is a new one."""

    name: Name = Field(description="a built-in rule (protocols/alarm_rules.toml), or a new name")
    enabled: bool = Field(True, description="false: no alarm by this rule")
    events: Annotated[tuple[str, ...], ARRAY] = Field((), max_length=64, description="what nodes tell")
    measurand: str | None = Field(None, max_length=64, description="or what is measured")
    below: Limit = Field(None, description="alarm under this, in the measurand's unit")
    below_clear: Limit = Field(None, description="and over at this or more")
    above: Limit = Field(None, description="alarm over this")
    above_clear: Limit = Field(None, description="and over at this or less")
    need: int | None = Field(None, ge=1, le=32, description="so many readings beyond the limit")
    of: int | None = Field(None, ge=1, le=32, description="of so many in a row")
    on_delay_s: Delay | None = Field(None, description="for how long it must hold")
    off_delay_s: Delay | None = Field(None, description="for how long it must be over")
    min_s: Delay | None = Field(None, description="an alarm lasts at least so long")
    flap_count: int | None = Field(
        None, ge=0, le=limits.ALARM_FLAPS_KEPT, description="raises within flap_window_s that flap; 0: never"
    )
    flap_window_s: Delay | None = Field(None)
    flap_quiet_s: Delay | None = Field(None, description="quiet that ends a flapping alarm")
    severity: int | None = Field(None, ge=1, le=4, description="1 notice to 4 danger")
    order: Literal["event", "warning", "risk", "hidden", "device"] | None = Field(
        None, description="type of the work order"
    )
    en: str | None = Field(None, min_length=1, max_length=200, description="what it says, in English")
    zh: str | None = Field(None, min_length=1, max_length=200, description="in Chinese")


class AreaSection(Section):
    """An area that answers for alarms. Sites have the code of one; an unacknowledged alarm goes to the parent."""

    code: Area = Field(description="as sites have it, e.g. 330106001001")
    name: str = Field(min_length=1, max_length=100, description="for people")
    level: Literal["grid", "street", "district", "city"] = Field(description="grid, street, district or city")
    parent: Area | None = Field(None, description="code of the area above; a city has none")
    handler: str = Field("", max_length=100, description="who is told: a department's or a person's id")
    contact: str = Field("", max_length=200, description="how a person reaches them")
    escalate_after_min: int = Field(
        30, ge=0, le=10_080, description="unacknowledged so long, the parent is told; 0: never"
    )


class WorkOrdersSection(Section):
    """One platform that takes alarms as work orders (12345), over HTTP."""

    name: Name = Field(description="its progress is kept under this name: do not change it")
    enabled: bool = Field(True, description="false pauses the delivery; what is owed is kept")
    url: Url = Field(description="where orders are posted to")
    answer_url: Url | None = Field(None, description="where the end of an order is posted to, if elsewhere")
    status_url: Url | None = Field(
        None, description="where what the desk did is asked for; {code} stands for the order's code"
    )
    status_every_s: int = Field(30, ge=5, le=3600, description="how often it is asked about each open order")
    token_file: FileName | None = Field(None, description="file with a bearer token alone, mode 0600")
    ca_file: FileName | None = Field(None, description="certificates to trust instead of the system's")
    cert_file: FileName | None = Field(None, description="certificate this gateway shows")
    key_file: FileName | None = Field(None, description="private key of cert_file")
    timeout_s: float = Field(10.0, ge=0.5, le=60.0, description="for one exchange")
    in_flight: int = Field(
        limits.ORDERS_IN_FLIGHT,
        ge=1,
        le=limits.HTTP_KEPT_MAX,
        description="orders under way at once; of one alarm it is one at a time",
    )
    severity_min: int = Field(1, ge=1, le=4, description="alarms below it become no orders")
    language: Literal["zh", "en", "both"] = Field("both", description="of what an order says")
    days: int = Field(1, ge=0, le=30, description="in so many days an order is to be done (processlimited)")
    timezone: Zone = Field("Asia/Shanghai", description="the platform's civil time")


def check(raw: dict[str, Any]) -> Iterator[Problem]:
    """Problems between keys. Values of a wrong type are skipped: pydantic has named them."""
    yield from unique("alarm", "name", rows_of(raw, "alarm"))
    for index, row in enumerate(rows_of(raw, "alarm")):
        yield from _check_alarm(("alarm", index), row)
    yield from unique("area", "code", rows_of(raw, "area"))
    yield from _check_areas(rows_of(raw, "area"))
    for index, row in enumerate(rows_of(raw, "work_orders")):
        for key, told in _check_work_orders(row):
            yield Problem(("work_orders", index, key), told)


_URLS = ("url", "answer_url", "status_url")


def _check_work_orders(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with it)."""
    urls = [row[key] for key in _URLS if isinstance(row.get(key), str)]
    is_clear = any(url.startswith("http://") and not _is_local(url) for url in urls)
    if "token_file" in row and is_clear:
        yield (
            "token_file",
            "would travel in the clear: the urls must begin with https:// (or be on this machine).",
        )
    hosts = {key: _host(row[key]) for key in _URLS if isinstance(row.get(key), str)}
    for key, host in hosts.items():
        if "token_file" in row and host != hosts.get("url", host):
            yield (
                key,
                f"is on {host}, but the token of token_file is {hosts['url']}'s: both must be on one host.",
            )
    for key in ("ca_file", "cert_file", "key_file"):
        if key in row and urls and not any(url.startswith("https://") for url in urls):
            yield key, "needs a url that begins with https://."
    for key, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if key in row and other not in row:
            yield key, f"needs {other} beside it."
    status_url = row.get("status_url")
    if isinstance(status_url, str) and status_url.count("{code}") != 1:
        yield "status_url", "must have {code} in it, once: the order's code is put there."
    for key in ("url", "answer_url"):
        if isinstance(row.get(key), str) and "{" in row[key]:
            yield key, "is taken as it is: {…} stands for something only in status_url."


def _host(url: str) -> str | None:
    """None for what is no URL: that is named elsewhere."""
    try:
        return urlsplit(url).hostname
    except ValueError:  # such as of https://[::1
        return None


def _is_local(url: str) -> bool:
    return _host(url) in ("127.0.0.1", "::1", "localhost")


def _near(value: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(value.lower(), list(known), n=1, cutoff=0.5)
    return f' Did you mean "{near[0]}"?' if near else ""


def _check_alarm(path: tuple[str, int], row: dict[str, Any]) -> Iterator[Problem]:
    name, events, measurand = row.get("name"), row.get("events"), row.get("measurand")
    rules = built_in()
    for event in events if isinstance(events, list) else ():
        if isinstance(event, str) and event not in CODES:
            yield Problem((*path, "events"), f'"{event:.64}" is no event.{_near(event, CODES)}')
        elif event in NOTES:
            told = f'"{event}" can hold no alarm: it is told once, and nothing tells that it is over.'
            yield Problem((*path, "events"), told)
    known = registry().by_name
    if isinstance(measurand, str) and measurand not in known:
        yield Problem((*path, "measurand"), f'"{measurand:.64}" is unknown.{_near(measurand, known)}')
    if not isinstance(name, str):
        return
    if name not in rules:
        if not events and not measurand:
            told = f'"{name:.64}" is no built-in rule, and a new one needs events or a measurand.'
            yield Problem((*path, "name"), told + _near(name, rules))
        for key in ("severity", "order", "en"):
            if key not in row:
                yield Problem((*path, key), f'missing: "{name:.64}" is a new rule.')
    elif events == [] and not measurand:
        yield Problem((*path, "events"), "= [] watches nothing. enabled = false switches the rule off.")
    if measurand and events:
        yield Problem((*path, "measurand"), "cannot stand beside events: make two rules of it.")
    yield from _check_limits(path, row)


def _check_limits(path: tuple[str, int], row: dict[str, Any]) -> Iterator[Problem]:
    numbers = {key: row[key] for key in row if type(row[key]) in (int, float)}
    if "measurand" in row and not {"below", "above"} & row.keys():
        yield Problem((*path, "measurand"), "needs below or above beside it.")
    for on, off, sign in (("below", "below_clear", 1), ("above", "above_clear", -1)):
        if off in row and on not in row:
            yield Problem((*path, off), f"needs {on} beside it.")
        if on in numbers and off in numbers and sign * (numbers[off] - numbers[on]) < 0:
            told = f"= {numbers[off]} is on the wrong side of {on} = {numbers[on]}: it would never end."
            yield Problem((*path, off), told)
        if on in row and "measurand" not in row:
            yield Problem((*path, on), "needs measurand beside it.")
    below, above = numbers.get("below"), numbers.get("above")
    if below is not None and above is not None:
        over_low, over_high = numbers.get("below_clear", below), numbers.get("above_clear", above)
        if below >= above:
            yield Problem((*path, "below"), f"= {below} is not under above = {above}: it would hold always.")
        elif over_low > over_high:
            told = f"= {over_low} is over above_clear = {over_high}: once it holds it would never end."
            yield Problem((*path, "below_clear" if "below_clear" in row else "above_clear"), told)
    if numbers.get("need", 1) > numbers.get("of", 1):
        yield Problem((*path, "need"), f"= {numbers['need']} of {numbers.get('of', 1)} can not be.")


def _check_areas(rows: Sequence[dict[str, Any]]) -> Iterator[Problem]:
    codes = {row["code"]: row for row in rows if isinstance(row.get("code"), str)}
    for index, row in enumerate(rows):
        parent = row.get("parent")
        if not isinstance(parent, str):
            continue
        path = ("area", index, "parent")
        above = codes.get(parent)
        if above is None:
            yield Problem(
                path, f'"{parent:.64}" is no [[area]].{_near(parent, codes.keys() - {row.get("code")})}'
            )
        elif _is_in_circle(row.get("code"), codes):
            yield Problem(path, f'"{parent:.64}": the areas go in a circle.')
        elif not _is_above(above.get("level"), row.get("level")):
            told = f'"{parent:.64}" is a {above["level"]}, which is not above a {row["level"]}.'
            yield Problem(path, told)


def _is_above(above: object, level: object) -> bool:
    """True also for what is no level: that is named elsewhere."""
    if above not in LEVELS or level not in LEVELS:
        return True
    return LEVELS.index(str(above)) > LEVELS.index(str(level))


def _is_in_circle(code: object, codes: dict[str, dict[str, Any]]) -> bool:
    seen: set[object] = set()
    at = code
    while isinstance(at, str) and at in codes:
        if at in seen:
            return at == code
        seen.add(at)
        at = codes[at].get("parent")
    return False


def warnings(config: Config) -> Iterator[str]:
    """What may be meant so, and seldom is: for `tidegate gateway check`."""
    for area in config.area:
        if area.parent is not None and not area.code.startswith(area.parent.rstrip("0")):
            yield f"area {area.code}: its code does not begin like its parent's, {area.parent}."
    watched: dict[int, list[str]] = {}
    for name, rule in rules(config.alarm).items():
        for code in set(rule.events):
            watched.setdefault(code, []).append(name)
    for code, names in sorted(watched.items()):
        if len(names) > 1:
            yield f"event {EVENT_NAMES[code]} is watched by {' and '.join(names)}: each makes an order of its own."
    if config.area and not config.work_orders:
        yield "there are [[area]] tables and no [[work_orders]]: alarms are kept, and nobody is told."


def rules(sections: Iterable[AlarmSection]) -> dict[str, Rule]:
    """The built-in rules as [[alarm]] tables change them."""
    made = dict(built_in())
    for section in sections:
        given = section.model_dump(exclude_none=True, exclude_unset=True)
        given.pop("enabled", None)
        events = given.pop("events", None)
        if events is not None:
            given["events"] = tuple(dict.fromkeys(CODES[event] for event in events))
            given.setdefault("measurand", "")
        before = made.get(section.name)
        if before is None:
            before = Rule(section.name, given["en"], given.get("zh", given["en"]), 1, ORDER_TYPES[0])
        if given.get("measurand"):
            given["events"] = ()
        made[section.name] = before._replace(**given)
        if not section.enabled:
            del made[section.name]
    return made
