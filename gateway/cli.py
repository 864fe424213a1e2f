"""`tidegate gateway …`: what an integrator types. Only what a command needs is imported when it runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.errors import CommandError, ControlError, GatewayError

if TYPE_CHECKING:
    from gateway.config import Config

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
node_app = typer.Typer(no_args_is_help=True, help="Nodes and their keys.")
site_app = typer.Typer(no_args_is_help=True, help="Sites, and which node serves which.")
command_app = typer.Typer(no_args_is_help=True, help="Commands to nodes.")
settings_app = typer.Typer(no_args_is_help=True, help="Settings that nodes shall have.")
app.add_typer(node_app, name="node")
app.add_typer(site_app, name="site")
app.add_typer(command_app, name="command")
app.add_typer(settings_app, name="settings")

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="TIDEGATE_CONFIG", help="The gateway's configuration.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
WhyOption = Annotated[
    str, typer.Option("--why", help="Why: kept in the audit log. Commands and settings need one.")
]
NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Address as on the label, e.g. 0012.")]
DEFAULT_CONFIG = Path("gateway.toml")
POLL_S = 0.2


@app.command()
def run(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    from gateway import config as configs
    from gateway import daemon, log

    settings = configs.load(config)
    daemon.run(settings, log.setup(settings.log.level, settings.log.format))


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check the configuration, the master key and the ports, and change nothing."""
    settings = _load(config)
    from gateway import bind_key, bluetooth, daemon, northbounds

    daemon.load_vault(settings)
    for section in settings.serial:
        there = "there" if Path(section.path).exists() else "not there now; it is waited for"
        typer.echo(f"serial {section.name}: {section.path} is {there}.")
    for adapter in settings.ble:
        if adapter.enabled:
            bluetooth.backend_of(adapter, [])
        count = sum(device.ble == adapter.name for device in settings.device)
        state = "" if adapter.enabled else " (left alone)"
        typer.echo(f"ble {adapter.name}: {adapter.backend} {adapter.adapter}{state}, {count} devices.")
    for line in _bus_loads(settings):
        typer.echo(line)
    for broker in settings.mqtt:
        northbounds.check(broker)
        state = "" if broker.enabled else " (paused)"
        typer.echo(f"mqtt {broker.name}: {broker.host}:{broker.port}{state}, topic {broker.topic}")
    for device in settings.device:
        if device.key_file is not None:
            bind_key.load(device.key_file)
        state = "" if device.enabled else " (left alone)"
        at = device.address if device.unit is None else f"unit {device.unit}"
        typer.echo(
            f"device {device.name}: {device.profile} behind {device.modbus or device.ble}, {at}{state}."
        )
    typer.echo(f"{config}: in order. Data in {settings.gateway.data_dir}.")


def _bus_loads(settings: Config) -> list[str]:
    """How full each bus is; what no bus can carry was refused already."""
    if not settings.modbus:
        return []
    from gateway.pollers import modbus_load, modbus_profile

    told = []
    for bus in settings.modbus:
        polled = modbus_profile.on_bus(bus, settings.device, settings.profiles)
        load = modbus_load.bus_load(modbus_profile.line_of(bus), polled)
        high = "; little room for writes and repeats" if load > modbus_load.LOAD_HIGH else ""
        told.append(f"modbus {bus.name}: {len(polled)} devices, {100 * load:.1f} % of its time{high}.")
    return told


@app.command()
def init(
    config: Annotated[Path, typer.Argument(help="Where to write the commented sample.")] = DEFAULT_CONFIG,
) -> None:
    """Write a commented sample configuration and, beside it, a new master key."""
    from gateway import keys
    from gateway.sample import sample

    key_file = config.absolute().parent / "master.key"
    if config.exists():
        raise GatewayError(f"{config}: is there already; a configuration is never overwritten.")
    if not key_file.exists():
        keys.write_file(key_file)
        typer.echo(f"{key_file}: a new master key. Keep a copy apart from the database's backups.")
    config.write_text(sample(key_file.name), encoding="utf-8")
    typer.echo(f"{config}: edit it, then `tidegate gateway check --config {config}`.")


@app.command()
def status(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show what the running gateway knows: nodes, links, deliveries, backlogs."""
    reply = _ask_running(_load(config), {"operation": "status"})
    if as_json:
        typer.echo(json.dumps(reply, indent=1))
        return
    from gateway.status import show

    show(reply)


@app.command()
def devices(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show the devices behind buses and adapters: state, last values, age."""
    rows = _ask_running(_load(config), {"operation": "device.list"})["devices"]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    from gateway.device_status import show_devices

    show_devices(rows)


@app.command()
def profiles(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List the device profiles there are: ours, and those in your folder."""
    from gateway.device_status import show_profiles

    folder = _load(config).devices.profiles if config.exists() else None
    show_profiles(None if folder is None else Path(folder))


@app.command("device-reset")
def device_reset(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Its name in the configuration.")],
    why: WhyOption,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Let an encrypted BTHome device count anew, after its battery was changed."""
    done = _ask_running(_load(config), {"operation": "device.reset", "device": device, "why": why})
    typer.echo(f"device {device}: its counter was {done['counter']}; the next advert is believed.")


@app.command("device-write")
def device_write(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Its name in the configuration.")],
    point: Annotated[str, typer.Argument(metavar="POINT", help="One that its profile lets be written.")],
    value: Annotated[float, typer.Argument(metavar="VALUE", help="In the unit of the point.")],
    why: WhyOption,
    within_s: Annotated[
        float, typer.Option(help="Sent and read back within so many seconds, or not sent.")
    ] = 5.0,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Write a point of a Modbus device; exit code 0 only when it was read back."""
    request = {"operation": "device.write", "device": device, "point": point, "why": why}
    done = _ask_running(_load(config), {**request, "value": value, "ttl_s": within_s})
    detail = f": {done['detail']}" if done["detail"] else ""
    typer.echo(f"{device}: {point} = {value:g}: {done['result']}{detail}")
    if done["result"] != "done":
        raise typer.Exit(1)


@app.command()
def audit(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Balance the books from the store alone; exit code 1 unless they hold."""
    import sqlite3

    from gateway import audit as books
    from gateway import daemon, schema

    settings = _load(config)
    file = Path(settings.gateway.data_dir, daemon.DATABASE_NAME)
    if not file.exists():
        raise GatewayError(f"{file}: no such database; has this gateway run yet?")
    try:
        with closing(schema.connect_reader(str(file), cache_kib=4096)) as connection:
            rows = books.balance(connection, [broker.name for broker in settings.mqtt])
    except sqlite3.Error as exc:
        raise GatewayError(f"{file}: cannot be read: {exc}.") from exc
    summary = books.summary(rows)
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
    else:
        typer.echo(books.one_line(summary))
        for row in rows:
            typer.echo(f"  {row.line()}")
    for aside in sorted(file.parent.glob(f"{file.name}.corrupt-*")):
        typer.echo(f"{aside}: was set aside as damaged; what it held is not in these books.", err=True)
    if not summary["holds"]:
        raise typer.Exit(1)


# --- nodes --------------------------------------------------------------------------------------


@node_app.command("import")
def node_import(
    file: Annotated[Path, typer.Argument(help="What minting wrote: JSON lines or TOML.")],
    config: ConfigOption = DEFAULT_CONFIG,
    replace: Annotated[
        bool, typer.Option("--replace", help="Nodes minted again: take the new keys.")
    ] = False,
    why: WhyOption = "",
) -> None:
    """Register nodes and keep their keys, encrypted."""
    from gateway import limits, node_file

    try:
        with file.open("rb") as stream:
            data = stream.read(limits.CONTROL_REQUEST_BYTES_MAX + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise GatewayError(f"{file}: cannot be read: {exc}") from exc
    if len(data) > limits.CONTROL_REQUEST_BYTES_MAX:
        raise GatewayError(
            f"{file}: larger than {limits.CONTROL_REQUEST_BYTES_MAX} bytes; is this what minting wrote? A longer "
            f"file can be imported in parts."
        )
    node_file.parse(text, str(file))  # whoever reads the error sees the file here
    request = {"operation": "node.import", "text": text, "name": str(file), "replace": replace, "why": why}
    done = _ask(config, request)
    counts = ", ".join(f"{len(done[key])} {key}" for key in ("added", "replaced", "unchanged"))
    typer.echo(f"{file}: {counts}. Now delete it or lock it away: it holds keys.")


@node_app.command("list")
def node_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the registered nodes. Keys are never shown."""
    nodes = _ask(config, {"operation": "node.list"})["nodes"]
    if as_json:
        typer.echo(json.dumps(nodes, indent=1))
        return
    for node in nodes:
        since = _date(node["added_ms"])
        typer.echo(
            f"{node['address']:04x}  {node['node_type']:<24} {node['area']}/{node['site']}  since {since}"
        )
    typer.echo(f"{len(nodes)} nodes.")


@node_app.command("remove")
def node_remove(node: NodeArgument, why: WhyOption, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Forget the keys of a lost or stolen node; its history stays."""
    _ask(config, {"operation": "node.remove", "node": node, "why": why})
    typer.echo(f"node {node}: removed; nothing it sends is accepted any more.")


# --- sites --------------------------------------------------------------------------------------


@site_app.command("add")
def site_add(
    site: Annotated[str, typer.Argument(metavar="SITE", help="Id of the site: a level of MQTT topics.")],
    area: Annotated[str | None, typer.Option(help="Area code; default: that of the gateway.")] = None,
    title: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    why: WhyOption = "",
) -> None:
    """Make a site."""
    made = _ask(config, {"operation": "site.add", "site": site, "area": area, "title": title, "why": why})
    typer.echo(f"site {made['site']}: made in area {made['area']}.")


@site_app.command("assign")
def site_assign(
    site: Annotated[str, typer.Argument(metavar="SITE")],
    node: NodeArgument,
    since: Annotated[
        datetime | None,
        typer.Option("--from", help="Since when, UTC; default: now, or for ever for a first assignment."),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    why: WhyOption = "",
) -> None:
    """Let a node serve a site from a time on; what it served before ends there."""
    from_ms = None if since is None else int(since.replace(tzinfo=since.tzinfo or UTC).timestamp() * 1000)
    made = _ask(
        config, {"operation": "site.assign", "site": site, "node": node, "from_ms": from_ms, "why": why}
    )
    typer.echo(f"site {site}: served by node {node} from {_date(made['from_ms'])} on.")


@site_app.command("list")
def site_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List sites and who served them when."""
    reply = _ask(config, {"operation": "site.list"})
    if as_json:
        typer.echo(json.dumps(reply, indent=1))
        return
    for site in reply["sites"]:
        typer.echo(f"{site['area']}/{site['site']}  {site['title']}")
        for row in reply["assignments"]:
            if row["site"] == site["site"]:
                until = "now" if row["to_ms"] is None else _date(row["to_ms"])
                typer.echo(f"    node {row['node']:04x}  {_date(row['from_ms'])} to {until}")


# --- commands -----------------------------------------------------------------------------------


@command_app.command("send")
def command_send(
    node: NodeArgument,
    command: Annotated[
        str,
        typer.Argument(
            help="identify, reboot, read-now, set-interval, report-settings, maintenance, learn, test-alarm, "
            "calibrate, console or set-radio."
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VALUE…]",
            help="Seconds for identify, set-interval and maintenance (or 30min, 2h); a line for console; "
            "for calibrate a measurand, a step and its value: ph zero 6.86, ph span 9.18, ph apply 17, ph discard; "
            "for set-radio a spreading factor and a power in dBm: 9 14.",
        ),
    ] = None,
    why: WhyOption = "",
    ttl_s: Annotated[int, typer.Option("--ttl", help="Seconds until it is too late to begin.")] = 60,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the node's answer.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Give a node a command. It is never carried out later than --ttl."""
    if not why:
        raise CommandError("say why with --why: who asked for what, and why, is kept for ever.")
    request = {
        "operation": "command.send",
        "node": node,
        "command": command,
        "words": words or [],
        "ttl_s": ttl_s,
        "why": why,
    }
    number = _ask(config, request)["id"]
    typer.echo(f"command {number}: {command} for node {node}, queued for at most {ttl_s} s.")
    if wait:
        _wait(config, number, ttl_s)


def _wait(config: Path, number: int, ttl_s: int) -> None:
    """Ask until the command has ended; the daemon ends it at its deadline."""
    until_s = time.monotonic() + ttl_s + 10
    while time.monotonic() < until_s:
        report = _ask(config, {"operation": "command.list", "id": number})["commands"][0]
        if report["state"] != "open":
            typer.echo(f"command {number}: {report['state']} {report['detail']}".rstrip() + ".")
            if report["state"] != "done":
                raise typer.Exit(1)
            return
        time.sleep(POLL_S)
    raise ControlError(f"command {number} has not ended; is the gateway running?")


@command_app.command("list")
def command_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the latest commands: who gave them, why, and how they ended."""
    reports = _ask(config, {"operation": "command.list"})["commands"]
    if as_json:
        typer.echo(json.dumps(reports, indent=1))
        return
    for report in reports:
        args = "" if report["args"] is None else f" {report['args']}"
        typer.echo(
            f"{report['id']:>5}  {_date(report['created_ms'])}  node {report['node']:04x}  "
            f"{report['command']}{args}: "
            f"{report['state']} {report['detail']}  ({report['who']}: {report['why']})"
        )


# --- settings -----------------------------------------------------------------------------------


@settings_app.command("set")
def settings_set(
    node: NodeArgument,
    changes: Annotated[
        list[str], typer.Argument(metavar="NAME=NUMBER…", help="E.g. interval_s=900 tilt_deg=20.")
    ],
    why: WhyOption = "",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Want settings for a node: sent until it reports that it has them."""
    wanted: dict[str, int] = {}
    for name, value in map(_setting, changes):
        if name in wanted:
            raise CommandError(f"{name} is given twice. Name each setting once.")
        wanted[name] = value
    done = _ask(config, {"operation": "settings.set", "node": node, "settings": wanted, "why": why})
    typer.echo(
        f"node {node}: settings version {done['version']} is wanted; `settings list` tells when it is "
        f"applied."
    )


def _setting(change: str) -> tuple[str, int]:
    name, _, value = change.partition("=")
    if not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise CommandError(
            f"{change!r:.60} is not allowed. Allowed is name=number, a whole one, such as interval_s=900."
        )
    return name, int(value)


@settings_app.command("list")
def settings_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the wanted settings of each node and whether it has them."""
    reports = _ask(config, {"operation": "settings.list"})["settings"]
    if as_json:
        typer.echo(json.dumps(reports, indent=1))
        return
    for report in reports:
        document = " ".join(f"{name}={value}" for name, value in report["document"].items())
        typer.echo(
            f"node {report['node']:04x}  {report['state']} since {_date(report['changed_ms'])}: {document}  "
            f"(version {report['version']}, {report['who']}: {report['why']})"
        )


# --- asking -------------------------------------------------------------------------------------


def _load(config: Path) -> Config:
    from gateway import config as configs

    return configs.load(config)


def _ask_running(settings: Config, request: dict[str, Any]) -> dict[str, Any]:
    """Ask the daemon what only a running one can tell."""
    from gateway import control

    reply = control.ask(Path(settings.gateway.data_dir), request)
    if reply is None:
        raise ControlError(
            f"no gateway is running on {settings.gateway.data_dir}. Start it: tidegate gateway run"
        )
    return reply


def _ask(config: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Have the running daemon carry out `request`, or do it here when none runs: there is one writer at a time."""
    from gateway import control, daemon, log

    settings = _load(config)
    data_dir = Path(settings.gateway.data_dir)
    reply = control.ask(data_dir, request)
    if reply is not None:
        return reply
    logger = log.setup("warning", settings.log.format)
    with daemon.DataDir(data_dir):
        return asyncio.run(daemon.offline(settings, request, control.user_name(os.getuid()), logger))


def _date(unix_ms: int) -> str:
    if unix_ms == 0:
        return "the beginning"
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
