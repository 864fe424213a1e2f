"""One record as one JSON object: the default format towards MQTT.

    {"node":"0012","site":"lishui-3","epoch":281474976710655,"seq":123,"lane":"fresh","resent":false,
     "time":1790000000,"tq":1,"received_ms":1790000001234,"schema":1,
     "readings":{"water_temperature":{"v":7.48,"u":"Cel","q":1},...},
     "derived":{"water_class":3,"worst":"ammonia_nitrogen","do_saturation_percent":81.5,"black_odorous":0},
     "cal":{"ph":17},"maintenance":true}

A device that the gateway polls or overhears has "device", "profile" and "source" (modbus or ble) behind "node"; its
schemas are of device_schemas.py.

"derived" is there where the schema has factors of the standards: GB 3838 class 1 to 5 or 6 for worse than V,
black-odorous grade 0, 1 (light) or 2 (heavy), null where nothing tells. "cal" names the calibration under which a
series was measured, "maintenance" is there while somebody worked at the station. A value that is missing is null with
q 9. `v` has exactly the decimals of its measurand, `u` is UCUM, `q` a QARTOD flag.
An event has "event":{"code","name","state","detail"} instead of "schema" and "readings"; a result has
"result":{"command_id","outcome","detail"}. (node, epoch, seq) is the record's id: a consumer drops copies by it.
Order holds per (node, epoch, lane, resent).

The pieces of a set are looked up rather than made: a river says the same few hundred values all day. 2 µs for a set
of eight, where building dicts for a JSON encoder takes 6 µs before the encoder begins. Everything that is text (names,
units, sites) passes through json.dumps.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from operator import getitem

from protocols.measurands import Measurand, registry
from protocols.northbound import derived
from protocols.wire.codes import EVENT_NAMES

GOOD = 1
LANES = ("fresh", "backlog")
EVENT_STATES = ("cleared", "raised", "note")
OUTCOMES = ("done", "refused", "failed", "expired", "unknown_operation")
_BOOLEANS = ("false", "true")
# Values of one series that are remembered, about 150 bytes each; then it begins anew.
_PIECES_MAX = 2048

Detail = int | str | Sequence[int] | None


class _Pieces(dict[int, str]):
    """The JSON of one GOOD reading of one series, by its scaled integer; made when first asked for."""

    def __init__(self, measurand: Measurand) -> None:
        super().__init__()
        self._measurand = measurand

    def __missing__(self, value: int) -> str:
        if len(self) >= _PIECES_MAX:
            self.clear()
        piece = self[value] = self.flagged(value, GOOD)
        return piece

    def flagged(self, value: int | None, flag: int) -> str:
        """As many decimals as the measurand has, whatever the value."""
        what = self._measurand
        number = "null" if value is None else what.text(value)
        return f'{json.dumps(what.name)}:{{"v":{number},"u":{json.dumps(what.unit, ensure_ascii=False)},"q":{flag}}}'


@functools.cache
def _series(schema: int) -> tuple[_Pieces, ...]:
    return tuple(_Pieces(measurand) for measurand in registry().of_schema(schema))


@functools.lru_cache(maxsize=16_384)
def head(node: int, site: str, epoch: int, device: tuple[str, str, str] | None = None) -> str:
    """What all records of one node, site and epoch begin with. `device`: its name, profile and source."""
    text = ""
    if device is not None:
        named = zip(("device", "profile", "source"), device, strict=True)
        text = "".join(f',"{key}":{json.dumps(value, ensure_ascii=False)}' for key, value in named)
    return f'{{"node":"{node:04x}"{text},"site":{json.dumps(site, ensure_ascii=False)},"epoch":{epoch}'


def reading(
    head: str, seq: int, backlog: int, resent: bool, time: int, tq: int, received_ms: int, schema: int,
    values: tuple[int | None, ...], flags: tuple[int, ...] | None,
    cal: Mapping[int, int] | None = None, maintenance: bool = False,
) -> bytes:  # fmt: skip
    """One set of readings. `values` are scaled integers; `flags` None: all good; `cal`: calibration ids by series."""
    series = _series(schema)
    if flags is None:
        pieces = ",".join(map(getitem, series, values))  # type: ignore[arg-type]  # without flags none is missing
    else:
        pieces = ",".join(
            one.flagged(value, flag) for one, value, flag in zip(series, values, flags, strict=True)
        )
    return (
        f'{head},"seq":{seq},"lane":"{LANES[backlog]}","resent":{_BOOLEANS[resent]},"time":{time},"tq":{tq},'
        f'"received_ms":{received_ms},"schema":{schema},"readings":{{{pieces}}}'
        f"{_beside(schema, values, flags)}{_marks(schema, cal, maintenance)}}}"
    ).encode()


def value(
    head: str, seq: int, backlog: int, resent: bool, time: int, tq: int, received_ms: int, schema: int, index: int,
    value: int | None, flag: int,
) -> bytes:  # fmt: skip
    """One value of a set: "measurand", "v", "u" and "q" in the place of "readings"."""
    piece = _series(schema)[index].flagged(value, flag)
    name, _, rest = piece.partition(":{")
    return (
        f'{head},"seq":{seq},"lane":"{LANES[backlog]}","resent":{_BOOLEANS[resent]},"time":{time},"tq":{tq},'
        f'"received_ms":{received_ms},"schema":{schema},"measurand":{name},{rest}'
    ).encode()


def _beside(schema: int, values: tuple[int | None, ...], flags: tuple[int, ...] | None) -> str:
    what = derived.of(schema, values, flags)
    if what is None:
        return ""
    grade, worst, saturation, black = what
    return (
        f',"derived":{{"water_class":{_number(grade)},"worst":{json.dumps(worst)},'
        f'"do_saturation_percent":{"null" if saturation is None else f"{saturation:.1f}"},'
        f'"black_odorous":{_number(black)}}}'
    )


def _number(value: int | None) -> str:
    return "null" if value is None else str(value)


def _marks(schema: int, cal: Mapping[int, int] | None, maintenance: bool) -> str:
    tail = ',"maintenance":true' if maintenance else ""
    if not cal:
        return tail
    series = registry().of_schema(schema)
    ids = ",".join(
        f"{json.dumps(series[index].name)}:{number}"
        for index, number in sorted(cal.items())
        if index < len(series)
    )
    return f',"cal":{{{ids}}}{tail}'


def event(
    head: str, seq: int, resent: bool, time: int, tq: int, received_ms: int, code: int, state: int, detail: Detail
) -> bytes:  # fmt: skip
    """An alarm or other happening."""
    name = EVENT_NAMES.get(code, f"code_{code}")
    what = {"code": code, "name": name, "state": EVENT_STATES[state], "detail": detail}
    return _other(head, seq, resent, time, tq, received_ms, "event", what)


def result(
    head: str, seq: int, resent: bool, time: int, tq: int, received_ms: int, command_id: int, outcome: int,
    detail: Detail,
) -> bytes:  # fmt: skip
    """What became of a command."""
    what = {"command_id": command_id, "outcome": OUTCOMES[outcome], "detail": detail}
    return _other(head, seq, resent, time, tq, received_ms, "result", what)


def _other(
    head: str, seq: int, resent: bool, time: int, tq: int, received_ms: int, key: str, what: dict[str, object]
) -> bytes:  # fmt: skip
    tail = json.dumps(what, ensure_ascii=False, separators=(",", ":"))
    return (
        f'{head},"seq":{seq},"lane":"event","resent":{_BOOLEANS[resent]},"time":{time},"tq":{tq},'
        f'"received_ms":{received_ms},"{key}":{tail}}}'
    ).encode()
