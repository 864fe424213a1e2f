"""[[hj212]]: one environmental platform, and what must hold between its keys; on the raw tables, as in config.py."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal

from pydantic import Field

from gateway.config_errors import Problem, rows_of
from gateway.config_types import FileName, Host, Name, Section, Zone, allowed
from gateway.limits import STATIONS_MAX
from protocols.measurands import registry
from protocols.northbound import hj212

_MN = re.compile(r"[A-Za-z0-9]{1,24}")
_CODE = re.compile(r"[A-Za-z0-9]{0,12}")
_SYSTEMS = ", ".join(sorted(hj212.SYSTEMS))


class Hj212Section(Section):
    """One environmental platform that takes HJ 212 or HJ 1404. Repeat the table for each."""

    name: Name = Field(description="its progress is kept under this name: do not change it")
    enabled: bool = Field(True, description="false pauses the delivery; its backlog is kept")
    host: Host = Field(description="name or IP address of the platform")
    port: int = Field(ge=1, le=65535, description="port at the platform")
    version: Literal["2017", "2025", "1404"] = Field(
        "2017", description="HJ 212-2017, HJ 212-2025 or HJ 1404-2024 (surface water)"
    )
    st: str = Field(
        "21",
        pattern=r"^[0-9]{2}$",
        description="system (ST): 21 surface water, 32 waste water, 39 construction dust, 23 noise",
        json_schema_extra=allowed(f"two digits in quotes; the standard has {_SYSTEMS}"),
    )
    password_file: FileName = Field(description="file with the password (PW) alone, mode 0600")
    stations: dict[str, str] = Field(
        min_length=1,
        max_length=STATIONS_MAX,
        description="which sites are reported, and the MN of each",
        json_schema_extra=allowed(f'1 to {STATIONS_MAX} sites with their MN: {{ "lishui-3" = "0100…" }}'),
    )
    timezone: Zone = Field("Asia/Shanghai", description="the platform's hours and days begin by it")
    real_time_s: int = Field(
        60, ge=0, le=3600, description="interval of real-time data (2011), 30 to 3600; 0 sends none"
    )
    minutes: Literal[0, 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30] = Field(
        10, description="period of minute data (2051); 0 sends none"
    )
    hours: Literal[0, 1, 2, 3, 4, 6, 8, 12] = Field(1, description="period of hour data (2061); 0 sends none")
    day: bool = Field(False, description="true sends day data (2031)")
    grace_s: int = Field(
        60, ge=0, le=3600, description="how long after its end a period waits for readings under way"
    )
    valid_percent: int = Field(
        75, ge=1, le=100, description="share of samples that must count for a period to be normal (N)"
    )
    sample_s: int = Field(
        0, ge=0, le=86400, description="how often stations sample, to know what is missing; 0: not known"
    )
    sums: bool = Field(False, description="true adds -Cou: m3 of a discharge, kg of what is in it")
    items: dict[str, str] = Field(
        {}, description='codes other than the registry\'s, by measurand; "" leaves one out'
    )
    ack: bool = Field(
        True, description="false for a platform that confirms no data: then losses are possible"
    )
    timeout_s: int = Field(
        10, ge=1, le=600, description="wait for a confirmation; the platform may change it"
    )
    resends: int = Field(3, ge=0, le=10, description="how often it is sent again; the platform may change it")
    heartbeat_s: int | None = Field(
        None, ge=0, le=3600, description="interval of heartbeats (9015); default 60, with version 2017 none"
    )
    in_flight: int = Field(
        64, ge=2, le=256, description="rows under way at once; 2 for a platform that takes one at a time"
    )
    mark_resent: bool = Field(True, description="false leaves out RF=1 with data that is sent late or again")
    may_set: bool = Field(
        True, description="false refuses intervals, time-outs and real-time on or off that the platform sets"
    )
    encryption: Literal["none", "sm4"] = Field(
        "none", description="sm4: the data area is encrypted (HJ 212-2025); the platform must do so too"
    )
    sm4_key_file: FileName | None = Field(
        None, description="file with the key of SM4, 32 hexadecimal digits, mode 0600"
    )
    sm4_text: Literal["hex", "base64"] = Field(
        "hex", description="how encrypted bytes stand in the data area; the platform says which"
    )
    may_set_password: bool = Field(False, description="true lets the platform change password_file (1072)")


def platforms(sections: Iterable[Hj212Section]) -> dict[str, Collection[str]]:
    """The sites that each platform is told of, by the northbound's name."""
    return {section.name: section.stations for section in sections}


def check(raw: dict[str, Any]) -> Iterator[Problem]:
    """Problems between keys. Values of a wrong type are skipped: pydantic has named them."""
    for index, row in enumerate(rows_of(raw, "hj212")):
        yield from _check_stations(index, row.get("stations"))
        yield from _check_items(index, row.get("items"))
        yield from _check_encryption(index, row)
        interval = row.get("real_time_s")
        if isinstance(interval, int) and 0 < interval < 30:
            yield Problem(
                ("hj212", index, "real_time_s"), f"{interval} is not allowed. Allowed is 0, or 30 to 3600."
            )


def _check_encryption(index: int, row: dict[str, Any]) -> Iterator[Problem]:
    encrypts = row.get("encryption", "none") == "sm4"
    if encrypts and "sm4_key_file" not in row:
        yield Problem(
            ("hj212", index, "encryption"),
            'sm4 needs a key: sm4_key_file = "FILE" with the 32 hexadecimal digits that the platform gave you.',
        )
    if not encrypts and "sm4_key_file" in row:  # who gave a key believes that it is used
        yield Problem(
            ("hj212", index, "sm4_key_file"),
            'a key, and nothing is encrypted with it. Add encryption = "sm4", or remove the key.',
        )


def _check_stations(index: int, stations: object) -> Iterator[Problem]:
    if not isinstance(stations, dict):
        return
    first: dict[str, str] = {}
    for site, mn in stations.items():
        path = ("hj212", index, "stations", site)
        if not isinstance(mn, str):
            continue
        if not _MN.fullmatch(mn):
            yield Problem(path, f'"{mn:.40}" is no MN. Allowed are 1 to 24 letters and digits.')
        elif mn in first:
            yield Problem(path, f'"{mn}" is already the MN of {first[mn]}: each station has its own.')
        first.setdefault(mn, site)


def _check_items(index: int, items: object) -> Iterator[Problem]:
    if not isinstance(items, dict):
        return
    known = registry().by_name
    for name, code in items.items():
        path = ("hj212", index, "items", name)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f' Did you mean "{near[0]}"?' if near else ""
            yield Problem(path, f"{name:.40} is no measurand of the registry (measurands.toml).{hint}")
        elif isinstance(code, str) and not _CODE.fullmatch(code):
            yield Problem(path, f'"{code:.40}" is no code. Allowed is one such as "w01001", or "".')
