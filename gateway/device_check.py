"""What holds between the tables of buses, adapters and devices, and the profiles that they name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from gateway.config_devices import transport_problem
from gateway.config_errors import Problem, join, rows_of, unique
from gateway.errors import ConfigError
from gateway.profile_library import NAME, Library
from gateway.profiles import Profile

Row = dict[str, Any]


class DeviceCheck:
    """Looks at the raw tables, so that what it finds is told beside everything else; values of a wrong type are
    skipped: pydantic has named them."""

    def __init__(self, raw: Row, base: Path) -> None:
        self._devices = rows_of(raw, "device")
        self._buses = rows_of(raw, "modbus")
        self._adapters = rows_of(raw, "ble")
        self._serial = rows_of(raw, "serial")
        section = raw.get("devices")
        folder = section.get("profiles") if isinstance(section, dict) else None
        self._folder = Path(base, folder) if isinstance(folder, str) and "\0" not in folder else None
        self.library = Library(self._folder)
        self.profiles: dict[str, Profile] = {}
        # Whole lines about profiles: these stand in files of their own.
        self.elsewhere: list[str] = []

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong; fills `profiles` and `elsewhere`."""
        yield from unique("device", "name", self._devices)
        for kind, rows in (("modbus", self._buses), ("ble", self._adapters)):
            yield from unique(kind, "name", rows)
        yield from unique("ble", "adapter", [{"adapter": "hci0", **row} for row in self._adapters])
        for index, row in enumerate(self._adapters):
            yield from _check_adapter(("ble", index), row)
        yield from self._check_buses()
        yield from self._check_folder()
        for index, row in enumerate(self._devices):
            profile = yield from self._check_profile(index, row)
            yield from self._check_link(index, row, profile)
            if profile is not None:
                yield from _check_points(index, row, profile)
            if "area" in row and "site" not in row:
                yield Problem(("device", index, "area"), "needs site beside it: an area is that of a site.")
        yield from self._check_units()
        yield from unique("device", "address", self._devices)
        yield from unique("device", "irk_file", self._devices)

    # --- buses ---

    def _check_buses(self) -> Iterator[Problem]:
        taken = {
            row["path"]: join(("serial", i, "path"))
            for i, row in enumerate(self._serial)
            if _text(row, "path")
        }
        for index, row in enumerate(self._buses):
            transport = row.get("transport", "rtu")
            needed, other = ("path", "host") if transport == "rtu" else ("host", "path")
            if transport in ("rtu", "tcp", "rtu-over-tcp"):
                if needed not in row:
                    yield Problem(("modbus", index), f'needs {needed} with transport = "{transport}".')
                if other in row:
                    meant = ' Did you mean transport = "tcp"?' if transport == "rtu" else ""
                    yield Problem(
                        ("modbus", index, other), f'does not go with transport = "{transport}".{meant}'
                    )
            yield from _check_direction(("modbus", index), row)
            path = row.get("path")
            if isinstance(path, str):
                if path in taken:
                    yield Problem(
                        ("modbus", index, "path"),
                        f'"{path}" is already used by {taken[path]}: a port has one master.',
                    )
                taken.setdefault(path, join(("modbus", index, "path")))
            place = row.get("host"), row.get("port", 502)
            if transport != "rtu" and isinstance(place[0], str) and isinstance(place[1], int):
                name = f"{place[0]}:{place[1]}"
                if name in taken:
                    yield Problem(
                        ("modbus", index, "host"),
                        f"{name} is already used by {taken[name]}: put its devices there, so that one asks at a time.",
                    )
                taken.setdefault(name, join(("modbus", index, "host")))

    def _check_units(self) -> Iterator[Problem]:
        first: dict[tuple[str, int], int] = {}
        used: dict[str, set[int]] = {}
        for row in self._devices:
            if _text(row, "modbus") and isinstance(row.get("unit"), int):
                used.setdefault(row["modbus"], set()).add(row["unit"])
        for index, row in enumerate(self._devices):
            bus, unit = row.get("modbus"), row.get("unit")
            if not isinstance(bus, str) or not isinstance(unit, int):
                continue
            other = first.setdefault((bus, unit), index)
            if other != index:
                free = next((n for n in range(1, 248) if n not in used[bus]), None)
                hint = "" if free is None else f" {free} is free."
                yield Problem(
                    ("device", index, "unit"),
                    f'{unit} on "{bus}" is already used by {join(("device", other, "unit"))}: two devices would '
                    f"answer at once. Give one of them another unit id.{hint}",
                )

    # --- profiles ---

    def _check_folder(self) -> Iterator[Problem]:
        if self._folder is None:
            return
        if not self._folder.is_dir():
            yield Problem(
                ("devices", "profiles"), f"{self._folder} is not a folder. Make it, or correct the path."
            )
            return
        self.elsewhere += self.library.problems()

    def _check_profile(self, index: int, row: Row) -> Generator[Problem, None, Profile | None]:
        name = row.get("profile")
        if not isinstance(name, str):
            return None
        if not re.fullmatch(NAME, f"{name}.toml"):
            return None  # pydantic says so
        if self.library.file_of(name) is None:
            yield Problem(("device", index, "profile"), self.library.unknown(name))
            return None
        try:
            profile = self.profiles[name] = self.library.get(name)
        except ConfigError as exc:
            self.elsewhere += [line for line in exc.problems if line not in self.elsewhere]
            return None
        return profile

    def _check_link(self, index: int, row: Row, profile: Profile | None) -> Iterator[Problem]:
        path = ("device", index)
        named = [key for key in ("modbus", "ble") if key in row]
        if len(named) != 1:
            wanted = profile.source if profile is not None else "modbus or ble"
            text = (
                f"needs {wanted} = the name of what it is behind."
                if not named
                else "is behind modbus or ble, not both."
            )
            yield Problem(path, text)
            return
        kind = named[0]
        if profile is not None and profile.source != kind:
            yield Problem(
                (*path, kind),
                f'"{row["profile"]}" is the profile of a device behind {profile.source}: name a [[{profile.source}]].',
            )
            return
        rows = self._buses if kind == "modbus" else self._adapters
        names = [each["name"] for each in rows if _text(each, "name")]
        if _text(row, kind) and row[kind] not in names:
            near = difflib.get_close_matches(row[kind], names, n=1, cutoff=0.5)
            hint = f' Did you mean "{near[0]}"?' if near else ""
            there = ", ".join(names) or "none"
            yield Problem(
                (*path, kind), f'there is no [[{kind}]] named "{row[kind]}". There are: {there}.{hint}'
            )
        yield from self._check_keys(path, kind, row, profile, rows)

    def _check_keys(
        self, path: tuple[str, int], kind: str, row: Row, profile: Profile | None, rows: list[Row]
    ) -> Iterator[Problem]:
        needed, others = (
            ("unit", ("address", "irk_file", "key_file")) if kind == "modbus" else ("address", ("unit",))
        )
        if kind == "ble":
            yield from _check_identity(path, row, profile)
        elif needed not in row:
            usual = ""
            if profile is not None and profile.modbus is not None:
                usual = f" From the factory it is {profile.modbus.unit_id}."
            yield Problem(path, f"needs {needed} beside {kind}.{usual}")
        for key in others:
            if key in row:
                yield Problem((*path, key), f"does not go with {kind}.")
        bus = next((each for each in rows if each.get("name") == row.get(kind)), {})
        unit = row.get("unit")
        if kind == "modbus" and isinstance(unit, int) and unit > 247 and bus.get("transport", "rtu") != "tcp":
            yield Problem((*path, "unit"), f"{unit} is beyond 247, the last one on a serial line.")
        if "key_file" in row and kind == "ble" and profile is not None and profile.bthome is None:
            yield Problem((*path, "key_file"), "only BTHome devices have one.")


def _check_direction(path: tuple[str, int], row: Row) -> Iterator[Problem]:
    """Whether there is a direction to switch."""
    transport = row.get("transport", "rtu")
    if row.get("rs485") is True and transport != "rtu":
        yield Problem(
            (*path, "rs485"),
            f'does not go with transport = "{transport}": no port of this machine is switched.',
        )
    elif row.get("rs485_rts") == "low" and row.get("rs485") is not True:
        yield Problem((*path, "rs485_rts"), "needs rs485 = true beside it.")


def _check_adapter(path: tuple[str, int], row: Row) -> Iterator[Problem]:
    """Whether the name of an adapter is one of its backend."""
    adapter = row.get("adapter", "hci0")
    if not isinstance(adapter, str):
        return
    if row.get("backend", "bluez") == "bluez":
        if not re.fullmatch(r"hci\d{1,3}", adapter):
            meant = "" if transport_problem(adapter) else ' Did you mean backend = "bumble"?'
            yield Problem(
                (*path, "adapter"),
                f'"{adapter:.60}" is no adapter of BlueZ: allowed is hci0 and so on, as `bluetoothctl list` or '
                f"`hciconfig` shows them.{meant}",
            )
    elif "adapter" not in row:
        yield Problem(path, 'needs adapter beside backend = "bumble": the radio, such as usb:0.')
    elif wrong := transport_problem(adapter):
        yield Problem((*path, "adapter"), wrong)


def _check_identity(path: tuple[str, int], row: Row, profile: Profile | None) -> Iterator[Problem]:
    """By what a Bluetooth device is known."""
    if "irk_file" not in row:
        if "address" not in row:
            yield Problem(
                path, "needs address beside ble; irk_file instead, when the device changes its address."
            )
    elif "address" in row:
        yield Problem(
            (*path, "irk_file"), "does not go with address: a device is known by one of them. Take one away."
        )
    elif profile is not None and profile.advert is not None and profile.advert.address_at is not None:
        yield Problem(
            (*path, "irk_file"),
            f'is not needed: "{row["profile"]}" says its own address in each advert. Write that as address.',
        )


def _check_points(index: int, row: Row, profile: Profile) -> Iterator[Problem]:
    periods = row.get("periods")
    keys = [point.key for point in profile.points]
    for key in periods if isinstance(periods, dict) else ():
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
            hint = f' Did you mean "{near[0]}"?' if near else ""
            yield Problem(
                ("device", index, "periods", key),
                f'"{row["profile"]}" has no point of that name. It has: {", ".join(keys)}.{hint}',
            )


def _text(row: Row, key: str) -> bool:
    return isinstance(row.get(key), str)
