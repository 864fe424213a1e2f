"""Home Assistant's MQTT discovery: one retained message for each series of a node, and its sensor appears by itself.

    homeassistant/sensor/tidegate_0012/water_temperature/config
    {"name":"water temperature","unique_id":"tidegate_0012_water_temperature",
     "state_topic":"tidegate/330106/bridge-1/0012/readings",
     "value_template":"{{ value_json.readings['water_temperature'].v }}","device_class":"temperature",
     "state_class":"measurement","unit_of_measurement":"°C","suggested_display_precision":2,
     "availability_topic":"tidegate/gw/status","availability_template":"{{ value_json.state }}",
     "device":{"identifiers":["tidegate_0012"],"name":"bridge-1","manufacturer":"Tidegate","model":"node 0012"}}

A device class is given only where Home Assistant knows one and takes our unit for it; it refuses sensors with a unit
that their class does not have. Units are written its way: °C, NTU, µS/cm.
"""

from __future__ import annotations

import json
import re
from typing import Any

from protocols.measurands import Measurand

# Our unit as Home Assistant writes it; what is not here is taken as it is. "": a number without a unit.
_UNITS = {
    "Cel": "°C", "[pH]": "", "uS/cm": "µS/cm", "{NTU}": "NTU", "deg": "°", "ug/L": "µg/L", "m3/s": "m³/s",
    "m3/h": "m³/h", "m/s2": "m/s²", "V.A": "VA", "kW.h": "kWh", "kvar.h": "kvarh", "1": "", "{count}": "",
    "{floor}": "", "[ppm]": "ppm", "%{LEL}": "% LEL", "dB[SPL]": "dB", "/min": "rpm",
}  # fmt: skip
# Device classes that have our unit, by the unit; by measurand where the unit alone does not tell.
_CLASS_OF_UNIT = {
    "Cel": "temperature", "[pH]": "ph", "uS/cm": "conductivity", "mV": "voltage", "V": "voltage", "A": "current",
    "mA": "current", "W": "power", "V.A": "apparent_power", "var": "reactive_power", "Hz": "frequency",
    "kW.h": "energy", "hPa": "pressure", "m": "distance", "cm": "distance", "m/s": "speed",
    "m3/h": "volume_flow_rate", "s": "duration", "h": "duration", "dB[SPL]": "sound_pressure",
}  # fmt: skip
_CLASS_OF = {
    "relative_humidity": "humidity",
    "battery": "battery",
    "power_factor": "power_factor",
    "rainfall": "precipitation",
}
# What only grows; a meter that starts over is understood.
_GROWING = (
    "active_energy",
    "reactive_energy",
    "trips",
    "door_cycles",
    "run_time",
    "operating_hours",
    "movements",
)


def topic(prefix: str, node: int, series: str) -> str:
    """Where the configuration of one series is retained."""
    return f"{prefix}/sensor/tidegate_{node:04x}/{_plain(series)}/config"


def config(
    measurand: Measurand,
    kind: str,
    node: int,
    name: str,
    state_topic: str,
    by_value: bool,
    status_topic: str | None,
) -> bytes:
    """The configuration. `kind`: the measurand's name in the registry; `measurand.name` is that of the series."""
    path = "value_json.v" if by_value else f"value_json.readings['{measurand.name}'].v"
    unit = _UNITS.get(measurand.unit, measurand.unit)
    device_class = _CLASS_OF.get(kind) or _CLASS_OF_UNIT.get(measurand.unit)
    what: dict[str, Any] = {
        "name": measurand.name.replace("_", " "),
        "unique_id": f"tidegate_{node:04x}_{_plain(measurand.name)}",
        "state_topic": state_topic,
        "value_template": "{{ " + path + " }}",
        "state_class": "total_increasing" if kind in _GROWING else "measurement",
        "suggested_display_precision": measurand.decimals,
    }
    if device_class is not None:
        what["device_class"] = device_class
    if unit:
        what["unit_of_measurement"] = unit
    if status_topic is not None:
        what["availability_topic"] = status_topic
        what["availability_template"] = "{{ value_json.state }}"
    what["device"] = {
        "identifiers": [f"tidegate_{node:04x}"],
        "name": name,
        "manufacturer": "Tidegate",
        "model": f"node {node:04x}",
    }
    return json.dumps(what, ensure_ascii=False, separators=(",", ":")).encode()


def _plain(series: str) -> str:
    """Discovery topics take letters, digits, _ and -."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", series)
