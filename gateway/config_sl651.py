"""[[sl651]]: one hydrological centre, and what must hold between its keys; on the raw tables, as in config.py."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from gateway.config_errors import Problem, rows_of
from gateway.config_types import FileName, Host, Name, Section, Zone, allowed
from gateway.limits import STATIONS_MAX
from protocols.measurands import registry
from protocols.northbound.sl651_codes import CLASSES

_ADDRESS = re.compile(r"[0-9]{6}[0-9A-F]{4}")
_CLASSES = ", ".join(f"{chr(code)} {english}" for code, (_, english) in CLASSES.items())


class Sl651Section(Section):
    """One hydrological centre that takes SL 651-2014 (HEX/BCD). Repeat the table for each."""

    name: Name = Field(description="its progress is kept under this name: do not change it")
    enabled: bool = Field(True, description="false pauses the delivery; its backlog is kept")
    host: Host = Field(description="name or IP address of the centre")
    port: int = Field(ge=1, le=65535, description="port at the centre")
    centre: int = Field(1, ge=1, le=255, description="address of the centre")
    password_file: FileName = Field(description="file with four hexadecimal digits alone, mode 0600")
    stations: dict[str, str] = Field(
        min_length=1,
        max_length=STATIONS_MAX,
        description="which sites are reported, and the address of each",
        json_schema_extra=allowed(
            f'1 to {STATIONS_MAX} sites with their address: {{ "lishui-3" = "0012345678" }}'
        ),
    )
    station_class: Literal["P", "H", "K", "Z", "D", "T", "M", "G", "Q", "I", "O"] = Field(
        "H", description=f"what the stations are: {_CLASSES}"
    )
    mode: Literal["M1", "M2"] = Field(
        "M2", description="M2: the centre confirms; M1: it does not, and losses are possible"
    )
    timezone: Zone = Field("Asia/Shanghai", description="the centre's hours and days begin by it")
    timed_min: Literal[0, 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720, 1440] = (
        Field(5, description="interval of timed reports (32H) in minutes; 0 sends none")
    )
    hourly: bool = Field(True, description="false sends no hourly reports (34H)")
    grace_s: int = Field(
        30, ge=0, le=3600, description="how long after its moment a report waits for readings under way"
    )
    steps: dict[str, float] = Field(
        {}, description="added report (33H) when a measurand has moved by so much: { level = 10 } in its unit"
    )
    above: dict[str, float] = Field(
        {}, description="added report when a measurand crosses this limit; over it is an alarm"
    )
    below: dict[str, float] = Field(
        {}, description="added report when a measurand crosses this limit; under it is an alarm"
    )
    link_keep_s: int = Field(40, ge=0, le=3600, description="interval of link keeps (2FH); 0 sends none")
    timeout_s: int = Field(10, ge=1, le=600, description="wait for a confirmation")
    resends: int = Field(3, ge=0, le=10, description="how often a report is sent again")
    in_flight: int | None = Field(
        None,
        ge=2,
        le=256,
        description="reports under way or waiting for their station's turn; default two per station, 16 to 256",
    )


def check(raw: dict[str, Any]) -> Iterator[Problem]:
    """Problems between keys. Values of a wrong type are skipped: pydantic has named them."""
    for index, row in enumerate(rows_of(raw, "sl651")):
        yield from _check_stations(index, row.get("stations"))
        for key in ("steps", "above", "below"):
            yield from _check_limits(index, key, row.get(key))


def _check_stations(index: int, stations: object) -> Iterator[Problem]:
    if not isinstance(stations, dict):
        return
    first: dict[str, str] = {}
    for site, address in stations.items():
        path = ("sl651", index, "stations", site)
        if not isinstance(address, str):
            continue
        if not _ADDRESS.fullmatch(address):
            yield Problem(
                path,
                f'"{address:.40}" is no address. Allowed are 00 and the eight digits of a station, or the six digits '
                "of a district and four hexadecimal digits in capitals." + _meant(address),
            )
        elif address in first:
            yield Problem(
                path, f'"{address}" is already the address of {first[address]}: each station has its own.'
            )
        first.setdefault(address, site)


def _meant(address: str) -> str:
    """The address that a person has in mind, where that is plain."""
    for near in (f"00{address}", address.upper(), re.sub(r"[\s:-]", "", address)):
        if _ADDRESS.fullmatch(near):
            return f' Did you mean "{near}"?'
    return ""


def _check_limits(index: int, key: str, limits: object) -> Iterator[Problem]:
    if not isinstance(limits, dict):
        return
    known = [measurand.name for measurand in registry().by_name.values() if measurand.sl651 is not None]
    for name, value in limits.items():
        path = ("sl651", index, key, name)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f' Did you mean "{near[0]}"?' if near else ""
            yield Problem(path, f"{name:.40} is no measurand that SL 651 has an element for.{hint}")
        elif key == "steps" and isinstance(value, int | float) and value <= 0:
            yield Problem(path, f"{value} is no step. Allowed is more than 0.")
