"""Quality control at a river station by HJ 1404: what was found when a probe was checked. Pure.

    group("standard", "w01009", {"Check": "8.11", "StandardValue": "8.00"}, "N")
        -> w01009-Check=8.11,w01009-StandardValue=8.00,w01009-Flag=N

Source: software of stations after the trial version of 2020; the standard itself (HJ 1404-2024) was not at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from protocols.northbound import hj212
from protocols.northbound.hj212 import Group, Hj212Error


class CheckKind(NamedTuple):
    """``needed`` and ``others``: the fields of one item, in the order in which they are sent."""

    cn: str
    label: str
    needed: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        return (*self.needed, *self.others)


# WaterTime is the moment of the sample that was compared; volumes are those of the sample and of the added standard.
KINDS = {
    "standard": CheckKind(hj212.STANDARD_CHECK, "standard check", ("Check", "StandardValue")),
    "recovery": CheckKind(
        hj212.RECOVERY, "recovery by added standard", ("Check", "WaterTime", "Water", "Chroma", "Volume", "DVolume")
    ),
    "parallel": CheckKind(hj212.PARALLEL, "parallel sample", ("Check", "WaterTime", "Water")),
    "zero": CheckKind(hj212.ZERO_CHECK, "zero check", ("Check", "StandardValue"), ("SpanValue",)),
    "span": CheckKind(hj212.SPAN_CHECK, "span check", ("Check", "StandardValue"), ("SpanValue",)),
}  # fmt: skip
BY_CN = {kind.cn: name for name, kind in KINDS.items()}
TIME_FIELD = "WaterTime"


def check_fields(kind: str, fields: Mapping[str, str]) -> None:
    """Raise Hj212Error unless these are the fields of such a check: numbers, and a time."""
    known = KINDS[kind]
    unknown = [name for name in fields if name not in known.fields]
    missing = [name for name in known.needed if name not in fields]
    if unknown or missing:
        what = f"{unknown[0]!r:.30} is unknown" if unknown else f"{missing[0]} is missing"
        raise Hj212Error(f"{what}: a {known.label} has {', '.join(known.fields)}")
    for name, text in fields.items():
        if name == TIME_FIELD:
            hj212.check_time(text)
        elif not _is_number(text):
            raise Hj212Error(f"{name} = {text!r:.30} is not a number")


def _is_number(text: str) -> bool:
    return text.isascii() and len(text) <= 16 and text.removeprefix("-").replace(".", "", 1).isdigit()


def group(kind: str, code: str, fields: Mapping[str, str], flag: str) -> Group:
    """The items of one pollutant."""
    items = [(f"{code}-{name}", fields[name]) for name in KINDS[kind].fields if name in fields]
    return (*items, (f"{code}-Flag", flag))
