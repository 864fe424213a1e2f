"""`tidegate gateway …`: what an integrator types. Only what a command needs is imported when it runs."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway import alarm_cli, backup_cli, command_cli, damage_cli, node_cli, port_cli, quality_cli, token_cli
from gateway.asking import DEFAULT_CONFIG, ConfigOption, JsonOption, WhyOption, ask_running, load
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.config_devices import ModbusSection

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(node_cli.app, name="node")
app.add_typer(node_cli.site_app, name="site")
app.add_typer(command_cli.app, name="command")
app.add_typer(command_cli.settings_app, name="settings")
app.add_typer(port_cli.app, name="port")
app.add_typer(token_cli.app, name="token")
app.add_typer(quality_cli.app, name="quality")
app.add_typer(alarm_cli.app, name="alarm")
app.add_typer(backup_cli.key_app, name="master-key")
app.command()(damage_cli.damage)
app.command()(backup_cli.backup)
app.command()(backup_cli.restore)


@app.command()
def run(
    config: ConfigOption = DEFAULT_CONFIG,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Refuse to start with a broken file, also when an older one is known to work."
        ),
    ] = False,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C. SIGHUP reads the configuration again."""
    from gateway import lives

    lives.start(config, is_strict=strict)


@app.command()
def reload(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Let the running gateway read its configuration again; with a problem in it, it goes on as it was."""
    settings = load(config)
    for line in ask_running(settings, {"operation": "config.reload"})["done"]:
        typer.echo(line)


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check the configuration, the master key and the ports, and change nothing."""
    settings = load(config)
    from gateway import bind_key, bluetooth, config_alarms, config_api, daemon, northbounds

    daemon.load_vault(settings)
    if settings.api is not None:
        config_api.tls_context(settings.api)
        typer.echo(
            f"api: {settings.api.address}:{settings.api.port}{' with TLS' if settings.api.cert_file else ''}"
        )
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
    for kind, northbound in settings.northbounds:
        told = northbounds.KINDS[kind].check(northbound)
        state = "" if northbound.enabled else " (paused)"
        typer.echo(f"{kind} {northbound.name}{state}: {told}")
    for device in settings.device:
        if device.key_file is not None:
            bind_key.load(device.key_file)
        if device.irk_file is not None:
            bind_key.load(device.irk_file, bind_key.IDENTITY_KEY)
        state = "" if device.enabled else " (left alone)"
        at = device.place
        typer.echo(
            f"device {device.name}: {device.profile} behind {device.modbus or device.ble}, {at}{state}."
        )
    for told in config_alarms.warnings(settings):
        typer.echo(f"note: {told}")
    typer.echo(f"{config}: in order. Data in {settings.gateway.data_dir}.")


def _bus_loads(settings: Config) -> list[str]:
    """How full each bus is; what no bus can carry was refused already."""
    if not settings.modbus:
        return []
    from gateway import device_status
    from gateway.pollers import modbus_load, modbus_profile

    told = []
    for bus in settings.modbus:
        polled = modbus_profile.on_bus(bus, settings.device, settings.profiles)
        load = modbus_load.bus_load(modbus_profile.line_of(bus), polled)
        high = "; little room for writes and repeats" if load > modbus_load.LOAD_HIGH else ""
        told.append(
            f"modbus {bus.name}: {_where(bus)}, {len(polled)} devices, {100 * load:.1f} % of its time{high}."
        )
        told += device_status.line_hints(bus, settings.device, settings.profiles)
    return told


def _where(bus: ModbusSection) -> str:
    """Where a bus is, and whether its port is there now."""
    if bus.path is None:
        return f"{bus.transport} {bus.host}:{bus.port}"
    there = "" if Path(bus.path).exists() else " (not there now; it is waited for)"
    return f"{bus.path}{there} at {bus.baud} baud"


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
def unit(
    name: Annotated[str, typer.Option(help="Of the service.")] = "tidegate",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print a systemd unit for this gateway: notify, watchdog, and no right that it does not use."""
    from gateway import unit as units

    typer.echo(units.unit(load(config), config.absolute(), name), nl=False)


@app.command()
def status(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show what the running gateway knows: nodes, links, deliveries, backlogs."""
    reply = ask_running(load(config), {"operation": "status"})
    if as_json:
        typer.echo(json.dumps(reply, indent=1))
        return
    from gateway.status import show

    show(reply)


@app.command()
def devices(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show the devices behind buses and adapters: state, last values, age."""
    rows = ask_running(load(config), {"operation": "device.list"})["devices"]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    from gateway.device_status import show_devices

    show_devices(rows)


@app.command()
def profiles(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List the device profiles there are: ours, and those in your folder."""
    from gateway.device_status import show_profiles

    folder = load(config).devices.profiles if config.exists() else None
    show_profiles(None if folder is None else Path(folder))


@app.command("device-reset")
def device_reset(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Its name in the configuration.")],
    why: WhyOption,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Let an encrypted BTHome device count anew, after its battery was changed."""
    done = ask_running(load(config), {"operation": "device.reset", "device": device, "why": why})
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
    """Write a point of a Modbus or Bluetooth device; exit code 0 only when it was read back."""
    request = {"operation": "device.write", "device": device, "point": point, "why": why}
    done = ask_running(load(config), {**request, "value": value, "ttl_s": within_s})
    detail = f": {done['detail']}" if done["detail"] else ""
    typer.echo(f"{device}: {point} = {value:g}: {done['result']}{detail}")
    if done["result"] != "done":
        raise typer.Exit(1)


@app.command()
def audit(
    records: Annotated[
        bool,
        typer.Option("--records", help="Also every run of records that is missing, lost or there twice."),
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Balance the books from the store alone; exit code 1 unless they hold."""
    import sqlite3

    from gateway import audit as books
    from gateway import audit_orders, audit_records, daemon, schema

    settings = load(config)
    file = Path(settings.gateway.data_dir, daemon.DATABASE_NAME)
    if not file.exists():
        raise GatewayError(f"{file}: no such database; has this gateway run yet?")
    try:
        with closing(schema.connect_reader(str(file), cache_kib=4096)) as connection:
            rows = books.balance(connection, settings.of_records)
            alarms = audit_orders.orders(connection, settings.of_alarms)
            names = audit_records.names(connection)
            runs = list(audit_records.runs(connection)) if records else []
    except sqlite3.Error as exc:
        raise GatewayError(f"{file}: cannot be read: {exc}.") from exc
    summary = books.summary(rows)
    summary["holds"] = summary["holds"] and all(platform.holds for platform in alarms)
    if as_json:
        listed = {"records": [run._asdict() for run in runs]} if records else {}
        told = [platform._asdict() for platform in alarms]
        typer.echo(json.dumps({**summary, "orders": told, **listed}, indent=1))
    else:
        typer.echo(books.one_line(summary))
        for row in rows:
            typer.echo(f"  {row.line(names.get(row.node))}")
        for platform in alarms:
            typer.echo(f"  {platform.line()}")
        for run in runs:
            typer.echo(f"  {audit_records.line(run, names)}")
    for aside in sorted(file.parent.glob(f"{file.name}.corrupt-*")):
        typer.echo(f"{aside}: was set aside as damaged; what it held is not in these books.", err=True)
    if not summary["holds"]:
        raise typer.Exit(1)
