"""The health pages answer plain HTTP, refuse everything else cheaply, and show every counter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from gateway import limits
from gateway.health import HealthServer
from gateway.metrics import Exporter
from gateway.web import Page, json_page

PICTURE: dict[str, Any] = {
    "parts": {
        "serial:a": {"up": 1.0, "idle_seconds": 0.5, "failures": 2},
        "mqtt:city": {"up": 0.0, "idle_seconds": 40.0, "failures": 0},
    },
    "store": {"commits": 7, "events": 3, "depth_frames": 4, "failing": 0.0},
    "refused": {"auth": 5, "replay": 6, 'odd "name"\n': 1},
    "links": {"a": {"open": 1.0, "queued": 2, "frames_in": 11, "refused_crc": 3}},
    "radios": {"roof": {"open": 0.0, "packets_in": 13, "refused_crc": 14}},
    "adr": {"adr_sent": 2},
    "northbounds": {
        "city": {
            "connected": 1.0,
            "backlog_records": 12,
            "backlog_hours": 0.25,
            "in_flight": 3,
            "delivered": 100,
            "refused": 0,
        }
    },
    "devices": {"level-1": {"up": 1.0, "age_seconds": 2.5, "sets": 40, "dropped": 1}},
    "ble": {},
    "ble_devices": {},
    "modbus": {},
    "modbus_devices": {},
    "downlinks": {"ack": 9, "not_sent": 1},
    "campaigns": {
        "counters": {"rows": 40},
        "open": {"3": {"state": "running", "name": "fix", "nodes": {"gone": 2}}},
        "running": {"river": {"7": 41, "other": 1}},
    },
    "commands": {"accepted": 2, "done": 1},
    "http": {"requests": 1, "refused": 0},
    "api": {"changes": 3, "replayed": 1},
    "nodes": 3,
    "nodes_heard_1h": 2,
    "nodes_silent": 1,
    "clock": 1.0,
}


@asynccontextmanager
async def serving(**pages: Page) -> AsyncIterator[HealthServer]:
    listening = asyncio.Event()
    log = structlog.get_logger()
    server = HealthServer(
        "127.0.0.1",
        0,
        {f"/{name}": (lambda page=page: page) for name, page in pages.items()},
        log,
        on_listening=listening.set,
    )
    task = asyncio.create_task(server.run())
    await listening.wait()
    try:
        yield server
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def talk(server: HealthServer, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer; status 0 when the connection was closed without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    try:
        data = await reader.read()
    except ConnectionResetError:
        data = b""
    writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    if len(lines) < 2:
        return 0, {}, b""
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


OK = json_page(200, {"stalled": []})


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /healthz?verbose=1 HTTP/1.0\r\n\r\n", 200),
        (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", 503),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /healthz/../readyz HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 413),
        (b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"DELETE /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /healthz\r\n\r\n", 400),
        (b"GET /healthz HTTP/2.0\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /" + b"a" * 2 * limits.HTTP_HEAD_BYTES_MAX + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
    ],
)
def test_requests_and_what_becomes_of_them(request_bytes: bytes, status: int) -> None:
    async def scenario() -> None:
        async with serving(healthz=OK, readyz=json_page(503, {"reasons": ["x"]})) as server:
            got, headers, body = await talk(server, request_bytes)
            assert got == status
            if status:
                assert headers["connection"] == "close"
                is_head = request_bytes.startswith(b"HEAD")
                assert len(body) == (0 if is_head else int(headers["content-length"]))
            counted = "requests" if status in (200, 503) else "refused"
            assert server.counters[counted] == 1

    asyncio.run(scenario())


def test_a_client_that_says_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_TIMEOUT_S", 0.02)

    async def scenario() -> None:
        async with serving(healthz=OK) as server:
            status, _, _ = await talk(server, b"GET /healthz HTTP/1.1\r\n")
            assert status == 0
            assert server.counters["refused"] == 1

    asyncio.run(scenario())


def test_connections_beyond_the_bound_are_closed_and_the_others_still_answered() -> None:
    async def scenario() -> None:
        async with serving(healthz=OK) as server:
            waiting = [
                await asyncio.open_connection("127.0.0.1", server.port)
                for _ in range(limits.HTTP_CONNECTIONS_MAX)
            ]
            for _, writer in waiting:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
            status, _, _ = await talk(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (status, server.counters["refused"]) == (0, 1)
            for reader, writer in waiting:
                writer.write(b"\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
                writer.close()

    asyncio.run(scenario())


def test_a_page_that_fails_harms_nothing_but_its_request() -> None:
    async def scenario() -> None:
        async with serving(healthz=OK) as server:

            def broken() -> Page:
                raise ZeroDivisionError

            server.pages["/metrics"] = broken
            assert (await talk(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 0
            assert (await talk(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200

    asyncio.run(scenario())


def test_a_json_page_is_what_it_was_made_from() -> None:
    page = json_page(503, {"reasons": ["disk full"]})
    assert (page.status, json.loads(page.body)) == (503, {"reasons": ["disk full"]})


# --- metrics ------------------------------------------------------------------------------------


def samples(picture: dict[str, Any]) -> dict[tuple[str, tuple[str, ...]], float]:
    page = Exporter(lambda: picture).page()
    assert page.content_type.startswith("text/plain")
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page.body.decode())
        for sample in family.samples
    }


def test_metrics_show_every_count_with_its_label() -> None:
    found = samples(PICTURE)
    expected = {
        ("tidegate_part_up", ("serial:a",)): 1,
        ("tidegate_part_up", ("mqtt:city",)): 0,
        ("tidegate_part_idle_seconds", ("mqtt:city",)): 40,
        ("tidegate_part_failures_total", ("serial:a",)): 2,
        ("tidegate_store_commits_total", ()): 7,
        ("tidegate_store_depth_frames", ()): 4,
        ("tidegate_frames_refused_total", ("auth",)): 5,
        ("tidegate_frames_refused_total", ('odd "name"\n',)): 1,
        ("tidegate_link_frames_in_total", ("a",)): 11,
        ("tidegate_link_refused_crc_total", ("a",)): 3,
        ("tidegate_link_open", ("a",)): 1,
        ("tidegate_radio_open", ("roof",)): 0,
        ("tidegate_radio_packets_in_total", ("roof",)): 13,
        ("tidegate_radio_refused_crc_total", ("roof",)): 14,
        ("tidegate_adr_total", ("adr_sent",)): 2,
        ("tidegate_northbound_backlog_records", ("city",)): 12,
        ("tidegate_northbound_backlog_hours", ("city",)): 0.25,
        ("tidegate_northbound_delivered_total", ("city",)): 100,
        ("tidegate_downlinks_total", ("ack",)): 9,
        ("tidegate_commands_total", ("done",)): 1,
        ("tidegate_campaign_messages_total", ("rows",)): 40,
        ("tidegate_campaign_state", ("3", "running")): 1,
        ("tidegate_campaign_nodes", ("3", "gone")): 2,
        ("tidegate_nodes", ()): 3,
        ("tidegate_nodes_heard_1h", ()): 2,
        ("tidegate_nodes_silent", ()): 1,
        ("tidegate_clock_synchronised", ()): 1,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert found["process_resident_memory_bytes", ()] > 0


def test_metrics_of_a_gateway_without_links_and_northbounds_are_valid() -> None:
    found = samples({**PICTURE, "links": {}, "radios": {}, "northbounds": {}, "devices": {}, "refused": {}})
    assert found["tidegate_nodes", ()] == 3
