"""The whole daemon on one event loop, with nodes behind pseudo-terminals: what a node sends is stored,
acknowledged and answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway import config as configs
from gateway import control, keys, node_file
from gateway.audit import balance
from gateway.daemon import DataDir, Gateway
from gateway.errors import AlreadyRunning, GatewayError
from gateway.registry import By
from protocols.wire import codes, messages
from tests.gateway.fake_node import SALT, SECRET, FakeNode, Pty, PtyNode

ADDRESS = 0x12


def write_config(tmp_path: Path, extra: str = "") -> configs.Config:
    key = tmp_path / "master.key"
    if not key.exists():
        keys.write_file(key)
    text = f"""
        [keys]
        master_key_file = "master.key"
        [gateway]
        area = "330106"
        [clock]
        assume_synchronised = true
        [health]
        port = 0
        [[serial]]
        name = "river-1"
        path = "port"
        {extra}
    """
    return configs.parse(text, "gateway.toml", tmp_path)


async def enrol(gateway: Gateway, *addresses: int) -> None:
    minted = [
        node_file.MintedNode(address, "river", None, "yuhang-3", keys.NodeKeys(SECRET, SALT))
        for address in addresses
    ]
    await gateway.registry.import_nodes(minted, By("test", "test"))


@asynccontextmanager
async def running(config: configs.Config) -> AsyncIterator[Gateway]:
    """A gateway as `tidegate gateway run` runs it, without the process around it."""
    with DataDir(Path(config.gateway.data_dir)):
        gateway = Gateway(config, structlog.get_logger())
        started = asyncio.Event()
        task = asyncio.create_task(gateway.run(started=started.set))
        await started.wait()
        try:
            yield gateway
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            gateway.store.close()


async def joined(node: PtyNode) -> None:
    node.send(node.node.start())
    await node.until(lambda: node.node.epoch is not None)


def test_a_node_joins_sends_and_is_acknowledged_after_commit(tmp_path: Path) -> None:
    async def scenario() -> None:
        pty = Pty(tmp_path / "port")
        async with running(write_config(tmp_path)) as gateway:
            await enrol(gateway, ADDRESS)
            peer = PtyNode(FakeNode(ADDRESS), pty)
            node = peer.node
            await joined(peer)
            for _ in range(20):
                node.keep()
            peer.send(*node.pending())
            await peer.until(lambda: node.acked == 20)
            stored = gateway.store.read(lambda db: db.execute("SELECT count(*) FROM event").fetchone()[0])
            assert stored == 20
            rows = gateway.store.read(balance)
            assert [(row.node, row.produced, row.stored, row.lost, row.holds) for row in rows] == [
                (ADDRESS, 20, 20, 0, True)
            ]
            peer.detach()

    asyncio.run(scenario())


def test_a_command_goes_down_to_the_node_and_its_result_comes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        pty = Pty(tmp_path / "port")
        async with running(write_config(tmp_path)) as gateway:
            await enrol(gateway, ADDRESS)
            peer = PtyNode(FakeNode(ADDRESS), pty)
            await joined(peer)
            # The node says nothing by itself: it is pinged, answers with a status, and that is answered.
            number = await gateway.commands.add(
                ADDRESS, codes.IDENTIFY, 7, 60, By("wang", "which one is it?")
            )
            await peer.until(lambda: peer.node.acked == 1)
            assert peer.node.executed == [(codes.IDENTIFY, 7)]
            await settled(gateway)
            assert gateway.commands.reports(number)[0].state == "done"
            peer.detach()

    asyncio.run(scenario())


def test_a_result_committed_before_a_kill_ends_its_command_after_the_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        pty = Pty(tmp_path / "port")
        async with running(write_config(tmp_path)) as gateway:
            await enrol(gateway, ADDRESS)
            peer = PtyNode(FakeNode(ADDRESS), pty)
            await joined(peer)

            async def killed_before_noting(address: int, result: messages.Result) -> bool:
                return True

            monkeypatch.setattr(gateway.commands, "result", killed_before_noting)
            number = await gateway.commands.add(ADDRESS, codes.READ_NOW, None, 60, By("wang", "x"))
            await peer.until(lambda: peer.node.acked == 1)
            assert gateway.commands.reports(number)[0].state == "open"
            peer.detach()
        async with running(write_config(tmp_path)) as gateway:
            report = gateway.commands.reports(number)[0]
            assert (report.state, report.detail) == ("done", "")
            assert gateway.commands.nodes() == []
            # The same of one whose deadline was over before its result came.
            await gateway.store.write(
                lambda db: db.execute("UPDATE command SET state = 'unanswered'").close()
            )
        async with running(write_config(tmp_path)) as gateway:
            assert gateway.commands.reports(number)[0].state == "done"
            ends = gateway.store.read(
                lambda db: db.execute("SELECT detail FROM audit WHERE action = 'command.done'").fetchall()
            )
            assert "after the deadline" in ends[-1][0]

    asyncio.run(scenario())


async def settled(gateway: Gateway) -> None:
    """Until the downlink has noted what it heard."""
    while gateway.downlink.working:
        await asyncio.gather(*gateway.downlink.working)


def test_a_node_goes_on_where_it_was_after_its_cable_was_pulled(tmp_path: Path) -> None:
    async def scenario() -> None:
        pty = Pty(tmp_path / "port")
        async with running(write_config(tmp_path)) as gateway:
            await enrol(gateway, ADDRESS)
            peer = PtyNode(FakeNode(ADDRESS), pty)
            await joined(peer)
            epoch = peer.node.epoch
            for round_number in range(1, 4):
                peer.node.keep()
                peer.send(*peer.node.pending())
                await peer.until(lambda: peer.node.acked == round_number)  # noqa: B023  (awaited at once)
                peer.detach()
                pty.unplug()
                pty.plug()
                peer.attach()
                await opened(gateway, round_number + 1)
            assert peer.node.epoch == epoch
            [row] = gateway.store.read(balance)
            assert (row.produced, row.stored, row.holds) == (3, 3, True)

    asyncio.run(scenario())


async def opened(gateway: Gateway, times: int) -> None:
    """Until the port was opened that often."""
    [link] = gateway.links
    changed = asyncio.Event()
    link.on_state = lambda link: changed.set()
    async with asyncio.timeout(20):
        while link.counters.opens < times:
            changed.clear()
            await changed.wait()


def test_strangers_and_removed_nodes_are_refused_and_counted_and_change_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        pty = Pty(tmp_path / "port")
        async with running(write_config(tmp_path)) as gateway:
            await enrol(gateway, ADDRESS, 0x13)
            peer = PtyNode(FakeNode(ADDRESS), pty)
            await joined(peer)
            stranger = FakeNode(ADDRESS, secret=bytes(16), seed=2)
            stranger.id_context = bytes(16)
            stranger.keep()
            peer.send(*stranger.pending(), FakeNode(0x99).start(), FakeNode(0x99, seed=3).start())
            peer.node.keep()
            peer.send(*peer.node.pending())
            await peer.until(lambda: peer.node.acked == 1)
            assert gateway.ingest.refused == {"auth": 1, "unknown_node": 2}
            await gateway.registry.remove_node(ADDRESS, By("wang", "stolen"))
            assert gateway.routes.link_to(ADDRESS) is None
            peer.node.keep()
            peer.send(*peer.node.pending())
            peer.node = FakeNode(
                0x13
            )  # another node on the same cable: once it is heard, so was what came before
            await joined(peer)
            assert gateway.ingest.refused["unknown_node"] == 3
            peer.detach()

    asyncio.run(scenario())


def test_a_node_whose_key_is_damaged_is_a_stranger_and_hurts_no_other(tmp_path: Path) -> None:
    """Its frames are refused and counted; those of the node on the same cable are served."""

    async def scenario() -> None:
        pty = Pty(tmp_path / "port")
        async with running(write_config(tmp_path)) as gateway:
            await enrol(gateway, ADDRESS, 0x13)
            await gateway.store.write(
                lambda connection: connection.execute(
                    "UPDATE node SET sealed_keys = x'0102' WHERE address = ?", (ADDRESS,)
                )
            )
            gateway.store.read(gateway.registry._load)
            peer = PtyNode(FakeNode(0x13), pty)
            peer.send(FakeNode(ADDRESS).start(), FakeNode(ADDRESS, seed=3).start())
            await joined(peer)
            assert gateway.ingest.refused == {"unknown_node": 2}
            peer.detach()

    asyncio.run(scenario())


def test_the_daemon_answers_over_its_control_socket_with_who_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        config = write_config(tmp_path)
        async with running(config) as gateway:
            await enrol(gateway, ADDRESS)

            async def ask(**request: Any) -> Any:
                return await asyncio.to_thread(control.ask, Path(config.gateway.data_dir), request)

            status = await ask(operation="status")
            assert [(row["node"], row["site"], "link" in row) for row in status["rows"]] == [
                ("0012", "yuhang-3", False)
            ]
            sent = await ask(
                operation="command.send",
                node="0012",
                command="reboot",
                ttl_s=60,
                why="stuck",
                who="somebody else",
            )
            [report] = (await ask(operation="command.list", id=sent["id"]))["commands"]
            assert (report["command"], report["why"]) == ("reboot", "stuck")
            assert report["who"] == control.user_name(os.getuid())
            for request, told in (
                ({"operation": "nonsense"}, "operation 'nonsense' is unknown. Known: status"),
                ({"operation": "command.send", "node": "0012"}, "'command' is missing"),
                ({"operation": "node.remove", "node": "x"}, "is not an address. Allowed is 0001 to fffe"),
                ({"operation": "site.assign", "site": 5, "node": "0012"}, "Allowed is str"),
            ):
                with pytest.raises(GatewayError, match=told):
                    await ask(**request)

    asyncio.run(scenario())


@pytest.mark.parametrize("request_line", [b"\n", b"not json\n", b"[1]\n", b"[" * 100_000 + b"\n", b""])
def test_what_is_no_request_is_refused_by_the_control_socket(tmp_path: Path, request_line: bytes) -> None:
    async def scenario() -> None:
        async with running(write_config(tmp_path)) as gateway:
            path = str(tmp_path / "data" / control.SOCKET_NAME)
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(request_line)
            writer.write_eof()
            assert "error" in json.loads(await reader.read())
            writer.close()
            assert gateway.control.counters["refused"] == 1

    asyncio.run(scenario())


def test_ready_only_while_links_are_open_and_says_why_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(write_config(tmp_path)) as gateway:
            reasons = json.loads(gateway.readyz().body)["reasons"]
            assert reasons == [f"serial:river-1: {tmp_path}/port: no such port"]
            assert (gateway.readyz().status, gateway.healthz().status) == (503, 200)
            Pty(tmp_path / "port")
            await opened(gateway, 1)
            assert (gateway.readyz().status, gateway.reasons()) == (200, [])
            gateway.store.failing = "disk full"
            assert json.loads(gateway.readyz().body)["reasons"] == ["store: disk full"]

    asyncio.run(scenario())


def test_a_second_gateway_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with (
        DataDir(tmp_path / "data"),
        pytest.raises(AlreadyRunning, match="another tidegate process"),
        DataDir(tmp_path / "data"),
    ):
        pass
    with DataDir(tmp_path / "data"):
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
