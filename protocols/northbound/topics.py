"""Topic templates: `tidegate/{city}/{district}/{site}/{node}/{stream}` checked, and filled for a destination.

An area of China is 12 digits (GB/T 2260 for the first six, GB/T 10114 behind it): province 2, city 4, district 6,
street 9, community 12. Each of these is a field and gives that prefix of the area:

    fill("{city}/{district}/{node}", Fields(area="330106003002", node="0012"))     -> 3301/330106/0012

A code that is shorter than a level is that level's name, too, and a name that is no code is every level's: a topic
keeps its number of levels whatever is known of a site, so that subscriptions with + go on to match.
"""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple

NONE = "none"
# Digits up to and including each level.
AREA_LEVELS = {"province": 2, "city": 4, "district": 6, "street": 9, "community": 12}
# An MQTT string has at most 65,535 bytes; a topic of more than this is a mistake.
TOPIC_BYTES_MAX = 1024
_FIELD = re.compile(r"\{([^{}]*)\}")


class Fields(NamedTuple):
    """What a topic may be made of. `measurand`: of a set sent value by value; the name of an event."""

    gateway: str = ""
    area: str = ""
    site: str = ""
    node: str = ""
    stream: str = ""
    measurand: str = ""


RECORD_FIELDS = ("area", *AREA_LEVELS, "site", "node", "stream", "measurand", "gateway")
GATEWAY_FIELDS = ("gateway",)


def fill(template: str, fields: Fields) -> str:
    """The topic. The template has passed `problem`."""
    known = fields._asdict()

    def value(match: re.Match[str]) -> str:
        name = match[1]
        text = area_level(fields.area, name) if name in AREA_LEVELS else known[name]
        return level(text)

    return _FIELD.sub(value, template)


def area_level(area: str, name: str) -> str:
    """The prefix of an area code that names one level."""
    return area[: AREA_LEVELS[name]] if area.isascii() and area.isdecimal() else area


def level(text: str) -> str:
    """`text` as one level of a topic: what separates, matches or ends levels becomes _."""
    return re.sub(r"[/+#\x00-\x1f\x7f-\x9f\ufffe\uffff]", "_", text) or NONE


def problem(template: str, allowed: tuple[str, ...], needed: tuple[str, ...] = ()) -> str | None:
    """What is wrong with a template, in words; None when nothing is."""
    unknown = next((name for name in _FIELD.findall(template) if name not in allowed), None)
    if unknown is not None or "{" in _FIELD.sub("", template) or "}" in _FIELD.sub("", template):
        return _unknown(template, unknown, allowed)
    if "+" in template or "#" in template:
        return f'"{template}" holds a wildcard; a topic to publish to has no "+" and no "#".'
    if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", template):
        shown = template.encode("unicode_escape").decode()
        return f'"{shown}" holds a control character; brokers close the connection for one.'
    if template.upper().startswith("$SYS"):
        return f'"{template}" is below $SYS, where only the broker itself publishes.'
    if len(template.encode()) > TOPIC_BYTES_MAX:
        return f"is {len(template.encode())} bytes long; allowed are {TOPIC_BYTES_MAX}."
    missing = [name for name in needed if "{" + name + "}" not in template]
    if missing:
        must = " and ".join("{" + name + "}" for name in needed)
        return f'"{template}" would mix nodes or streams: it must contain {must}.'
    return None


def _unknown(template: str, name: str | None, allowed: tuple[str, ...]) -> str:
    fields = ", ".join("{" + field + "}" for field in allowed)
    if name is None:
        return f'"{template}" holds a brace without its other half. Allowed fields are {fields}.'
    near = difflib.get_close_matches(name.strip().lower(), allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {{{near[0]}}}?" if near else ""
    return f'"{template}" holds an unknown field, {{{name}}}. Allowed are {fields}.{hint}'
