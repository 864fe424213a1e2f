"""A line watched through the gateway: bounded, numbered, opened with the key; and whose command ids are whose."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from gateway import limits
from gateway.console_operations import ConsoleOperations
from gateway.errors import CommandError, ControlError
from gateway.links.tail import DOWN, TEXT, UP, Tail
from gateway.operations import Operations
from gateway.presence import Presence
from protocols.wire import codes, envelope, framing, messages
from tests.gateway.desk import BY, KEYS, Desk, desk
from tests.gateway.fake_node import Pty
from tests.gateway.test_serial_link import Bench, running

NODE = 0x12
CONTEXT = bytes(range(16))


def test_a_tail_keeps_the_latest_and_says_what_was_missed() -> None:
    now = [0.0]
    tail = Tail(lambda: now[0])
    for number in range(limits.SERIAL_TAIL_MAX + 50):
        now[0] = float(number)
        tail.add(TEXT, f"line {number}")
    kept = tail.since(0)
    assert len(kept) == limits.SERIAL_TAIL_MAX
    assert (kept[0].number, kept[-1].number, tail.last) == (51, limits.SERIAL_TAIL_MAX + 50, tail.last)
    assert [entry.data for entry in tail.since(tail.last - 2)] == ["line 248", "line 249"]


def sealed(message: Any, piv: int, kid: bytes) -> bytes:
    key = envelope.sender_key(*KEYS, CONTEXT, kid)
    return envelope.seal(key, piv, messages.encode(message))


async def told(made: Desk, ports: dict[str, Any], **request: Any) -> dict[str, Any]:
    presence = Presence(made.clock)
    if "heard_on" in request:
        presence.heard(NODE, request.pop("heard_on"), None, 0.0, 0)
    operations = Operations(made.registry, made.commands, made.wishes, None)  # type: ignore[arg-type]
    ConsoleOperations(made.registry, presence, made.store, lambda: ports).serve(operations)
    return await operations.handle({"operation": "node.console", **request}, "wang")


async def know(made: Desk) -> None:
    """An epoch of the node, as a join leaves it."""
    await made.enrol(NODE)
    columns = (
        "node, number, id_context, opened_ms, first_seq, cum, runs, highest_set, highest_piv, window, dn_reserved,"
        " dn_hold, upto_reading, upto_event"
    )
    values = (NODE, 5, CONTEXT, 0, 1, 0, b"", 0, 0, 0, 0, 0, 0, 0)
    marks = ", ".join("?" * len(values))
    await made.store.write(
        lambda writer: writer.execute(f"INSERT INTO epoch ({columns}) VALUES ({marks})", values)
    )


def test_text_and_frames_of_a_line_are_told_in_order_and_opened(tmp_path: Path) -> None:
    async def scenario() -> None:
        pty = Pty(tmp_path / "port")
        bench = Bench(pty.path)
        event = messages.Event(7, 0, 1_790_000_000, 1, 6, messages.RAISED, 12, None)
        with desk(tmp_path) as made:
            await know(made)
            async with running(bench):
                await bench.until(lambda: bench.link.is_open)

                os.write(pty.master, b"boot 1\r\n" + framing.encode(sealed(event, 1, b"\x00\x12")))
                os.write(pty.master, framing.encode(bytes(40)))
                await bench.until(lambda: bench.link.tail.last == 3)
                bench.link.send(NODE, sealed(messages.Ack(7, (), None), 1, b"\x00\x12\x01"))
                reply = await told(made, {"river-1": bench.link}, node="0012", heard_on="river-1")
        assert {(entry["kind"], entry["text"]) for entry in reply["entries"]} == {
            (TEXT, "boot 1"),
            (UP, "event 7: cover_tilted raised (12)"),
            (UP, "frame of 40 bytes, not opened"),
            (DOWN, "ack up to 7"),
        }
        assert (reply["last"], reply["missed"], reply["port"]) == (4, 0, "river-1")

    asyncio.run(scenario())


def test_who_can_not_be_watched_is_told_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        link = Bench(tmp_path / "port").link
        with desk(tmp_path) as made:
            await made.enrol(NODE)
            with pytest.raises(
                ControlError, match=r"not heard since the gateway started.*There are: river-1"
            ):
                await told(made, {"river-1": link}, node="0012")
            with pytest.raises(CommandError, match=r"is heard by 'lora', which has no console.*console 0"):
                await told(made, {"river-1": link}, node="0012", heard_on="lora")
            with pytest.raises(CommandError, match="is not an address"):
                await told(made, {}, node="river")
            with pytest.raises(CommandError, match="from 0 on"):
                await told(made, {"river-1": link}, node="0012", heard_on="river-1", after=-1)
            assert (await told(made, {"river-1": link}, node="0012", port="river-1", after=99))[
                "entries"
            ] == []

    asyncio.run(scenario())


def test_a_command_id_is_above_those_that_a_bench_has_given(tmp_path: Path) -> None:
    """Its results come to the gateway like any other: what is given next must not be taken for an old one."""

    async def scenario() -> None:
        with desk(tmp_path) as made:
            await know(made)
            at_bench = made.clock.unix_ms() // 1000 + 5000  # the clock of that machine was ahead
            row = (3, 1, 1, 0, 1, 0, 1_790_000_000, 1, at_bench, messages.DONE, "null")
            await made.store.write(
                lambda writer: writer.execute(
                    "INSERT INTO event (kind, epoch, seq, piv, print, received_ms, time, tq, code, state, detail)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
            )
            await made.commands.add(NODE, codes.IDENTIFY, 5, 60, BY)
            command = made.commands.due(NODE)
            assert command is not None
            assert command.command_id == at_bench + 1

    asyncio.run(scenario())
