"""`tidegate node identify|console|read|get|set|status`: a node that runs, by cable or through the gateway."""

from __future__ import annotations

import contextlib
import getpass
import json
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from flash_tools.bench import KNOCK_EVERY_S, Bench
from flash_tools.bench_numbers import Numbers
from flash_tools.control import Control
from flash_tools.errors import AcceptanceError, BenchError
from flash_tools.mint import parse_address
from flash_tools.ways import ByCable, Settings, ThroughGateway, Way, now
from protocols.inspection.brief import brief
from protocols.inspection.show import lines_of
from protocols.inspection.words import printable
from protocols.node_types import settings_of, settings_problem
from protocols.northbound.told import Told

app = typer.Typer()
# A gateway keeps the latest 200 entries of a line; a busy one has some ten a second.
_CONSOLE_EVERY_S = 0.5
_TEXT = {"text": " ", "up": "▲", "down": "▼"}
# Of somebody who only watches, and has keys: how often the node is asked for its epoch.
_ASK_EVERY_S = 10.0

NodeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[NODE]", help="Address as on the label, e.g. 0012; at a cable it may be left out."
    ),
]
PortOption = Annotated[
    str | None, typer.Option("--port", "-p", help="The serial port with the node, as /dev/ttyUSB0.")
]
GatewayOption = Annotated[
    bool, typer.Option("--gateway", "-g", help="Through the gateway on this machine, which hears the node.")
]
ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="TIDEGATE_CONFIG", help="Of the gateway that runs here.")
]
KeysOption = Annotated[
    Path | None,
    typer.Option(
        "--keys", help="nodes.jsonl or a bench folder; default: provisioning/ and minted/nodes.jsonl."
    ),
]
WhyOption = Annotated[str, typer.Option("--why", help="Kept in the gateway's audit log (--gateway).")]
TakeOption = Annotated[
    bool,
    typer.Option("--take-port", help="If the gateway has the port, borrow it for as long as this takes."),
]
WaitOption = Annotated[
    int, typer.Option("--wait", min=2, max=3600, help="Seconds that the node may take for an answer.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
CONFIG = Path("gateway.toml")
WAIT_S = 60
WHY = "looked at from the bench"


@app.command("identify")
def identify(
    node: NodeArgument = None,
    port: PortOption = None,
    gateway: GatewayOption = False,
    seconds: Annotated[int, typer.Option("--for", min=1, max=3600, help="Seconds that its LED is on.")] = 10,
    keys: KeysOption = None,
    config: ConfigOption = CONFIG,
    why: WhyOption = WHY,
    wait_s: WaitOption = WAIT_S,
    take_port: TakeOption = False,
) -> None:
    """Which one is it? Switch on its LED; it also says so on its console."""
    with _way(node, port, gateway, keys, config, why, wait_s, take_port) as way:
        way.identify(seconds)
        typer.echo(f"node {way.name} ({way.node_type}): its LED is on for {seconds} s.")


@app.command("read")
def read(
    node: NodeArgument = None,
    port: PortOption = None,
    gateway: GatewayOption = False,
    keys: KeysOption = None,
    config: ConfigOption = CONFIG,
    why: WhyOption = WHY,
    wait_s: WaitOption = WAIT_S,
    take_port: TakeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure now, and show every reading with its unit and flag. The set is kept like any other."""
    with _way(node, port, gateway, keys, config, why, wait_s, take_port) as way:
        with Console(stderr=True).status(f"node {way.name} measures …"):
            taken = way.read()
        if as_json:
            rows = [
                {"measurand": name, "value": text, "flag": flag or "good"}
                for name, text, flag in taken.readings
            ]
            typer.echo(
                json.dumps(
                    {"node": way.name, "seq": taken.seq, "time": taken.when, "readings": rows}, indent=1
                )
            )
            return
        typer.echo(f"node {way.name} ({way.node_type}), set {taken.seq} of {taken.when}:")
        width = max(len(name) for name, _, _ in taken.readings)
        value_width = max(len(text) for _, text, _ in taken.readings)
        for name, text, flag in taken.readings:
            typer.echo(printable(f"  {name:{width}}  {text:{value_width}}  {flag}".rstrip()))


@app.command("get")
def get(
    node: NodeArgument = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", "-n", help="Only this setting. May be repeated.")
    ] = None,
    port: PortOption = None,
    gateway: GatewayOption = False,
    keys: KeysOption = None,
    config: ConfigOption = CONFIG,
    why: WhyOption = WHY,
    wait_s: WaitOption = WAIT_S,
    take_port: TakeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the settings in force, as the node tells them."""
    with _way(node, port, gateway, keys, config, why, wait_s, take_port) as way:
        _check_names(way, name or [])
        found = way.settings()
        values = {key: value for key, value in found.values.items() if not name or key in name}
        if as_json:
            typer.echo(json.dumps({"node": way.name, "version": found.version, "settings": values}, indent=1))
            return
        typer.echo(f"node {way.name} ({way.node_type}), settings version {found.version}{_of_whom(found)}:")
        _show_settings(values)


@app.command("set")
def set_(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[NODE] NAME=NUMBER…", help="As interval_s=60; the node's address first."),
    ],
    port: PortOption = None,
    gateway: GatewayOption = False,
    keys: KeysOption = None,
    config: ConfigOption = CONFIG,
    why: WhyOption = WHY,
    wait_s: WaitOption = WAIT_S,
    take_port: TakeOption = False,
) -> None:
    """Change settings, and read back what the node has then. Refused before it is sent if its type has no such one."""
    node, pairs = (words[0], words[1:]) if "=" not in words[0] else (None, words)
    if not pairs:
        raise BenchError("no setting is named: write NAME=NUMBER, as interval_s=60")
    with _way(node, port, gateway, keys, config, why, wait_s, take_port) as way:
        wanted = _changes(way, pairs)
        before, found = way.set(wanted)
        missing = {name: value for name, value in wanted.items() if found.values.get(name) != value}
        _show_settings({name: found.values[name] for name in wanted if name in found.values})
        if missing:
            raise BenchError(
                f"node {way.name} refused them and keeps what it had. Its console says why: tidegate node console"
            )
        for name, value in found.values.items():
            if name not in wanted and before.values.get(name, value) != value:
                # A gateway wants a whole document: what it does not name is the node type's own again.
                typer.echo(
                    f"note: {name} is {value} now, and was {before.values[name]}: nobody wanted it at the gateway"
                )
        typer.echo(f"node {way.name} has them: settings version {found.version}{_of_whom(found)}.")


@app.command("status")
def status(
    node: NodeArgument = None,
    port: PortOption = None,
    gateway: GatewayOption = False,
    keys: KeysOption = None,
    config: ConfigOption = CONFIG,
    why: WhyOption = WHY,
    wait_s: WaitOption = WAIT_S,
    take_port: TakeOption = False,
    as_json: JsonOption = False,
) -> None:
    """How it is: boots and reset cause, heap, outbox, versions, battery, the last traceback."""
    with _way(node, port, gateway, keys, config, why, wait_s, take_port) as way:
        lines = way.status()
        if as_json:
            typer.echo(json.dumps({line.field: line.value for line in lines}, indent=1))
            return
        for line in lines_of(Told("status", lines, [], [])):
            typer.echo(line)


@app.command("console")
def console(
    node: NodeArgument = None,
    port: PortOption = None,
    gateway: GatewayOption = False,
    line: Annotated[
        str | None, typer.Option("--line", help="With --gateway: this serial port of it, by name.")
    ] = None,
    keys: KeysOption = None,
    config: ConfigOption = CONFIG,
    seconds: Annotated[float | None, typer.Option("--for", help="Seconds; else until Ctrl-C.")] = None,
    take_port: TakeOption = False,
) -> None:
    """Watch its line live: what it prints, and beside it what the frames say. Ctrl-C ends.

    ▲ is from the node, ▼ to it. By cable it only listens, unless there are keys: then it asks once which epoch it is.
    """
    end_s = None if seconds is None else time.monotonic() + seconds
    with contextlib.suppress(KeyboardInterrupt):
        if gateway:
            _follow_gateway(_through_gateway(node, config, WHY, WAIT_S), line, end_s)
        else:
            with line_to(need_port(port), config, take_port) as cable:
                _follow_cable(cable, None if node is None else parse_address(node), keys, end_s)


# --- the two ways -------------------------------------------------------------------------------


@contextlib.contextmanager
def _way(
    node: str | None, port: str | None, gateway: bool, keys: Path | None, config: Path, why: str, wait_s: int,
    take_port: bool,
) -> Iterator[Way]:  # fmt: skip
    if gateway and port is not None:
        raise BenchError("--port and --gateway are two ways: choose one")
    try:
        if gateway:
            yield _through_gateway(node, config, why, wait_s)
            return
        with line_to(need_port(port), config, take_port) as cable:
            bench = bench_on(cable, keys)
            address = None if node is None else parse_address(node)
            with Console(stderr=True).status("knocking at the node …"):
                bench.find(address, max(wait_s, 2))
            yield ByCable(bench, wait_s)
    except KeyboardInterrupt as stopped:
        raise BenchError("stopped. What the node had begun it ends; what it measured it keeps") from stopped


def need_port(port: str | None) -> str:
    if port is None:
        raise BenchError(
            "say how: --port NAME for a cable (`tidegate flash doctor` lists the ports), or NODE --gateway through the "
            "gateway on this machine"
        )
    return port


def _through_gateway(node: str | None, config: Path, why: str, wait_s: int) -> ThroughGateway:
    if node is None:
        raise BenchError("say which node, as 0012: `tidegate gateway node list` shows all")
    try:
        return ThroughGateway(
            Control(config).ask, f"{parse_address(node):04x}", f"{why} ({getpass.getuser()})", wait_s
        )
    except AcceptanceError as error:
        raise BenchError(str(error)) from error


class SerialLine:
    """A port of this machine as a bench's line."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def read(self, seconds: float) -> bytes:
        try:
            self._port.timeout = seconds
            first: bytes = self._port.read(1)
            return first + self._port.read(self._port.in_waiting or 0) if first else b""
        except OSError as error:  # SerialException is one
            raise BenchError(f"the port went away: {error}. Plug it in, and run this again") from error

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except OSError as error:
            raise BenchError(f"the port went away: {error}. Plug it in, and run this again") from error


@contextlib.contextmanager
def line_to(port: str, config: Path, take_port: bool) -> Iterator[SerialLine]:
    from flash_tools.port_loan import borrowed
    from flash_tools.ports import open_port

    names = [port] if take_port else []
    with borrowed(names, config, lambda text: typer.echo(text, err=True)):
        opened = open_port(port)
        try:
            yield SerialLine(opened)
        finally:
            with contextlib.suppress(OSError):
                opened.close()


def bench_on(cable: SerialLine, keys: Path | None) -> Bench:
    from flash_tools import node_keys

    found = node_keys.find(keys)
    return Bench(
        cable,
        found.secrets,
        lambda address: Numbers(found.numbers_file(address), address, time.time),
        time.monotonic,
        secrets.token_bytes,
    )


# --- settings -----------------------------------------------------------------------------------


def _check_names(way: Way, names: Iterable[str]) -> None:
    known = settings_of(way.node_type, way.on_air)
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise BenchError(
                f"{name!r:.40} is no setting of a {way.node_type} node; it has {', '.join(known)}.{hint}"
            )


def _changes(way: Way, pairs: list[str]) -> dict[str, int]:
    wanted: dict[str, int] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if not re.fullmatch(r"-?[0-9]{1,9}", value):
            raise BenchError(
                f"{pair!r:.60} is not allowed. Allowed is NAME=NUMBER, a whole one, as interval_s=60"
            )
        if name in wanted:
            raise BenchError(f"{name} is given twice. Name each setting once")
        wanted[name] = int(value)
    problem = settings_problem(way.node_type, wanted, way.on_air)
    if problem:
        raise BenchError(problem)
    return wanted


def _show_settings(values: dict[str, int]) -> None:
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        typer.echo(f"  {name:{width}}  {value}")


def _of_whom(found: Settings) -> str:
    return " (set at a bench or when minted, not by a gateway)" if found.version == 0 else ""


# --- console ------------------------------------------------------------------------------------


def _follow_cable(cable: SerialLine, address: int | None, keys: Path | None, end_s: float | None) -> None:
    bench = _watching(cable, keys)
    bench.may_join = False
    bench.told = lambda text: _say("text", text)
    bench.heard = lambda message, piv: _say("up", brief(message))
    bench.closed = lambda frame: _say("up", f"frame of {len(frame)} bytes, not opened")
    closed, closed_s, asked_s = 0, time.monotonic(), float("-inf")
    while end_s is None or time.monotonic() < end_s:
        bench.watch()
        now_s = time.monotonic()
        if bench.frames_closed > closed:
            closed, closed_s = bench.frames_closed, now_s
        # A node answers no knock within a second of what it sent.
        if bench.can_knock and now_s - closed_s >= KNOCK_EVERY_S and now_s - asked_s >= _ASK_EVERY_S:
            asked_s = now_s
            bench.knock(address)


def _watching(cable: SerialLine, keys: Path | None) -> Bench:
    """With keys where there are some; to look at a console none are needed."""
    if keys is not None:
        return bench_on(cable, keys)
    try:
        return bench_on(cable, None)
    except BenchError:
        return Bench(
            cable,
            {},
            lambda address: Numbers(Path(), address, time.time),
            time.monotonic,
            secrets.token_bytes,
        )


def _follow_gateway(way: ThroughGateway, line: str | None, end_s: float | None) -> None:
    after = 0
    while True:
        found = way.console(after, line)
        if found["last"] < after:
            _note("the gateway was started anew")
            found = way.console(0, line)
        if found["missed"]:
            _note(f"{found['missed']} lines came faster than they could be shown")
        for entry in found["entries"]:
            _say(entry["kind"], entry["text"], entry["age_s"])
        after = found["last"]
        if end_s is not None and time.monotonic() >= end_s:
            return
        time.sleep(_CONSOLE_EVERY_S)


def _say(kind: str, text: str, age_s: float = 0.0) -> None:
    typer.echo(printable(f"{now(age_s)} {_TEXT[kind]} {text}"))


def _note(text: str) -> None:
    typer.echo(f"--- {text}", err=True)
