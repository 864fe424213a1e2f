"""ThingsBoard's gateway API (MQTT): one connection, many devices behind it.

    v1/gateway/connect      {"device":"bridge-1-0012","type":"tidegate"}
    v1/gateway/attributes   {"bridge-1-0012":{"node":"0012","site":"bridge-1","area":"330106"}}
    v1/gateway/telemetry    {"bridge-1-0012":[{"ts":1790000000000,"values":{"ph":7.80,"orp":-12,"orp_q":3}}]}
    v1/gateway/disconnect   {"device":"bridge-1-0012"}

`ts` is in milliseconds. A value in ThingsBoard is known by device, key and ts: a copy overwrites itself, so nothing
need say that a record was sent before. A value that is not good brings its QARTOD flag as `_q`; a missing one is left
out.
Events are telemetry, too: "event", "state", "detail" under the time of the event.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from protocols.measurands import registry
from protocols.northbound.format_json import EVENT_STATES, GOOD, OUTCOMES, Detail
from protocols.wire.codes import EVENT_NAMES

CONNECT = "v1/gateway/connect"
DISCONNECT = "v1/gateway/disconnect"
TELEMETRY = "v1/gateway/telemetry"
ATTRIBUTES = "v1/gateway/attributes"
TYPE = "tidegate"
_NO_TIME = 3


def connect(device: str) -> bytes:
    return _json({"device": device, "type": TYPE})


def disconnect(device: str) -> bytes:
    return _json({"device": device})


def attributes(device: str, values: Mapping[str, str]) -> bytes:
    """Client-side attributes of a device."""
    return _json({device: dict(values)})


def reading(
    device: str, time: int, tq: int, received_ms: int, schema: int, values: Sequence[int | None],
    flags: Sequence[int] | None,
) -> bytes:  # fmt: skip
    """One set."""
    pieces = []
    for index, (measurand, value) in enumerate(zip(registry().of_schema(schema), values, strict=True)):
        if value is not None:
            pieces.append(f"{json.dumps(measurand.name)}:{measurand.text(value)}")
        if flags is not None and flags[index] != GOOD:
            pieces.append(f"{json.dumps(measurand.name + '_q')}:{flags[index]}")
    return _telemetry(device, time, tq, received_ms, "{" + ",".join(pieces) + "}")


def event(device: str, time: int, tq: int, received_ms: int, code: int, state: int, detail: Detail) -> bytes:
    """An alarm or other happening."""
    what = {"event": EVENT_NAMES.get(code, f"code_{code}"), "state": EVENT_STATES[state], **_said(detail)}
    return _telemetry(device, time, tq, received_ms, _json(what).decode())


def result(
    device: str, time: int, tq: int, received_ms: int, command_id: int, outcome: int, detail: Detail
) -> bytes:
    """What became of a command."""
    what = {"command_id": command_id, "outcome": OUTCOMES[outcome], **_said(detail)}
    return _telemetry(device, time, tq, received_ms, _json(what).decode())


def _said(detail: Detail) -> dict[str, object]:
    """ThingsBoard refuses a message with a null in it."""
    return {} if detail is None else {"detail": detail if isinstance(detail, int | str) else list(detail)}


def _telemetry(device: str, time: int, tq: int, received_ms: int, values: str) -> bytes:
    ts = received_ms if tq == _NO_TIME else time * 1000
    return f'{{{json.dumps(device, ensure_ascii=False)}:[{{"ts":{ts},"values":{values}}}]}}'.encode()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
