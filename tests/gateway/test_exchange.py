"""Links, buses, devices and northbounds exchanged alone: whatever a change does not touch does not notice it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from bench.modbus import DEVICE, configuration
from gateway import config as configs
from gateway import known_good, lives
from gateway.daemon import DataDir, Gateway
from gateway.errors import ConfigError
from gateway.reload import NEW_LIFE, Reload
from hil_tests.world.modbus_slave import Slave, block
from hil_tests.world.modbus_street import TcpStreet
from tests.gateway.fake_node import FakeNode, Pty, PtyNode
from tests.gateway.test_daemon import enrol, joined
from tests.pollers.test_modbus_real import until

SERIAL = '[[serial]]\nname = "{0}"\npath = "port-{0}"\n'
REPORT = (
    '[[{kind}]]\nname = "{name}"\nhost = "127.0.0.1"\nport = 1\npassword_file = "{kind}.pw"\n'
    'stations = {{ "yuhang-3" = "{code}" }}\n'
)
HJ = REPORT.format(kind="hj212", name="province", code="010000A8900016F000169DC0")
SL = REPORT.format(kind="sl651", name="hydrology", code="0012345678")
CITY = '[[mqtt]]\nname = "city"\nhost = "127.0.0.1"\nport = 1\n'


class Town:
    """A gateway with two nodes on cables, two meters on buses of their own, and three northbounds that go nowhere."""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        self.folder = folder
        self.ports = ports
        self.file = folder / "gateway.toml"
        for kind, password in (("hj212", "123456"), ("sl651", "03E8")):
            file = folder / f"{kind}.pw"
            file.write_text(password)
            file.chmod(0o600)
        configuration(folder, [])
        self.base = (folder / "bench.toml").read_text() + "[clock]\nassume_synchronised = true\n"

    def write(self, *tables: str) -> None:
        self.file.write_text("\n".join((self.base, *tables)))

    def tables(self) -> list[str]:
        serial = [SERIAL.format(name) for name in ("a", "b")]
        return [*serial, *(DEVICE.format(i, port) for i, port in enumerate(self.ports)), HJ, SL, CITY]


class Living:
    def __init__(self, town: Town, gateway: Gateway, reload: Reload, task: asyncio.Task[str]) -> None:
        self.town = town
        self.gateway = gateway
        self.reload = reload
        self.task = task

    async def change(self, *tables: str) -> list[str]:
        self.town.write(*tables)
        return await self.reload.reload("somebody")

    def things(self) -> dict[str, Any]:
        """Whatever runs, by name: the very objects."""
        gateway = self.gateway
        return {
            **{link.name: link for link in gateway.links},
            **gateway.buses,
            **gateway.northbounds,
            **gateway.devices.by_name,
            "control": gateway.control,
        }

    def counts(self) -> dict[str, tuple[float, ...]]:
        """Of what runs: what would move if it was disturbed, or began anew."""
        gateway = self.gateway
        links = {link.name: (link.counters.opens, link.counters.losses) for link in gateway.links}
        buses = {
            name: tuple(
                poller.bus.picture().get(key, 0) for key in ("opens", "losses", "timeouts", "open_errors")
            )
            for name, poller in gateway.buses.items()
        }
        parts = {part.name: (float(part.failures),) for part in gateway.parts}
        return {**links, **buses, **parts}


@asynccontextmanager
async def living(folder: Path) -> AsyncIterator[tuple[Living, list[PtyNode]]]:
    slaves = [Slave(1, holding={**block(1, range(40)), 5000: 0}, turnaround_s=0.0) for _ in range(2)]
    streets = [TcpStreet([slave]) for slave in slaves]
    for street in streets:
        await street.open()
    town = Town(folder, [street.port for street in streets])
    town.write(*town.tables())
    config = configs.load(town.file)
    nodes = [
        PtyNode(FakeNode(address, seed=address), Pty(folder / f"port-{name}"))
        for address, name in ((0x12, "a"), (0x13, "b"))
    ]
    with DataDir(Path(config.gateway.data_dir)):
        gateway, started = Gateway(config, structlog.get_logger()), asyncio.Event()
        by = Reload(config, town.file)
        by.begin(gateway)
        task = asyncio.create_task(gateway.run(started=started.set, reload=by))
        await started.wait()
        await enrol(gateway, 0x12, 0x13)
        await until(lambda: all(link.is_open for link in gateway.links))
        for node in nodes:
            await joined(node)
        await until(lambda: all(device.counters["sets"] >= 2 for device in gateway.devices.by_name.values()))
        try:
            yield Living(town, gateway, by, task), nodes
        finally:
            gateway.end("stop")
            await task
            gateway.store.close()
            for node in nodes:
                node.detach()
            for street in streets:
                await street.close()


async def says(node: PtyNode) -> None:
    """One event more, acknowledged."""
    node.node.keep()
    node.send(*node.node.pending())
    await node.until(lambda: node.node.acked == len(node.node.records))


CHANGES = [
    (
        "baud of a",
        lambda t: t.replace('path = "port-a"', 'path = "port-a"\nbaud = 9600'),
        {"a"},
        ["serial a: begun"],
    ),
    ("without a", lambda t: t.replace(SERIAL.format("a"), ""), {"a"}, ["serial a: ended"]),
    ("with c", lambda t: t + SERIAL.format("c"), {"c"}, ["serial c: begun"]),
    (
        "hj212",
        lambda t: t.replace(HJ, HJ + "may_set_password = true\n"),
        {"province"},
        ["northbound province: begun"],
    ),
    ("without hj212", lambda t: t.replace(HJ, ""), {"province"}, ["northbound province: ended"]),
    ("sl651", lambda t: t.replace(SL, SL + "centre = 7\n"), {"hydrology"}, ["northbound hydrology: begun"]),
    ("mqtt", lambda t: t.replace(CITY, CITY + 'version = "3.1.1"\n'), {"city"}, ["northbound city: begun"]),
    (
        "device",
        lambda t: t.replace('name = "d0"', 'name = "d0"\ntrend = false'),
        {"d0", "bus0"},
        ["bus bus0: begun, with device d0"],
    ),
    (
        "another device",
        lambda t: t.replace('name = "d0"', 'name = "dx"'),
        {"d0", "dx", "bus0"},
        ["bus bus0: begun, with device dx", "device d0: ended"],
    ),
    (
        "bus",
        lambda t: t.replace('name = "bus1"', 'name = "bus1"\nenabled = false'),
        {"bus1"},
        ["bus bus1: ended"],
    ),
]


def test_what_a_change_does_not_touch_does_not_notice_it(tmp_path: Path) -> None:
    """Each change alone, and taken back before the next one."""

    async def scenario() -> None:
        async with living(tmp_path) as (it, nodes):
            text = "\n".join(it.town.tables())
            for what, edit, touched, told in CHANGES:
                try:
                    assert edit(text) != text
                    await changed(it, nodes, edit(text), touched, told)
                    await it.change(text)
                    await until(lambda: all(link.is_open for link in it.gateway.links))
                    await says(nodes[0])
                except BaseException as error:
                    error.add_note(what)
                    raise
            assert not it.task.done()

    asyncio.run(scenario())


async def changed(it: Living, nodes: list[PtyNode], text: str, touched: set[str], told: list[str]) -> None:
    things, counts = it.things(), it.counts()
    assert await it.change(text) == told
    after, now = it.things(), it.counts()
    for name, thing in things.items():
        if name in touched:
            assert after.get(name) is not thing, f"{name} is the one of before"
        else:
            assert after[name] is thing, f"{name} was exchanged"
    mine = {name for name in counts if name.partition(":")[2] not in touched and name not in touched}
    assert {name: now[name] for name in mine} == {name: counts[name] for name in mine}
    await says(nodes[1])  # b was not touched by any
    if "a" not in touched:
        await says(nodes[0])
    devices = it.gateway.devices
    sets = {device.name: device.counters["sets"] for device in devices.by_name.values()}
    running = {device.name for name in it.gateway.buses for device in devices.on_bus(name)}
    await until(lambda: all(devices.get(name).counters["sets"] > sets[name] for name in running))


def test_a_change_that_cannot_be_made_alone_begins_another_life_and_a_bad_one_changes_nothing(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with living(tmp_path) as (it, nodes):
            things = it.things()
            bad = "\n".join(it.town.tables()).replace('name = "d0"', 'name = "d0"\ncolour = 1')
            with pytest.raises(ConfigError, match=r"gateway.toml:\d+: device\[0\].colour = 1: unknown key"):
                await it.change(bad)
            assert it.things() == things
            await says(nodes[0])
            (done,) = await it.change(*it.town.tables(), "[store]\nkeep_days = 3\n")
            assert done.startswith("store: takes effect with all parts")
            assert await it.task == NEW_LIFE
            it.gateway.ending = asyncio.get_running_loop().create_future()  # it has ended

    asyncio.run(scenario())


def test_two_changes_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with living(tmp_path) as (it, nodes):
            serial, *rest = it.town.tables()
            it.town.write(serial.replace('"port-a"', '"port-a"\nbaud = 9600'), *rest)
            first = asyncio.create_task(it.reload.reload("one"))
            second = asyncio.create_task(it.reload.reload("two"))
            assert await first == ["serial a: begun"]
            assert await second == ["nothing has changed"]
            await until(lambda: all(link.is_open for link in it.gateway.links))
            await says(nodes[0])

    asyncio.run(scenario())


# ---- a kill while a change is on trial -------------------------------------------------------------------------------


def killed_on_trial(folder: Path) -> tuple[Town, configs.Config]:
    """A configuration that worked, another one on trial, and the process is gone. The town, and what worked."""
    town = Town(folder, [])
    town.write(SERIAL.format("a"))
    good = configs.load(town.file)
    Path(good.gateway.data_dir).mkdir()
    assert known_good.save(town.file, good)
    town.write(SERIAL.format("a"), CITY)
    known_good.note(configs.load(town.file), town.file, known_good.ON_TRIAL)
    return town, good


def test_a_trial_goes_on_after_a_kill_and_its_end_is_kept_over_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town, good = killed_on_trial(tmp_path)

    async def first() -> None:
        config = configs.load(town.file)
        with DataDir(Path(config.gateway.data_dir)):
            by = Reload(config, town.file)
            gateway = Gateway(config, structlog.get_logger())
            by.begin(gateway)
            assert by.trial is not None
            assert by.trial.names == {"city"}
            by.trial = by.trial._replace(until_s=0.0)
            by.look()
            assert by.config == good
            gateway.store.close()

    asyncio.run(first())
    lived: list[tuple[configs.Config, str | None]] = []
    monkeypatch.setattr(lives, "run", lambda config, log, file, reason: lived.append((config, reason)))
    lives.start(town.file, is_strict=False)  # killed at once, and started by systemd
    assert lived[-1][0] == good
    assert "none of city connected" in str(lived[-1][1])
    lives.start(town.file, is_strict=True)
    assert lived[-1] == (configs.load(town.file), None)
    town.write(SERIAL.format("a"), CITY, '[log]\nlevel = "debug"\n')  # somebody has edited it
    lives.start(town.file, is_strict=False)
    assert lived[-1] == (configs.load(town.file), None)


@pytest.mark.parametrize("spoilt", [b"", b"[1", b'["failed"]', b"\xff", b"{}"])
def test_a_note_that_is_none_is_not_believed(tmp_path: Path, spoilt: bytes) -> None:
    town, good = killed_on_trial(tmp_path)
    Path(good.gateway.data_dir, known_good.TRIAL_NAME).write_bytes(spoilt)
    assert known_good.verdict(configs.load(town.file), town.file) == ""
