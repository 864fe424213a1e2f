"""What a new configuration changes, exchanged in a running gateway; everything else is not touched.

    serial links, northbounds    ended and begun, each for itself
    devices                      the bus or adapter that one is behind, with all devices behind it: they share its time

What is ended has nothing that is not in the store, as at a kill: a northbound owes what it owed, a node sends again
what was not acknowledged. A port is closed before it is opened with other settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gateway import log
from gateway.config import NORTHBOUNDS, OF_ALARMS
from gateway.config_hj212 import platforms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.config import Config
    from gateway.daemon import Gateway

# Tables that nothing but what they name depends on. Any other begins all parts anew.
TABLES = frozenset((*NORTHBOUNDS, "serial", "modbus", "ble", "device", "devices", "log"))


class Differences(NamedTuple):
    """Names of what is not the same in two configurations: to be ended, begun, or both."""

    serial: set[str]
    northbounds: set[str]
    buses: set[str]  # [[modbus]] and [[ble]]
    devices: set[str]


def differences(old: Config, new: Config) -> Differences:
    devices = _other(_devices(old), _devices(new))
    behind = {
        name
        for config in (old, new)
        for device in config.device
        if device.name in devices
        for name in (device.modbus, device.ble)
        if name
    }
    return Differences(
        _other(_named(old.serial), _named(new.serial)),
        _other(
            {section.name: (kind, section) for kind, section in old.northbounds},
            {section.name: (kind, section) for kind, section in new.northbounds},
        ),
        _other(_named((*old.modbus, *old.ble)), _named((*new.modbus, *new.ble))) | behind,
        devices,
    )


def _named(sections: Iterable[Any]) -> dict[str, Any]:
    return {section.name: section for section in sections}


def _devices(config: Config) -> dict[str, Any]:
    """With their profiles: a file that was edited changes whoever goes by it."""
    return {section.name: (section, config.profiles.get(section.profile)) for section in config.device}


def _other(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


async def exchange(gateway: Gateway, new: Config) -> list[str]:
    """Make `gateway` one that lives by `new`; what was done, a line each. Only tables in TABLES may differ."""
    old, gateway.config = gateway.config, new
    other = differences(old, new)
    done = []
    if old.log != new.log:
        log.setup(new.log.level, new.log.format)
        done.append(f"log: {new.log.level}, {new.log.format}")
    await _end(gateway, other)
    for section in new.serial:
        if section.name in other.serial:
            gateway.links.append(gateway._serial(section))
    gateway.quality.platforms = platforms(new.hj212)
    for kind, section in new.northbounds:
        if section.name in other.northbounds and section.enabled:
            gateway.northbounds[section.name] = gateway.make_northbound(kind, section)
    gateway.accept.know(gateway.devices.exchange(new.device, new.profiles))
    await gateway.devices.begin(gateway.registry)
    gateway.buses.update(
        gateway._build_buses([section for section in new.modbus if section.name in other.buses])
    )
    gateway.bluetooth.update(
        gateway._build_bluetooth([section for section in new.ble if section.name in other.buses])
    )
    gateway.launch_parts()
    return done + _told(gateway, other)


async def _end(gateway: Gateway, other: Differences) -> None:
    """End the parts of what is gone or other than before, and wait until nothing of them runs."""
    for link in [link for link in gateway.links if link.name in other.serial]:
        gateway.links.remove(link)
        await gateway.end_part(f"serial:{link.name}")
        for address in gateway.routes.addresses(link):
            gateway.routes.forget(address)
    for kind in NORTHBOUNDS:
        for name in other.northbounds:
            await gateway.end_part(f"{kind}:{name}")
    for name in other.northbounds & gateway.northbounds.keys():
        gateway.northbounds.pop(name).close()
    for kind, pollers in (("modbus", gateway.buses), ("ble", gateway.bluetooth)):
        for name in other.buses & pollers.keys():
            await gateway.end_part(f"{kind}:{name}")
            del pollers[name]


def _told(gateway: Gateway, other: Differences) -> list[str]:
    serial = {link.name for link in gateway.links}
    running = gateway.buses.keys() | gateway.bluetooth.keys()
    lines = [_line("serial", name, name in serial) for name in sorted(other.serial)]
    lines += [_line("northbound", name, name in gateway.northbounds) for name in sorted(other.northbounds)]
    for name in sorted(other.buses):
        behind = sorted(
            device.name for device in gateway.devices.on_bus(name) if device.name in other.devices
        )
        with_ = f", with device {', '.join(behind)}" if behind else ""
        lines.append(_line("bus", name, name in running) + with_)
    gone = sorted(other.devices - gateway.devices.by_name.keys())
    return lines + [_line("device", name, is_there=False) for name in gone]


def _line(what: str, name: str, is_there: bool) -> str:
    return f"{what} {name}: {'begun' if is_there else 'ended'}"


def on_trial(old: Config, new: Config) -> set[str]:
    """Northbounds that a change may have cut off: those of alarms answer when there is one, and prove nothing."""
    changed = differences(old, new).northbounds
    return {
        section.name
        for kind, section in new.northbounds
        if section.name in changed and section.enabled and kind not in OF_ALARMS
    }
