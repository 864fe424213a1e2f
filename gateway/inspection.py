"""One node as closely as a technician at its lid looks: what was heard, what it measured, what the city has of it.

Plain data for the control socket (operation `node.show`).
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

from gateway.records import KIND_EVENT
from protocols.measurands import registry
from protocols.wire import readings
from protocols.wire.codes import EVENT_NAMES

if TYPE_CHECKING:
    from gateway.daemon import Gateway

# A node under somebody's eyes was heard lately; the whole of a large table is not searched for one that was not.
_ROWS_BACK = 20_000
_EVENTS_MAX = 50
_STATES = ("cleared", "raised", "note")


def inspect(gateway: Gateway, address: int, after_event: int) -> dict[str, Any]:
    """Everything about node `address`; of its events those with id > `after_event`."""
    row = gateway.node_status(address)
    seen = gateway.presence.of(address)
    wish = next((wish for wish in gateway.wishes.reports() if wish.node == address), None)
    epochs = {epoch.row_id: epoch.number for epoch in gateway.store.epochs.values() if epoch.node == address}
    return {
        **row,
        "gateway": gateway.config.gateway.name,
        "now_ms": gateway.clock.unix_ms(),
        "enrolled": gateway.registry.is_enrolled(address),
        "board": "" if seen is None else seen.board,
        "traceback": "" if seen is None else seen.traceback,
        "boots": None if seen is None else seen.boots,
        "reset_cause": None if seen is None else seen.reset_cause,
        "settings": None
        if seen is None or seen.settings_version is None
        else {"version": seen.settings_version, "document": seen.settings, "heard_ms": seen.settings_ms},
        "frames": 0 if seen is None else seen.frames,
        "link_counters": None if seen is None else gateway.picture()["links"].get(seen.link),
        "wish": None if wish is None else wish._asdict(),
        "set": gateway.store.read(lambda reader: _latest_set(reader, list(epochs))),
        "last_event": gateway.store.last_event,
        "events": gateway.store.read(lambda reader: _events(reader, epochs, after_event)),
        # northbound: id of the event up to which the far side has confirmed everything
        "confirmed": {name: northbound.event_cursor for name, northbound in gateway.northbounds.items()},
    }


def _latest_set(reader: sqlite3.Connection, epochs: list[int]) -> dict[str, Any] | None:
    marks = ", ".join("?" * len(epochs))
    row = reader.execute(
        "SELECT received_ms, seq, time, schema, flags, body FROM reading"
        f" WHERE id > (SELECT coalesce(max(id), 0) FROM reading) - {_ROWS_BACK} AND epoch IN ({marks})"
        " ORDER BY id DESC LIMIT 1",
        epochs,
    ).fetchone()
    if row is None:
        return None
    received_ms, seq, time_s, schema_id, flags, body = row
    values = readings.decode(readings.schema(schema_id), 0, body).rows[0]
    merged = flags or bytes([readings.GOOD] * len(values))
    measured = {
        measurand.name: {
            "v": None if value is None else measurand.value_of(value),
            "u": measurand.unit,
            "q": flag,
        }
        for measurand, value, flag in zip(registry().of_schema(schema_id), values, merged, strict=True)
    }
    return {"received_ms": received_ms, "seq": seq, "time": time_s, "schema": schema_id, "readings": measured}


def _events(reader: sqlite3.Connection, epochs: dict[int, int], after: int) -> list[dict[str, Any]]:
    marks = ", ".join("?" * len(epochs))
    rows = reader.execute(
        "SELECT id, epoch, seq, received_ms, time, code, state, detail FROM event"
        f" WHERE id > ? AND kind = {KIND_EVENT} AND epoch IN ({marks}) ORDER BY id LIMIT {_EVENTS_MAX}",
        [after, *epochs],
    )
    return [
        {
            "id": row_id,
            "epoch": epochs[epoch],
            "seq": seq,
            "received_ms": received_ms,
            "time": time_s,
            "code": code,
            "name": EVENT_NAMES.get(code, f"code_{code}"),
            "state": _STATES[state],
            "detail": json.loads(detail),
        }
        for row_id, epoch, seq, received_ms, time_s, code, state, detail in rows
    ]
