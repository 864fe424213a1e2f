"""`tidegate air`: an air for virtual nodes of other processes, and a packet forwarder on a roof in it."""

from __future__ import annotations

import queue
import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from flash_tools.radio_plan import radio_of
from hil_tests.errors import HilError, RigError
from hil_tests.sky import Sky
from hil_tests.world.air import Flight, air_s
from hil_tests.world.air_socket import AirServer

app = typer.Typer(add_completion=False)

_LOOK_S = 0.2
# A forwarder asks its server every two seconds: after two that were not answered it does not answer.
_SILENT_S = 5.0


@app.command()
def air(
    folder: Annotated[Path, typer.Argument(help="Where nodes find it. Made when missing.")],
    server: Annotated[
        str, typer.Option(help="HOST:PORT where the gateway listens for packet forwarders.")
    ] = "127.0.0.1:1700",
    plan: Annotated[str, typer.Option(help="As minted: cn470 or eu868.")] = "cn470",
    channel: Annotated[int, typer.Option(help="As minted: the first that is used.")] = 0,
    channels: Annotated[int | None, typer.Option(help="As minted: how many; default 8.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
) -> None:
    """Be an air with a gateway's concentrator in it, and show every packet. Ctrl-C ends it."""
    radio = radio_of(plan, channel, channels)
    assert radio is not None  # there is a plan
    address = server_address(server)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sky = Sky(seed, radio, address)
        seats = sky.serve(folder)
    except OSError as error:
        raise RigError(f"{folder} or --server {server} can not be used: {error.strerror}.") from error
    try:
        news: queue.SimpleQueue[str] = queue.SimpleQueue()
        _follow(sky, seats, news)
        typer.echo(f"An air in {folder}. The gateway's configuration has to have:\n")
        typer.echo("\n".join(sky.tables()))
        typer.echo("A node that was minted for it (tidegate node mint --plan) joins in another terminal:")
        typer.echo(f"  tidegate virtual station --state minted/0001/state.img --air {folder}\n")
        sky.start()
        _tell(sky, news)
    finally:
        seats.close()
        sky.close()


def server_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise HilError(f"--server {text}: allowed is HOST:PORT, for example 127.0.0.1:1700.")
    return host, int(port)


def _follow(sky: Sky, seats: AirServer, news: queue.SimpleQueue[str]) -> None:
    """What happens is told by another thread: a terminal that is slow must not hold the air up."""

    def said(flight: Flight) -> None:
        one = flight.signal
        news.put(
            f"{flight.site.name}: {one.freq_hz / 1e6:.1f} MHz SF{one.sf}, {len(one.payload)} bytes, "
            f"{1000 * air_s(one):.0f} ms"
        )

    seats.on_change = lambda name, came: news.put(f"{name} {'joined' if came else 'left'} the air")
    sky.call(lambda: sky.air.taps.append(said))


def _tell(sky: Sky, news: queue.SimpleQueue[str]) -> None:
    off = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: off.set())
    answers, heard_s, did_answer = 0, time.monotonic(), True
    while not off.wait(_LOOK_S):
        count = sky.forwarder.counts["pull acks"]
        if count != answers:
            answers, heard_s = count, time.monotonic()
        does_answer = time.monotonic() - heard_s < _SILENT_S
        if does_answer != did_answer:
            did_answer = does_answer
            does = "answers" if did_answer else "does not answer: does it run, with these tables?"
            news.put(f"the gateway at {sky.server[0]}:{sky.server[1]} {does}")
        while not news.empty():
            typer.echo(f"{time.strftime('%H:%M:%S')}  {news.get()}")
