"""`tidegate demo`: nodes on the air and on serial lines, meters, a thermometer, the real gateway and a broker, live.

Everything but what the sensors feel is real: MicroPython, littlefs, sealed frames, the daemon, SQLite and, where
Mosquitto is installed or a URL is given, MQTT. At the end the books are closed as an auditor would: what the nodes'
flash says was kept, what the gateway stored, what the city received.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.live import Live

from hil_tests.broker import Mosquitto, mosquitto_path
from hil_tests.consumer import Consumer
from hil_tests.demo_devices import DeviceStreet
from hil_tests.demo_table import Board, render, told_orders
from hil_tests.errors import HilError, StoryFailed
from hil_tests.hotline import Hotline
from hil_tests.places import CoverPlace, LiftPlace, Place, RiverPlace, Water
from hil_tests.stage import Stage, Story
from hil_tests.stories import STORIES
from hil_tests.street import Street, app_image
from hil_tests.system import Books
from hil_tests.world.propagation import Spot
from hil_tests.world.records import Record
from protocols.wire.codes import SETTING_NAMES

app = typer.Typer(add_completion=False)

# The sonde wipes its windows and warms up for two seconds before each set.
INTERVAL_S = 3
# A cover sleeps between its sets, and is seen asleep; a lift rides for that long.
COVER_INTERVAL_S = 15
LIFT_INTERVAL_S = 10
# On the air every frame takes its turn; no multiple of the cover's, or they speak at the same moment again and again.
AIR_INTERVAL_S = 7
# The middle of the street, and the pit under the cover: metres from the gateway's roof.
RIVER_SPOT, COVER_SPOT = Spot(2400, 300), Spot(260, 140, is_under_iron=True)
INTERVAL_KEY, REPORT_KEY, SF_KEY = (
    SETTING_NAMES.index(name) for name in ("interval_s", "report_s", "radio_sf")
)
# Once so often somebody levers the cover out of its frame, and thinks better of it.
THEFTS_EVERY_S = 240
# A real record is played back so that a set of the demo is one of its 15-minute rows.
RECORD_SPEED = 900 / INTERVAL_S
# A cover sleeps, and on the air it is told of the end when it next speaks.
SETTLE_TIMEOUT_S = 60.0
REFRESH_PER_S = 4
END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@app.command()
def demo(
    seconds: Annotated[
        float | None,
        typer.Option(
            envvar="DEMO_SECONDS",
            min=5,
            help="End by itself after this long, with an audit. Default: Ctrl-C.",
        ),
    ] = None,
    world: Annotated[
        Path | None,
        typer.Option(
            help="Play a real 15-minute river record (CSV or CSV.gz) instead of the built-in river."
        ),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(help=f"Play one story to its end instead: {', '.join(STORIES)}."),
    ] = None,
    mqtt: Annotated[
        str | None,
        typer.Option(help="Publish to this broker, e.g. mqtt://127.0.0.1:1883, instead of a private one."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the water, the traffic, the car and all noise.")] = 1,
    keep: Annotated[
        Path | None, typer.Option(help="Keep databases, flash images and logs in this new folder.")
    ] = None,
) -> None:
    """Run virtual nodes, meters and a thermometer, a gateway and a broker, and watch; or play one story."""
    console = Console()
    story = None if scenario is None else _story(scenario)
    if story is not None and world is not None:
        raise HilError("--world: a story brings its own world. Leave --world out, or --scenario.")
    problem = ""
    with ExitStack() as stack:
        _end_on_signals(stack)
        folder = _folder(keep, stack)
        # An area of its own: on a broker that others use, only this run's records are counted.
        area = f"demo-{os.getpid()}"
        broker = _Broker.choose(mqtt, area, folder, stack)
        hotline = stack.enter_context(Hotline(area))
        places = _places(world, seed) if story is None else story.places(seed)
        image = app_image
        if story is not None and story.image is not None:
            image = functools.cache(functools.partial(story.image, folder))
        with console.status("building the firmware images"):
            for place in places:
                image(place.node_type)
        with console.status("minting and starting the nodes and the gateway"):
            devices = DeviceStreet(seed) if story is None else None
            if devices is not None:
                stack.callback(devices.close)
            street = Street(
                folder,
                places,
                interval_s=INTERVAL_S,
                seed=seed,
                mqtt=broker.address,
                area=area,
                devices=devices,
                more_tables=hotline.tables(),
                image=image,
            )
            stack.callback(street.close)
            stack.callback(_ignore_signals)  # runs first at the end: nothing interrupts the clearing away
            street.start()
        if story is None:
            console.print(f"four nodes on real MicroPython, three devices; {broker.says}")
            _watch(console, street, broker, hotline, seconds)
        else:
            count = f"{len(places)} nodes" if len(places) > 1 else "One node"
            console.print(f"{story.title}. {count} on real MicroPython; {broker.says}", highlight=False)
            stage = Stage(street, broker.city, console, hotline)
            stage.explain()
            problem = _play(story, stage)
        with console.status("closing the books: sampling stops, what is still on its way is delivered"):
            books = _close_books(street, broker)
    if broker.city is None:
        short = len(books.kept) - books.stored
        console.print(f"produced={len(books.kept)} stored={books.stored} lost={short}", highlight=False)
        console.print(
            "No broker, so nothing is delivered: all that was produced must be in the gateway's store."
        )
    else:
        console.print(books.line(), highlight=False)
    if story is not None:
        console.print(problem or story.end, highlight=False)
    if problem or not _balances(books, broker):
        raise typer.Exit(1)


def _story(name: str) -> Story:
    if name not in STORIES:
        near = get_close_matches(name, STORIES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise HilError(f"--scenario {name}: there is no such story. There are {', '.join(STORIES)}.{hint}")
    return STORIES[name]


def _play(story: Story, stage: Stage) -> str:
    """Why the story did not come to its end, "" when it did."""
    try:
        story.act(stage)
    except KeyboardInterrupt:
        return "Stopped before the end of the story."
    except StoryFailed as error:
        return f"The story did not come to its end: {error}."
    return ""


def _end_on_signals(stack: ExitStack) -> None:
    """A closed terminal or a plain `kill` ends everything that runs, as Ctrl-C does."""
    for number in END_SIGNALS:
        stack.callback(signal.signal, number, signal.getsignal(number))
        if number != signal.SIGINT:
            signal.signal(number, lambda got, _: sys.exit(128 + got))


def _ignore_signals() -> None:
    for number in END_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _folder(keep: Path | None, stack: ExitStack) -> Path:
    if keep is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-demo-")))
    if keep.exists():
        raise HilError(f"--keep {keep}: exists already, and nothing is overwritten. Name a new folder.")
    try:
        keep.mkdir(parents=True)
    except OSError as error:
        raise HilError(f"--keep {keep}: the folder can not be made: {error.strerror}.") from error
    return keep.absolute()


def _places(world: Path | None, seed: int) -> list[Place]:
    cover, lift = CoverPlace("lid-1", seed, spot=COVER_SPOT), LiftPlace("lift-1", seed)
    cover.thefts_every_s = THEFTS_EVERY_S
    cover.settings = {INTERVAL_KEY: COVER_INTERVAL_S, REPORT_KEY: 1, SF_KEY: 7}
    lift.settings = {INTERVAL_KEY: LIFT_INTERVAL_S, REPORT_KEY: 1}
    far_river = RiverPlace("bridge-2", seed + 1, _water(world), spot=RIVER_SPOT)
    far_river.settings = {INTERVAL_KEY: AIR_INTERVAL_S, REPORT_KEY: AIR_INTERVAL_S, SF_KEY: 8}
    return [RiverPlace("bridge-1", seed, _water(world)), far_river, cover, lift]


def _water(world: Path | None) -> Water | None:
    if world is None:
        return None
    if not world.is_file():
        raise HilError(f"--world {world}: is not a file. It takes a CSV or CSV.gz with a datetime column.")
    return Record(world, speed=RECORD_SPEED, start_s=time.time()).quantities


def broker_address(url: str) -> tuple[str, int]:
    """Host and port of ``--mqtt``. What is refused is not repeated: it may hold a password."""
    try:
        parts = urlsplit(url if "//" in url else f"mqtt://{url}")
        host, port, user = parts.hostname, parts.port, parts.username
    except ValueError as error:
        raise HilError(f"--mqtt: {error}. {_MQTT_ALLOWED}") from error
    if parts.scheme not in ("mqtt", "tcp") or not host or port == 0 or parts.path.strip("/"):
        raise HilError(f"--mqtt: not the address of a broker. {_MQTT_ALLOWED}")
    if user is not None:
        raise HilError(
            "--mqtt: the demo cannot log in; take a broker that needs no password. (A gateway of your own can: "
            "username and password_file under [[mqtt]].)"
        )
    return host, port or 1883


_MQTT_ALLOWED = "Allowed is mqtt://HOST[:PORT], for example mqtt://127.0.0.1:1883."


class _Broker:
    """Where the demo publishes to, and who listens there for the city."""

    def __init__(self, address: tuple[str, int] | None, city: Consumer | None, says: str) -> None:
        self.address = address
        self.city = city
        self.says = says

    @classmethod
    def choose(cls, url: str | None, area: str, folder: Path, stack: ExitStack) -> _Broker:
        if url is not None:
            host, port = broker_address(url)
            says = f"publishing to {host}:{port}"
        elif mosquitto_path() is None:
            return cls(None, None, "no Mosquitto here: the gateway keeps everything in its own database")
        else:
            mosquitto = Mosquitto(folder / "broker")
            stack.callback(mosquitto.stop)
            mosquitto.start()
            host, port = "127.0.0.1", mosquitto.port
            says = f"Mosquitto on port {port} stands in for the city"
        try:
            client_id = f"tidegate-demo-{port}-{time.monotonic_ns()}"
            topic = f"tidegate/{area}/#"
            city = Consumer(port, topic, host=host, client_id=client_id, persistent=url is None)
        except OSError as error:
            raise HilError(
                f"no broker answers at {host}:{port} ({error}). Start it, or leave --mqtt out."
            ) from error
        stack.callback(city.close)
        return cls((host, port), city, says)


def _watch(
    console: Console, street: Street, broker: _Broker, hotline: Hotline, seconds: float | None
) -> None:
    board = Board(street)
    end = None if seconds is None else time.monotonic() + seconds
    try:
        with Live(console=console, refresh_per_second=REFRESH_PER_S, auto_refresh=False) as live:
            while end is None or time.monotonic() < end:
                for place in street.places.values():
                    place.live()
                orders = told_orders(hotline, street.places.values())
                live.update(render(board.look(), broker.city, end, orders), refresh=True)
                time.sleep(1 / REFRESH_PER_S)
    except KeyboardInterrupt:
        console.print("stopping")
    if not console.is_terminal:
        console.print()  # where nothing moves, Live leaves the line open


def _close_books(street: Street, broker: _Broker) -> Books:
    street.quiet()
    street.leave_devices()
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while time.monotonic() < deadline:
        time.sleep(2 * INTERVAL_S)
        for place in street.places.values():
            place.live()
        arrived = street.stored() if broker.city is None else broker.city.judge.records.keys()
        if street.is_quiet and street.owed() <= arrived:
            break
    return street.books(broker.city.judge if broker.city is not None else None)


def _balances(books: Books, broker: _Broker) -> bool:
    if broker.city is None:
        return books.stored == len(books.kept)
    return not (books.missing or books.invented or books.problems) and books.stored == len(books.kept)
