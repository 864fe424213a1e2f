"""From [[ble]] and its [[device]]s to pollers, wired into the daemon. bleak is imported only for a [[ble]]."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gateway import bind_key
from gateway.accept import Accept
from gateway.clock import Clock
from gateway.config_devices import BleSection
from gateway.devices import Device, Devices
from gateway.errors import GatewayError
from gateway.log import Logger
from gateway.pollers.bthome_counters import Counters
from gateway.pollers.overheard import Overheard
from gateway.radios import Beats

if TYPE_CHECKING:
    from gateway.pollers.ble import BlePoller
    from gateway.pollers.ble_advert import Advert
    from gateway.pollers.ble_backend import Backend

# Makes the Bluetooth stack of a section; a simulated world has its own.
BackendMaker = Callable[[BleSection, list[Device]], "Backend"]


def build(
    sections: Iterable[BleSection],
    part: Callable[[str], Beats],
    devices: Devices,
    accept: Accept,
    counters: Counters,
    clock: Clock,
    log: Logger,
    make_backend: BackendMaker | None = None,
) -> dict[str, BlePoller]:
    """A poller for each enabled [[ble]], by name. Raises GatewayError when what it needs is not installed."""
    made = {}
    for section in sections:
        if section.enabled:
            here = devices.on_bus(section.name)
            backend = (make_backend or backend_of)(section, here)
            made[section.name] = _poller(section, backend, part, here, accept, counters, clock, log)
    return made


def backend_of(section: BleSection, devices: list[Device]) -> Backend:
    """The stack that a section names."""
    try:
        from gateway.pollers.ble_backend import BlueZ, or_patterns
        from gateway.pollers.ble_survey import patterns_of

        if section.backend == "bumble":
            from gateway.pollers.ble_bumble import Bumble

            return Bumble(section.adapter)
    except ModuleNotFoundError as exc:
        extra = "radio" if section.backend == "bumble" else "ble"
        raise GatewayError(
            f"[[ble]] {section.name} needs the Python package '{exc.name}', which is not installed here. Install what "
            f"it needs with: pip install 'tidegate[{extra}]', or set enabled = false."
        ) from exc
    services, companies = patterns_of(device.profile for device in devices)
    return BlueZ(section.adapter, or_patterns(services, companies))


def _poller(
    section: BleSection,
    backend: Backend,
    part: Callable[[str], Beats],
    devices: list[Device],
    accept: Accept,
    counters: Counters,
    clock: Clock,
    log: Logger,
) -> BlePoller:
    from gateway.pollers.ble import BlePoller
    from gateway.pollers.ble_identity import Identities
    from gateway.pollers.ble_sets import GattSets

    its = part(f"ble:{section.name}")
    keys = {one.name: bind_key.load(one.section.key_file) for one in devices if one.section.key_file}
    irks = {
        one.section.who: bind_key.load(one.section.irk_file, bind_key.IDENTITY_KEY)
        for one in devices
        if one.section.irk_file
    }
    fixed = {one.section.address: one.profile for one in devices if one.section.address}
    ears = Overheard(accept, devices, counters, clock, keys)

    def progress() -> None:
        its.beat()
        ears.look()
        for one in poller.devices.values():
            poller.sets[one.name].look(one)

    here = {device.section.who: device for device in devices}

    def heard(advert: Advert) -> None:
        known = here.get(advert.who)
        if known is not None:
            known.rssi_dbm = advert.rssi_dbm
        ears.advert(advert)

    poller = BlePoller(
        section.name,
        backend,
        clock,
        log,
        mode=section.scan,
        slots=section.connections,
        power_cycle=section.power_cycle,
        on_advert=heard,
        on_values=lambda gatt, values: poller.sets[gatt.name].values(gatt, values),
        on_progress=progress,
        who=Identities(fixed, irks).of,
    )
    for device in devices:
        profile = device.profile.gatt
        if profile is not None:
            poller.sets[device.name] = one = GattSets(accept, device, profile, clock)
            poller.add_device(device.name, device.section.who, list(one.layout), stays=profile.stay_connected)
    its.run = poller.run
    return poller


def reasons(pollers: Mapping[str, BlePoller]) -> list[str]:
    """Why adapters do not do their job; how devices are is told of the devices."""
    return [
        f"ble:{name}: {one.scanner.last_error}" for name, one in pollers.items() if one.scanner.last_error
    ]


def picture(pollers: Mapping[str, BlePoller]) -> dict[str, dict[str, dict[str, Any]]]:
    """Everything countable: of adapters, and of connected devices."""
    pictures = {name: one.picture() for name, one in pollers.items()}
    devices = {name: row for one in pictures.values() for name, row in one["devices"].items()}
    return {"ble": {name: one["scan"] for name, one in pictures.items()}, "ble_devices": devices}
