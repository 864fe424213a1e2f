"""The city's side of a test: takes every record off the broker and judges what it sees.

An MQTT client of another make than the gateway's (paho), with a persistent session, so that nothing is missed
while the broker or this client restarts.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

RecordId = tuple[str, int, int]


@dataclass
class Judge:
    """What a careful consumer does: drops copies by id, and notes what the contract forbids."""

    records: dict[RecordId, dict[str, Any]] = field(default_factory=dict)
    copies: int = 0
    problems: list[str] = field(default_factory=list)
    _last: dict[tuple[str, int, str, bool], int] = field(default_factory=dict)
    _unordered: dict[tuple[str, int], int] = field(default_factory=dict)

    def take(self, record: dict[str, Any]) -> None:
        record_id = (str(record["node"]), int(record["epoch"]), int(record["seq"]))
        known = self.records.get(record_id)
        if known is not None:
            self.copies += 1
            if _content(known) != _content(record):
                self.problems.append(f"{record_id} came twice with different content")
            return
        self.records[record_id] = record
        lane = (record_id[0], record_id[1], str(record["lane"]), bool(record["resent"]))
        if record_id[2] <= self._unordered.get(record_id[:2], -1):
            return
        if record_id[2] <= self._last.get(lane, -1):
            self.problems.append(f"out of order in lane {lane}: seq {record_id[2]} after {self._last[lane]}")
        self._last[lane] = max(record_id[2], self._last.get(lane, -1))

    def gateway_restored(self, made: Iterable[RecordId]) -> None:
        """A backup of the gateway was put back. Of what its nodes had `made` by then SPEC.md 1 promises no order: it
        can not tell what it delivered since, and a node goes on with what is next before it hears what was lost."""
        self._last.clear()
        for node, epoch, seq in made:
            self._unordered[node, epoch] = max(seq, self._unordered.get((node, epoch), -1))


# What tells of a copy how and when it travelled.
_TRAVEL = {"lane", "resent", "received_ms"}
# What a set may gain: the event that tells of it travels in another lane, and may come after a first copy of the set.
_TRAVEL |= {"cal", "maintenance"}
_UNSYNCHRONISED = 3


def _content(record: dict[str, Any]) -> dict[str, Any]:
    """What must be equal in all copies. The time of a record made without a clock is the gateway's estimate of it."""
    left_out = _TRAVEL | {"time"} if record.get("tq") == _UNSYNCHRONISED else _TRAVEL
    return {key: value for key, value in record.items() if key not in left_out}


class Consumer:
    """Subscribes to ``topic`` with QoS 1 and feeds a :class:`Judge`."""

    def __init__(
        self,
        port: int,
        topic: str = "tidegate/#",
        client_id: str = "city",
        host: str = "127.0.0.1",
        *,
        persistent: bool = True,
    ) -> None:
        """``persistent``: False leaves no session behind on a broker that is not ours."""
        self.judge = Judge()
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=not persistent,
            protocol=paho.MQTTv311,
        )
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect(host, port, keepalive=10)
        self._client.loop_start()
        if not self._subscribed.wait(timeout=10):
            raise TimeoutError(f"no subscription to {topic} on port {port} after 10 s")

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            record = json.loads(message.payload)
        except ValueError:
            return  # not the gateway's: on a broker that others use, too, anyone may publish anything
        with self._changed:
            if isinstance(record, dict) and "seq" in record:
                self.judge.take(record)
            self._changed.notify_all()

    def wait_for(self, enough: Callable[[Judge], bool], timeout_s: float, what: str) -> None:
        """Returns once ``enough(judge)`` holds; raises TimeoutError naming ``what`` otherwise."""
        with self._changed:
            if not self._changed.wait_for(lambda: enough(self.judge), timeout=timeout_s):
                raise TimeoutError(
                    f"after {timeout_s} s still no {what}: {len(self.judge.records)} records, "
                    f"{self.judge.copies} copies, problems {self.judge.problems[:3]}"
                )

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
