"""Schemas of sets that devices, not nodes, give: made from profiles when they are first needed, on the host alone.

A set of a device is a record like a node's, so its schema is one, too: an id, and the series in order. The id is made
from what the schema says: the same set has the same id in every gateway and after every loss of a database, and no node
has it: these ids are 2**31 and above.

    schema = make("sdm630", (DeviceSeries("voltage_l1", "voltage", 1, 0.0, 400.0, None, None), …))
    define(schema)    -> the wire codec, the registry and every northbound know it from now on
"""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from protocols.measurands import Measurand, RegistryError, registry
from protocols.wire import schemas

FIRST_ID = 1 << 31
# The code of a set (SPEC-readings.md) is short around 0 within 2**order: readings of devices are all over the place.
_CENTRE = 0
_ORDER = 8


class DeviceSeries(NamedTuple):
    """One series: a point of a device. The limits are in the measurand's unit: outside low..high is FAIL, outside
    suspect_low..suspect_high SUSPECT, None is no limit."""

    name: str
    measurand: str
    decimals: int
    low: float
    high: float
    suspect_low: float | None
    suspect_high: float | None


class DeviceSchema(NamedTuple):
    id: int
    name: str
    series: tuple[DeviceSeries, ...]

    def text(self) -> str:
        """As a database keeps it."""
        return json.dumps([list(series) for series in self.series])


def make(name: str, series: tuple[DeviceSeries, ...]) -> DeviceSchema:
    """The schema of these series, in this order."""
    said = DeviceSchema(0, name, series).text()
    return DeviceSchema(FIRST_ID | int.from_bytes(sha256(said.encode()).digest()[:4], "big"), name, series)


def parse(schema_id: int, name: str, text: str) -> DeviceSchema:
    """The schema that `text` keeps."""
    return DeviceSchema(schema_id, name, tuple(DeviceSeries(*series) for series in json.loads(text)))


def define(schema: DeviceSchema) -> None:
    """Make the schema known to the codec and the registry of this process. Again is no matter; another under the same
    id is a RegistryError."""
    known = registry()
    measurands = tuple(_measurand(series) for series in schema.series)
    before = known.schemas.get(schema.id)
    if before is not None:
        if before != measurands:
            raise RegistryError(f"schema {schema.id} of {schema.name} is already another one")
        return
    if not measurands:
        raise RegistryError(f"schema {schema.id} of {schema.name} has no series")
    schemas.define(
        schema.id,
        schema.name,
        [schemas.Series(series.name, series.decimals, _CENTRE, _ORDER) for series in schema.series],
    )
    known.add_schema(schema.id, schema.name, measurands)


def _measurand(series: DeviceSeries) -> Measurand:
    base = registry().by_name.get(series.measurand)
    if base is None:
        raise RegistryError(f"measurand {series.measurand!r:.40} is not in measurands.toml")
    return replace(base, name=series.name, decimals=series.decimals, range=(series.low, series.high))
