"""The commented sample configuration, made from the models of config.py so that it can never lag behind
them.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway import (
    config,
    config_alarms,
    config_api,
    config_devices,
    config_hj212,
    config_mqtt,
    config_sl651,
    config_store,
)

WIDTH = 110
ARRAYS: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "serial": (
        config.SerialSection,
        {"name": "river-1", "path": "/dev/serial/by-id/usb-Espressif_0001-if00"},
    ),
    "semtech": (config.SemtechSection, {"name": "roof", "gateways": ["aa555a0000000101"]}),
    "bridge": (
        config.BridgeSection,
        {"name": "window", "path": "/dev/serial/by-id/usb-Espressif_0002-if00"},
    ),
    "mqtt": (config_mqtt.MqttSection, {"name": "city", "host": "broker.example"}),
    "hj212": (
        config_hj212.Hj212Section,
        {
            "name": "province",
            "host": "platform.example",
            "port": 9001,
            "password_file": "province.password",
            "stations": {"lishui-3": "010000A8900016F000169DC0"},
        },
    ),
    "work_orders": (
        config_alarms.WorkOrdersSection,
        {
            "name": "hotline",
            "url": "https://12345.example/api/workorder",
            "answer_url": "https://12345.example/api/answer",
            "status_url": "https://12345.example/api/workorder/{code}",
        },
    ),
    "alarm": (config_alarms.AlarmSection, {"name": "node_silent", "severity": 1, "events": ["node_silent"]}),
    "area": (
        config_alarms.AreaSection,
        {"code": "330106", "name": "Xihu", "level": "district"},
    ),
    "sl651": (
        config_sl651.Sl651Section,
        {
            "name": "hydrology",
            "host": "centre.example",
            "port": 6510,
            "password_file": "hydrology.password",
            "stations": {"lishui-3": "0012345678"},
        },
    ),
    "modbus": (
        config_devices.ModbusSection,
        {"name": "bus-1", "path": "/dev/serial/by-id/usb-FTDI_RS485-if00-port0"},
    ),
    "ble": (config_devices.BleSection, {"name": "air-1"}),
    "device": (
        config_devices.DeviceSection,
        {"name": "level-1", "profile": "geolux_lx80", "modbus": "bus-1", "unit": 1},
    ),
}
TABLES: dict[str, type[BaseModel]] = {
    "gateway": config.GatewaySection,
    "keys": config.KeysSection,
    "clock": config.ClockSection,
    "health": config.HealthSection,
    "log": config.LogSection,
    "store": config_store.StoreSection,
    "devices": config_devices.DevicesSection,
}


def sample(master_key_file: str) -> str:
    """The text of a usable gateway.toml; what is commented out shows its default."""
    lines = [
        "# Tidegate gateway. Check it with `tidegate gateway check`; a line with # shows the default.",
        "",
    ]
    for name, model in TABLES.items():
        given = {"master_key_file": master_key_file} if name == "keys" else {}
        lines += [f"# {model.__doc__}", f"[{name}]", *_keys(model, given), ""]
    lines += [f"# {config_api.ApiSection.__doc__}", "# [api]"]
    lines += ["# " + line for line in _keys(config_api.ApiSection, {})] + [""]
    lora = {"plan": "cn470", "channel": 20, "sf": 9}
    lines += [f"# {config.LoraSection.__doc__}", "# [lora]"]
    lines += ["# " + line for line in _keys(config.LoraSection, lora)] + [""]
    for name, (model, given) in ARRAYS.items():
        lines += [f"# {model.__doc__}", f"# [[{name}]]", *("# " + line for line in _keys(model, given)), ""]
    return "\n".join(lines)


def _keys(model: type[BaseModel], given: dict[str, Any]) -> list[str]:
    lines = []
    for key, field in model.model_fields.items():
        if key in given:
            lines.append(f"{key} = {_toml(given[key])}{_note(field)}")
        else:
            lines.append(f"# {key} = {_default(field)}{_note(field)}")
    return lines


def _note(field: FieldInfo) -> str:
    return f"  # {field.description}" if field.description else ""


def _default(field: FieldInfo) -> str:
    return '""' if field.default in (None, PydanticUndefined) else _toml(field.default)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        pairs = ", ".join(
            f"{json.dumps(key, ensure_ascii=False)} = {_toml(item)}" for key, item in value.items()
        )
        return f"{{ {pairs} }}" if pairs else "{}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
