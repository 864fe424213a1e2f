"""`tidegate gateway node …` and `site …`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway import positions
from gateway.asking import DEFAULT_CONFIG, ConfigOption, JsonOption, NodeArgument, WhyOption, ask, date_of
from gateway.errors import GatewayError

app = typer.Typer(no_args_is_help=True, help="Nodes and their keys.")
site_app = typer.Typer(no_args_is_help=True, help="Sites, and which node serves which.")


@app.command("import")
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
    done = ask(config, request)
    counts = ", ".join(f"{len(done[key])} {key}" for key in ("added", "replaced", "unchanged"))
    typer.echo(f"{file}: {counts}. Now delete it or lock it away: it holds keys.")


@app.command("list")
def node_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the registered nodes, and which release each runs. Keys are never shown."""
    nodes = ask(config, {"operation": "node.list"})["nodes"]
    if as_json:
        typer.echo(json.dumps(nodes, indent=1))
        return
    from gateway import node_told

    node_told.print_list(nodes)


@app.command("show")
def node_show(node: NodeArgument, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show one node: what it runs, when it was heard, and what became of it in each campaign."""
    from gateway import node_file

    address = node_file.parse_address(node)
    nodes = ask(config, {"operation": "node.list"})["nodes"]
    found = next((one for one in nodes if one["address"] == address), None)
    if found is None:
        raise GatewayError(f"node {node} is not registered. `tidegate gateway node list` shows who is.")
    campaigns = ask(config, {"operation": "campaign.node", "node": node})["campaigns"]
    rows = ask(config, {"operation": "status"}).get("rows", [])
    live = next((row for row in rows if row["node"] == f"{address:04x}"), None)
    if as_json:
        typer.echo(json.dumps({**found, "campaigns": campaigns, "live": live}, indent=1))
        return
    from gateway import node_told

    node_told.print_one(found, campaigns, live)


@app.command("remove")
def node_remove(node: NodeArgument, why: WhyOption, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Forget the keys of a lost or stolen node; its history stays."""
    ask(config, {"operation": "node.remove", "node": node, "why": why})
    typer.echo(f"node {node}: removed; nothing it sends is accepted any more.")


@site_app.command("add")
def site_add(
    site: Annotated[str, typer.Argument(metavar="SITE", help="Id of the site: a level of MQTT topics.")],
    area: Annotated[str | None, typer.Option(help="Area code; default: that of the gateway.")] = None,
    title: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    why: WhyOption = "",
) -> None:
    """Make a site."""
    made = ask(config, {"operation": "site.add", "site": site, "area": area, "title": title, "why": why})
    typer.echo(f"site {made['site']}: made in area {made['area']}.")


@site_app.command("locate")
def site_locate(
    site: Annotated[str, typer.Argument(metavar="SITE")],
    at: Annotated[
        str | None,
        typer.Option(metavar="LAT,LON", help="Degrees of WGS 84, as GPS shows them: 30.274,120.155."),
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Nobody knows where it is.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    why: WhyOption = "",
) -> None:
    """Say where a site is: work orders and `site list` tell it."""
    if (at is None) != forget:
        raise typer.BadParameter("one of --at LAT,LON and --forget.")
    position = None if at is None else positions.parse(at)
    words = {} if position is None else position._asdict()
    ask(config, {"operation": "site.locate", "site": site, "why": why, **words})
    typer.echo(f"site {site}: " + ("nobody knows where it is." if position is None else f"is at {position}."))


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
    made = ask(
        config, {"operation": "site.assign", "site": site, "node": node, "from_ms": from_ms, "why": why}
    )
    typer.echo(f"site {site}: served by node {node} from {date_of(made['from_ms'])} on.")


@site_app.command("replace")
def site_replace(
    site: Annotated[str, typer.Argument(metavar="SITE")],
    node: Annotated[str, typer.Argument(metavar="NODE", help="The new one; import it first.")],
    old: Annotated[
        str | None, typer.Option("--instead-of", help="The node that goes, where several serve the site.")
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget-old", help="Void the old node's keys, too: it is broken or stolen.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    why: WhyOption = "",
) -> None:
    """Swap the node of a site: its name, history and reports go on."""
    request = {
        "operation": "site.replace",
        "site": site,
        "node": node,
        "old": old,
        "forget": forget,
        "why": why,
    }
    gone = ask(config, request)["old"]
    typer.echo(f"site {site}: served by node {node} from now on, instead of {gone:04x}.")
    if not forget:
        typer.echo(
            f"Node {gone:04x} may still send what it holds; `gateway node remove {gone:04x}` voids its keys."
        )


@site_app.command("list")
def site_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List sites and who served them when."""
    reply = ask(config, {"operation": "site.list"})
    if as_json:
        typer.echo(json.dumps(reply, indent=1))
        return
    for site in reply["sites"]:
        where = f"  at {positions.Position(site['lat'], site['lon'])}" if "lat" in site else ""
        typer.echo(f"{site['area']}/{site['site']}  {site['title']}{where}")
        for row in reply["assignments"]:
            if row["site"] == site["site"]:
                until = "now" if row["to_ms"] is None else date_of(row["to_ms"])
                typer.echo(f"    node {row['node']:04x}  {date_of(row['from_ms'])} to {until}")
