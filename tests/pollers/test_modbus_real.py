"""The poller with pymodbus on real ptys and sockets, against devices that share no code with it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import limits, log
from gateway.pollers.modbus_bus import Bus
from gateway.pollers.modbus_client import Client
from gateway.pollers.modbus_device import UP
from gateway.pollers.modbus_ports import PortSettings, parse
from gateway.pollers.modbus_scheduler import Scheduler
from gateway.pollers.modbus_types import (
    ANSWERED,
    LOST,
    REFUSED,
    SILENT,
    SPOILT,
    Device,
    Point,
    Request,
    Write,
)
from hil_tests.world.modbus_slave import Manner, Slave, block, truth
from hil_tests.world.modbus_street import PtyStreet, TcpStreet

READ = Request(7, 3, 100, 4)
TRUTH = tuple(truth(7, address) for address in range(100, 104))
PATIENCE_S = 20.0


def slave(unit: int = 7) -> Slave:
    return Slave(
        unit,
        holding=block(unit, range(100, 140)),
        inputs=block(unit, range(10)),
        coils={i: i % 3 == 0 for i in range(20)},
        discrete={i: i % 2 for i in range(20)},
        turnaround_s=0.0,
    )


class Medium:
    """A street of any kind, and a client for it."""

    def __init__(self, kind: str, path: Path, slaves: list[Slave], **options: Any) -> None:
        self.kind = kind
        self.path = path / "tty"
        self.slaves = slaves
        self.options = options
        self.street: PtyStreet | TcpStreet
        self.client: Client

    async def __aenter__(self) -> Medium:
        if self.kind == "serial":
            self.street = PtyStreet(self.path, self.slaves, **self.options)
            self.street.plug()
            address = f"serial:{self.path}"
        else:
            self.street = TcpStreet(self.slaves, is_rtu=self.kind == "rtu-tcp")
            await self.street.open()
            address = f"{self.kind}:127.0.0.1:{self.street.port}"
        self.client = Client(parse(address), PortSettings(115200))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.client.close()
        if isinstance(self.street, PtyStreet):
            self.street.unplug()
        else:
            await self.street.close()


KINDS = ("serial", "tcp", "rtu-tcp")


@pytest.mark.parametrize("kind", KINDS)
def test_every_function_reads_and_writes(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        device = slave()
        async with Medium(kind, tmp_path, [device]) as medium:
            client = medium.client
            await client.open()

            async def ask(*request: Any) -> tuple[int, ...]:
                outcome = await client.exchange(Request(*request), PATIENCE_S)
                assert outcome.kind == ANSWERED, outcome
                return outcome.values

            assert await ask(7, 3, 100, 4) == TRUTH
            assert await ask(7, 4, 2, 3) == tuple(truth(7, address) for address in (2, 3, 4))
            assert await ask(7, 1, 3, 11) == tuple(int(i % 3 == 0) for i in range(3, 14))
            assert await ask(7, 2, 0, 9) == tuple(i % 2 for i in range(9))
            await ask(7, 22, 103, 1, (0xFF00, 0x0012))
            assert device.maps[3][103] == (TRUTH[3] & 0xFF00) | 0x0012
            await ask(7, 6, 101, 1, (77,))
            await ask(7, 16, 102, 2, (88, 99))
            await ask(7, 5, 4, 1, (1,))
            await ask(7, 15, 10, 9, (1, 1, 0, 0, 1, 1, 0, 1, 1))
            assert await ask(7, 3, 100, 4) == (TRUTH[0], 77, 88, 99)
            assert await ask(7, 1, 4, 1) == (1,)
            assert await ask(7, 1, 10, 9) == (1, 1, 0, 0, 1, 1, 0, 1, 1)
            refused = await client.exchange(Request(7, 3, 138, 4), PATIENCE_S)
            assert (refused.kind, refused.code) == (REFUSED, 2)

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_of_no_registers_is_sent_as_it_is(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        device = slave()
        device.switches = {(3, 0x2500, 0): True, (3, 0x2E00, 1): False}
        device.is_measuring = False
        async with Medium(kind, tmp_path, [device]) as medium:
            await medium.client.open()
            outcome = await medium.client.exchange(Request(7, 3, 0x2500, 0), PATIENCE_S)
            assert (outcome.kind, outcome.values, device.is_measuring) == (ANSWERED, (), True)

    asyncio.run(main())


# What the next answer does, what the client makes of it, and whether it waits for the whole time-out.
MANNERS = [
    ("serial", Manner("silence"), SILENT),
    ("serial", Manner("crc"), SPOILT),
    ("serial", Manner("wrong_unit"), SILENT),
    ("serial", Manner("exception", code=4), REFUSED),
    ("serial", Manner("split", delay_s=0.003, size=2), ANSWERED),
    ("serial", Manner("noise", size=3), ANSWERED),
    ("serial", Manner("reset", size=4), SPOILT),
    ("tcp", Manner("silence"), SILENT),
    ("tcp", Manner("wrong_unit"), SILENT),
    ("tcp", Manner("exception", code=6), REFUSED),
    ("tcp", Manner("split", delay_s=0.003, size=2), ANSWERED),
    ("tcp", Manner("noise", size=5), ANSWERED),
    ("rtu-tcp", Manner("crc"), SPOILT),
    ("rtu-tcp", Manner("split", delay_s=0.003, size=2), ANSWERED),
]


@pytest.mark.parametrize(
    ("kind", "manner", "expected"), MANNERS, ids=lambda value: getattr(value, "kind", value)
)
def test_bad_manners_are_told_apart_and_the_next_answer_is_good(
    kind: str, manner: Manner, expected: str, tmp_path: Path
) -> None:
    async def main() -> None:
        device = slave()
        async with Medium(kind, tmp_path, [device]) as medium:
            await medium.client.open()
            device.misbehave(manner)
            timeout_s = PATIENCE_S if expected in (ANSWERED, REFUSED) else 0.05
            outcome = await medium.client.exchange(READ, timeout_s)
            assert outcome.kind == expected, outcome
            if expected == ANSWERED:
                assert outcome.values == TRUTH
            again = await medium.client.exchange(READ, PATIENCE_S)
            assert again.values == TRUTH
            assert medium.client.is_open

    asyncio.run(main())


def test_the_echo_of_a_transceiver_is_no_answer_to_a_write(tmp_path: Path) -> None:
    async def main() -> None:
        device = slave()
        async with Medium("serial", tmp_path, [device], echoes=True) as medium:
            await medium.client.open()
            assert (await medium.client.exchange(READ, PATIENCE_S)).values == TRUTH
            device.misbehave(Manner("silence"))
            outcome = await medium.client.exchange(Request(7, 6, 101, 1, (5,)), 0.05)
            assert outcome.kind == SILENT
            outcome = await medium.client.exchange(Request(7, 6, 101, 1, (5,)), PATIENCE_S)
            assert outcome.kind == ANSWERED

    asyncio.run(main())


def test_a_late_answer_on_tcp_is_never_taken_for_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        device = slave()
        async with Medium("tcp", tmp_path, [device]) as medium:
            await medium.client.open()
            for begin in range(100, 120):
                device.misbehave(Manner("late", delay_s=0.02))
                await medium.client.exchange(Request(7, 3, begin, 4), 0.01)
                device.misbehave(Manner("late", delay_s=0.025))
                outcome = await medium.client.exchange(Request(7, 3, begin + 4, 4), PATIENCE_S)
                assert outcome.values == tuple(truth(7, begin + 4 + i) for i in range(4))

    asyncio.run(main())


def test_a_silent_device_does_not_cost_the_connection_that_others_share(tmp_path: Path) -> None:
    async def main() -> None:
        dead, alive = slave(7), slave(8)
        dead.is_dead = True
        async with Medium("tcp", tmp_path, [dead, alive]) as medium:
            await medium.client.open()
            for _ in range(20):
                assert (await medium.client.exchange(READ, 0.005)).kind == SILENT
                assert (await medium.client.exchange(READ._replace(unit=8), PATIENCE_S)).kind == ANSWERED
            assert isinstance(medium.street, TcpStreet)
            assert medium.street.connections == 1

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_under_way_is_told_at_once_that_its_medium_is_gone(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        device = slave()
        device.is_dead = True
        async with Medium(kind, tmp_path, [device]) as medium:
            await medium.client.open()
            asking = asyncio.ensure_future(medium.client.exchange(READ, PATIENCE_S))
            await until(lambda: bool(device.requests))
            if isinstance(medium.street, PtyStreet):
                medium.street.unplug()
                medium.street.plug()
            else:
                medium.street.drop()
            assert (await asking).kind == LOST
            assert not medium.client.is_open

    asyncio.run(main())


# --- a whole bus ---------------------------------------------------------------------------------


async def until(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Look every few milliseconds until `condition` holds."""
    end_s = time.monotonic() + patience_s
    tick = asyncio.Event()
    while not condition():
        assert time.monotonic() < end_s, "it did not happen"
        asyncio.get_running_loop().call_later(0.003, tick.set)
        await tick.wait()
        tick.clear()


class Desk:
    """A bus with its scheduler, and what it read."""

    def __init__(
        self, medium: Medium, units: list[int], period_s: float = 0.05, timeout_s: float = 0.05
    ) -> None:
        points = tuple(Point(f"r{a}", 3, a, 2, period_s, period_s) for a in (100, 104, 120))
        self.devices = [Device(f"d{unit}", unit, points, timeout_s=timeout_s) for unit in units]
        self.values: dict[str, list[tuple[int, tuple[int, ...]]]] = defaultdict(list)
        self.states: list[tuple[str, str, str]] = []
        client = medium.client
        self.scheduler = Scheduler(
            client.settings.line,
            self.devices,
            time.monotonic(),
            is_numbered=client.is_numbered,
            on_values=lambda device, index, values: self.values[device.name].append((index, values)),
            on_state=lambda device, old, new: self.states.append((device.name, old, new)),
        )
        self.bus = Bus("street", client, self.scheduler, log.setup("error", "json"))

    async def __aenter__(self) -> Desk:
        self.task = asyncio.create_task(self.bus.run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def check(self) -> None:
        """Every value is that of its own register."""
        for device in self.devices:
            for index, values in self.values[device.name]:
                address = device.points[index].address
                assert values == tuple(truth(device.unit, address + i) for i in range(2))

    async def write(
        self, device: str, address: int, values: tuple[int, ...], ttl_s: float = 1.0
    ) -> tuple[str, str]:
        done: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        refusal = self.bus.write(
            Write(
                device,
                16,
                address,
                values,
                time.monotonic() + ttl_s,
                lambda result, detail: done.set_result((result, detail)),
            )
        )
        assert not refusal
        return await done


@pytest.mark.parametrize("kind", KINDS)
def test_a_bus_reads_writes_and_survives_the_loss_of_its_medium(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Medium(kind, tmp_path, [slave(7), slave(8)]) as medium, Desk(medium, [7, 8]) as desk:
            await until(lambda: all(len(desk.values[name]) >= 6 for name in ("d7", "d8")))
            assert await desk.write("d8", 130, (1, 2)) == ("done", "")
            if isinstance(medium.street, PtyStreet):
                medium.street.unplug()
                await until(lambda: not desk.bus.is_open)
                medium.street.plug()
            else:
                port = medium.street.port
                await medium.street.close()
                await until(lambda: not desk.bus.is_open)
                await medium.street.open(port)
            before = len(desk.values["d7"])
            await until(lambda: len(desk.values["d7"]) > before + 3)
            assert desk.bus.counters["opens"] == 2
            desk.check()

    asyncio.run(main())


def test_a_device_that_returns_on_a_real_line_is_up_within_its_probe_pause(tmp_path: Path) -> None:
    """Thirty slaves on a pty; at the pace of 9600 baud it would take minutes, and the rules are the same."""

    async def main() -> None:
        slaves = [slave(unit) for unit in range(1, 31)]
        async with Medium("serial", tmp_path, slaves) as medium:
            desk = Desk(medium, list(range(1, 31)), period_s=0.25, timeout_s=0.05)
            async with desk:
                await until(lambda: all(len(desk.values[f"d{unit}"]) >= 6 for unit in range(1, 31)))
                slaves[4].is_dead = True
                await until(lambda: desk.scheduler.states[4].failures >= 2)
                counts = {name: len(values) for name, values in desk.values.items()}
                slaves[4].is_dead = False
                back_s, pause_s = time.monotonic(), desk.scheduler.probe_pause_s(4)
                await until(lambda: desk.scheduler.states[4].state == UP)
                took_s = time.monotonic() - back_s
                print(f"probe_pause_s={pause_s:.2f} up_after_s={took_s:.2f}")
                await until(lambda: len(desk.values["d5"]) >= counts["d5"] + 3)
                healthy = [name for name in counts if name != "d5"]
                assert all(len(desk.values[name]) > counts[name] for name in healthy)
                probes = desk.scheduler.states[4].counters["silent"]
                assert probes <= 4, "more than one time-out in a probe pause"
                desk.check()

    asyncio.run(main())


def test_a_write_to_a_device_that_takes_it_and_does_not_answer_is_found_done(tmp_path: Path) -> None:
    async def main() -> None:
        device = slave(7)
        async with Medium("tcp", tmp_path, [device]) as medium, Desk(medium, [7], period_s=30) as desk:
            await until(lambda: len(desk.values["d7"]) >= 3)
            device.misbehave(Manner("mute"))
            assert await desk.write("d7", 130, (5,)) == ("done", "")
            assert [values for _at_s, _address, values in device.writes] == [(5,)]

    asyncio.run(main())


def test_a_half_open_connection_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with Medium("tcp", tmp_path, [slave(7)]) as medium, Desk(medium, [7]) as desk:
            assert isinstance(medium.street, TcpStreet)
            await until(lambda: len(desk.values["d7"]) >= 3)
            medium.street.is_deaf = True
            await until(lambda: medium.street.connections >= 2)  # type: ignore[union-attr]
            medium.street.is_deaf = False
            before = len(desk.values["d7"])
            await until(lambda: len(desk.values["d7"]) > before)

    monkeypatch.setattr(limits, "MODBUS_HALF_OPEN_S", 0.2)
    monkeypatch.setattr(limits, "SERIAL_CHECK_S", 0.1)
    monkeypatch.setattr(limits, "MODBUS_PROBE_MIN_S", 0.1)
    asyncio.run(main())
