"""`tidegate street …`: devices of a simulated street, for a person who wants to try the gateway without any."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Annotated

import typer

from hil_tests import bench_cli
from hil_tests.errors import RigError
from hil_tests.world import ble_street as street
from hil_tests.world import modbus_models
from hil_tests.world.modbus_street import PtyStreet, TcpStreet

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
# The key of the simulated sensors that encrypt; it protects nothing.
SAMPLE_KEY = bytes(range(16))
app.command()(bench_cli.bench)


@app.callback()
def _group() -> None:
    """Devices of a simulated street, to try commands on."""


@app.command()
def ble(
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="TCP port on 127.0.0.1 to offer the radio on; 0: a free one."),
    ] = 6402,
    sensors: Annotated[int, typer.Option(min=0, max=100, help="How many only advertise (BTHome).")] = 20,
    peripherals: Annotated[int, typer.Option(min=0, max=8, help="How many can be connected to.")] = 4,
    trouble: Annotated[
        bool, typer.Option("--trouble", help="Connections are lost, addresses change.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
) -> None:
    """Be a Bluetooth radio with a street around it: use it with --transport tcp-client:127.0.0.1:PORT."""
    try:
        asyncio.run(_serve(port, sensors, peripherals, trouble, seed))
    except KeyboardInterrupt:
        typer.echo("")
    except OSError as exc:
        raise RigError(
            f"port {port} on 127.0.0.1 cannot be used: {exc.strerror}. Take another with --port."
        ) from exc


@app.command()
def modbus(
    link: Annotated[Path, typer.Option(help="Where the line's port appears.")] = Path("street-tty"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port on 127.0.0.1; 0: a free one.")] = 6502,
    baud: Annotated[int, typer.Option(help="Pace of the line.")] = 9600,
    trouble: Annotated[bool, typer.Option("--trouble", help="Devices misbehave now and then.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
) -> None:
    """Be a line with a level meter (unit 3) and an energy meter (unit 7) on it, and the same two on TCP."""
    try:
        asyncio.run(_serve_modbus(link, port, baud, trouble, seed))
    except KeyboardInterrupt:
        typer.echo("")
    except OSError as exc:
        raise RigError(f"{link} or port {port} on 127.0.0.1 cannot be used: {exc.strerror}.") from exc


@app.command()
def hj212(
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port on 127.0.0.1; 0: a free one.")] = 8212,
    mute: Annotated[bool, typer.Option("--mute", help="Take data and confirm none.")] = False,
    sm4_key: Annotated[
        Path | None, typer.Option("--sm4-key", help="File with the key of SM4: take only what is encrypted.")
    ] = None,
) -> None:
    """Be an environmental platform that takes HJ 212 and HJ 1404, and show every row that a gateway sends it."""
    try:
        asyncio.run(_serve_hj212(port, mute, sm4_key))
    except KeyboardInterrupt:
        typer.echo("")
    except OSError as exc:
        raise RigError(f"port {port} on 127.0.0.1 cannot be used: {exc.strerror}.") from exc


@app.command()
def sl651(
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port on 127.0.0.1; 0: a free one.")] = 8651,
    mute: Annotated[bool, typer.Option("--mute", help="Take reports and confirm none.")] = False,
) -> None:
    """Be a hydrological centre that takes SL 651-2014, and show every report that a gateway sends it."""
    try:
        asyncio.run(_serve_sl651(port, mute))
    except KeyboardInterrupt:
        typer.echo("")
    except OSError as exc:
        raise RigError(f"port {port} on 127.0.0.1 cannot be used: {exc.strerror}.") from exc


@app.command()
def orders(
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port on 127.0.0.1; 0: a free one.")] = 8345,
    trouble: Annotated[bool, typer.Option("--trouble", help="Refuse, lose and delay now and then.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the trouble.")] = 1,
) -> None:
    """Be a hotline platform (12345) that takes work orders, and show them on a page."""
    try:
        asyncio.run(_serve_orders(port, trouble, seed))
    except KeyboardInterrupt:
        typer.echo("")
    except OSError as exc:
        raise RigError(f"port {port} on 127.0.0.1 cannot be used: {exc.strerror}.") from exc


async def _serve_sl651(port: int, mute: bool) -> None:
    from hil_tests.world.sl_centre import SlCentre
    from protocols.northbound import sl651_body
    from protocols.northbound import sl651_codes as codes

    centre = SlCentre()
    centre.faults.mute = mute
    port = await centre.serve(port)
    typer.echo(f"A hydrological centre on port {port}. A gateway reports to it with:\n")
    typer.echo(f'[[sl651]]\nname = "centre"\nhost = "127.0.0.1"\nport = {port}')
    typer.echo(f'password_file = "sl.password"      # of mode 0600, with {centre.password}')
    typer.echo('stations = { "bridge-1" = "0012345678" }\n')
    shown = 0
    while True:
        await centre.arrived.wait()
        centre.arrived.clear()
        for one in centre.arrivals[shown:]:
            station, function, at = one.key
            words = " ".join(
                f"{codes.ELEMENTS[number].letters}={sl651_body.text_of(element.data, element.definition & 7)}"
                for number, element in one.elements.items()
                if number in codes.ELEMENTS and sl651_body.is_number(number)
            )
            typer.echo(f"{station} {function}H {codes.FUNCTIONS[int(function, 16)][1]} {at}: {words}")
        shown = len(centre.arrivals)
        for error in centre.bad_frames:
            typer.echo(f"no report: {error}")
        centre.bad_frames.clear()


async def _serve_orders(port: int, trouble: bool, seed: int) -> None:
    from gateway.log import setup
    from hil_tests.order_page import OrderServer
    from hil_tests.world.order_desk import FAULTS, DeskOrder, OrderDesk

    desk, rng = OrderDesk(), random.Random(seed)
    if trouble:
        desk.fail = lambda _: rng.choice(FAULTS) if rng.random() < 0.3 else ""

    def told(order: DeskOrder) -> None:
        words = ("pending", "in progress", "done")[order.fields["state"]]
        typer.echo(f"{order.code} {words}: {order.fields['workordercontent']} ({order.fields['area']})")

    desk.on_change = told
    server = OrderServer(desk, setup("warning", "auto"), port)
    task = asyncio.create_task(server.run())
    waiting = asyncio.create_task(server.ready.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        url = f"http://127.0.0.1:{server.port}"
        typer.echo(f"A hotline desk; its page is {url}/ . A gateway sends it orders with:\n")
        typer.echo(f'[[work_orders]]\nname = "hotline"\nurl = "{url}/orders"\nanswer_url = "{url}/answers"')
        typer.echo(f'status_url = "{url}/orders/{{code}}"\n')
    await task


async def _serve_hj212(port: int, mute: bool, sm4_key: Path | None) -> None:
    from gateway.northbounds import read_sm4_key
    from hil_tests.world.hj_platform import HjPlatform
    from protocols.northbound.hj212 import COMMANDS
    from protocols.northbound.hj212_sm4 import Sealer

    platform = HjPlatform()
    if sm4_key is not None:
        platform.sealer = Sealer(read_sm4_key(str(sm4_key), "street hj212", "--sm4-key"))
    platform.faults.mute = mute
    port = await platform.serve(port)
    typer.echo(f"An environmental platform on port {port}. A gateway reports to it with:\n")
    typer.echo(f'[[hj212]]\nname = "platform"\nhost = "127.0.0.1"\nport = {port}')
    typer.echo('password_file = "hj.password"      # of mode 0600, with any six digits')
    if sm4_key is not None:
        typer.echo(f'encryption = "sm4"\nsm4_key_file = "{sm4_key}"')
    typer.echo('stations = { "bridge-1" = "010000A8900016F000169DC0" }\n')
    shown = 0
    while True:
        await platform.arrived.wait()
        platform.arrived.clear()
        for one in platform.arrivals[shown:]:
            mn, cn, at = one.key
            words = " ".join(f"{key}={value}" for key, value in one.items.items())
            typer.echo(f"{mn} {cn} {COMMANDS[cn][0]} {at}{' RF=1' if one.resent else ''}: {words}")
        shown = len(platform.arrivals)
        for error in platform.bad_frames:
            typer.echo(f"no frame: {error}")
        platform.bad_frames.clear()


async def _serve_modbus(link: Path, port: int, baud: int, trouble: bool, seed: int) -> None:
    rng = random.Random(seed)
    slaves = [modbus_models.slave("geolux_lx80", 3, rng), modbus_models.slave("eastron_sdm120", 7, rng)]
    if trouble:
        for one in slaves:
            modbus_models.spoil(one, rng)
    line, network = PtyStreet(link, slaves, baud, bits=10, is_strict=True), TcpStreet(slaves)
    line.plug()
    await network.open(port)
    typer.echo("A level meter (unit 3) and an energy meter (unit 7). In another terminal:")
    typer.echo(f"  tidegate bus scan serial:{link} --units 1-10 --bauds {baud}")
    typer.echo(f"  tidegate bus watch tcp:127.0.0.1:{network.port} --unit 7 --function input")
    try:
        while True:
            await asyncio.sleep(1.0)
            for one in slaves:
                modbus_models.drift(one, rng)
    finally:
        line.unplug()
        await network.close()


async def _serve(port: int, sensors: int, peripherals: int, trouble: bool, seed: int) -> None:
    air = street.Air(random.Random(seed))
    beacons = [_sensor(air, number) for number in range(sensors)]
    for beacon in beacons:
        beacon.start()
    stations = []
    for number in range(peripherals):
        station = street.Peripheral(air, f"D0:00:00:00:00:{number:02X}", f"weather {number}")
        await station.start()
        stations.append(station)
    server = await street.offer(air, port)
    port = server.sockets[0].getsockname()[1]
    typer.echo(f"{sensors} sensors, {peripherals} peripherals. In another terminal:")
    typer.echo(f"  tidegate ble scan --transport tcp-client:127.0.0.1:{port}")
    async with server:
        while True:
            await asyncio.sleep(air.rng.uniform(2.0, 10.0))
            if trouble:
                _trouble(air, beacons, stations)


def _sensor(air: street.Air, number: int) -> street.Beacon:
    """Every third encrypts, with SAMPLE_KEY; the fifth of each five takes another address now and then."""
    address = f"C0:00:00:00:00:{number:02X}"

    def payload(count: int) -> bytes:
        step = count // 10  # a new measurement every ten seconds
        objects = street.measurements(step, 1800 + 20 * number + step % 50, 4500 + 10 * (step % 100))
        if number % 3 == 2:
            return street.bthome_encrypted(objects, SAMPLE_KEY, address, step)
        return street.bthome(objects)

    return street.Beacon(air, address, payload, rssi_dbm=air.rng.randrange(-95, -40))


def _trouble(air: street.Air, beacons: list[street.Beacon], stations: list[street.Peripheral]) -> None:
    if stations:
        station = air.rng.choice(stations)
        air.rng.choice((station.disconnect, station.vanish))()
    if beacons[4::5]:
        air.rng.choice(beacons[4::5]).rotate()
