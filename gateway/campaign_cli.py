"""`tidegate campaign …`: a release for many nodes, and how far it is."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway import campaign_limits as limits
from gateway.asking import DEFAULT_CONFIG, ConfigOption, JsonOption, ask, load
from gateway.errors import CommandError, ControlError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
CampaignArgument = Annotated[
    str, typer.Argument(metavar="CAMPAIGN", help="Its number or its name, as `list` shows them.")
]
Why = Annotated[str, typer.Option("--why", help="Why: kept in the audit log.")]
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
# How often `watch` looks; a state that lasts shorter is seen in `show` all the same.
WATCH_S = 2.0


@app.command("add")
def add(
    releases: Annotated[
        list[Path],
        typer.Argument(metavar="RELEASE…", help="Folders of signed releases, one for each class of nodes."),
    ],
    name: Annotated[str, typer.Option(help="For lists; without it, what the releases are.")] = "",
    canary: Annotated[
        str, typer.Option(help="Who goes first: 5, or 2%, or addresses: 0012,0013. 0: nobody.")
    ] = "1",
    shares: Annotated[
        str, typer.Option("--waves", help="Then so much of the others, in waves that grow: 10%,50%,100%.")
    ] = "100%",
    by: Annotated[str, typer.Option("--by", help="Waves one after the other by type, area or board.")] = "",
    types: Annotated[list[str] | None, typer.Option("--type", help="Only nodes of this type.")] = None,
    areas: Annotated[list[str] | None, typer.Option("--area", help="Only in this area, or below it.")] = None,
    boards: Annotated[list[str] | None, typer.Option("--board", help="Only on this board.")] = None,
    nodes: Annotated[list[str] | None, typer.Option("--node", help="Only this node.")] = None,
    hours: Annotated[
        list[str] | None, typer.Option("--window", help="Only at these hours, local time: 22:00-05:00.")
    ] = None,
    zone: Annotated[str, typer.Option(help="Whose local time; without it, this machine's.")] = "",
    air: Annotated[str, typer.Option("--air", help="Airtime for it: 5%, or 120s in each hour.")] = "5%",
    halt_at: Annotated[
        str, typer.Option("--halt-at", help="Halt when more than this share failed …")
    ] = "10%",
    halt_count: Annotated[int, typer.Option("--halt-count", help="… and at least so many.")] = 3,
    patience: Annotated[
        str, typer.Option(help="A node that is silent for so long holds nobody up: 12h, 7d.")
    ] = "7d",
    soak: Annotated[str, typer.Option(help="Wait so long after a wave before the next one: 6h.")] = "0",
    why: Why = "",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Begin a campaign: the canary gets the release first, then wave after wave; it halts when too much fails."""
    from gateway import campaign_files

    if not why.strip():
        raise CommandError("say why with --why: it is kept in the audit log.")
    request = {
        "operation": "campaign.add", "why": why, "name": name,
        "releases": [campaign_files.read_folder(folder) for folder in releases],
        "canary": _canary(canary), "shares": [_share("--waves", one) for one in shares.split(",")], "by": by,
        "types": types or [], "areas": areas or [], "boards": boards or [], "nodes": nodes or [],
        "windows": hours or [], "zone": zone, "air_share": _air(air), "halt_share": _share("--halt-at", halt_at, 0),
        "halt_count": halt_count, "patience_s": _seconds("--patience", patience), "soak_s": _seconds("--soak", soak),
    }  # fmt: skip
    made = ask(config, request)
    if as_json:
        typer.echo(json.dumps(made, indent=1))
        return
    from gateway import campaign_told

    for line in campaign_told.begun(made):
        typer.echo(line)


@app.command("list")
def show_all(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List campaigns, the newest first, and how far they are."""
    found = ask(config, {"operation": "campaign.list"})["campaigns"]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    from gateway import campaign_told

    campaign_told.print_list(found)


@app.command("show")
def show(
    campaign: CampaignArgument,
    with_nodes: Annotated[bool, typer.Option("--nodes", help="Every node, a line each.")] = False,
    states: Annotated[
        list[str] | None, typer.Option("--state", help="Only nodes in this state, such as gone; a line each.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show one campaign: its waves, what went wrong and what to do, and with --nodes every node."""
    found = ask(config, {"operation": "campaign.show", "campaign": campaign})
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    from gateway import campaign_told

    wanted = campaign_told.states(states or [])
    campaign_told.print_one(found)
    if with_nodes or wanted:
        campaign_told.print_nodes([row for row in found["nodes"] if not wanted or row["state"] in wanted])


@app.command("watch")
def watch(campaign: CampaignArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Watch a campaign until it is over or halted; exit code 1 unless it ended without a failure. Ctrl-C leaves it."""
    from rich.console import Console
    from rich.live import Live

    from gateway import campaign_told

    request = {"operation": "campaign.show", "campaign": campaign}
    out, found, is_left = Console(), ask(config, request), False
    try:
        with Live(campaign_told.picture(found), console=out, auto_refresh=False) as live:
            while found["state"] in ("running", "paused"):
                time.sleep(WATCH_S)
                now = _of_a_running_gateway(config, request)
                found = now or found
                live.update(campaign_told.picture(found, is_served=now is not None), refresh=True)
    except KeyboardInterrupt:
        is_left = True
    if not out.is_terminal:
        out.print()  # where nothing moves, Live leaves the line open
    if is_left:
        typer.echo(f"campaign {found['id']} goes on without being watched.")
    elif found["state"] != "ended" or found["failed"]:
        raise typer.Exit(1)


def _of_a_running_gateway(config: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """None while there is none. Who watches does not look in its place: that would keep it from starting."""
    from gateway import control

    try:
        return control.ask(Path(load(config).gateway.data_dir), request)
    except ControlError:  # it ended before it answered
        return None


@app.command("pause")
def pause(campaign: CampaignArgument, why: Why = "", config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Begin nothing more, until it is resumed. Nodes that have all of it install it all the same."""
    done = _change(config, "pause", campaign, why)
    typer.echo(
        f"campaign {done['id']} ({done['name']}) is paused. Go on: tidegate campaign resume {done['id']} --why …"
    )


@app.command("resume")
def resume(campaign: CampaignArgument, why: Why = "", config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Go on with a campaign that was paused or halted; what halted it does not halt it again."""
    done = _change(config, "resume", campaign, why)
    typer.echo(f"campaign {done['id']} ({done['name']}) goes on; it was {done['was']}.")


@app.command("skip")
def skip(
    campaign: CampaignArgument,
    node: Annotated[str, typer.Argument(metavar="NODE", help="Address as on the label: 0012.")],
    why: Why = "",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Go on without a node that holds its wave up. When it returns it goes on where it was."""
    done = ask(config, {"operation": "campaign.skip", "campaign": campaign, "node": node, "why": why})
    typer.echo(
        f"campaign {done['id']} ({done['name']}) goes on without {done['node']}, which was {done['was']}."
    )


@app.command("abort")
def abort(campaign: CampaignArgument, why: Why = "", config: ConfigOption = DEFAULT_CONFIG) -> None:
    """End it for good: nodes forget what they have of it. What is installed stays; what is on trial ends its trial."""
    done = _change(config, "abort", campaign, why)
    typer.echo(f"campaign {done['id']} ({done['name']}) is aborted; nodes are told at their next uplink.")


@app.command("report")
def report(
    campaign: CampaignArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it to this file: .json, .csv or .txt.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Tell all of a campaign, for the file: waves, every node with its reason codes, and what to do."""
    found = ask(config, {"operation": "campaign.show", "campaign": campaign})
    from gateway import campaign_told

    kind = "json" if as_json else "txt" if out is None else out.suffix.lower().lstrip(".")
    if kind not in ("json", "csv", "txt"):
        raise CommandError(f"--out {out}: allowed are files that end with .json, .csv or .txt.")
    text = campaign_told.report(found, kind)
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror}") from error
    typer.echo(f"{out}: campaign {found['id']} ({found['name']}), {len(found['nodes'])} nodes.")


def _change(config: Path, what: str, campaign: str, why: str) -> dict[str, Any]:
    return ask(config, {"operation": f"campaign.{what}", "campaign": campaign, "why": why})


def _share(option: str, text: str, least: float = 0.001) -> float:
    match = re.fullmatch(r"\s*([0-9]{1,3}(?:\.[0-9]{1,2})?)\s*%\s*", text)
    value = float(match[1]) / 100 if match else -1.0
    if not least <= value <= 1:
        raise CommandError(f"{option} {text!r:.40} is not allowed. Allowed is a share such as 10% or 2.5%.")
    return value


def _canary(text: str) -> int | float | list[str]:
    if "%" in text:
        share = _share("--canary", text)
        return 0.999 if share == 1 else share
    if re.fullmatch(r"[0-9a-fA-F]{4}(,[0-9a-fA-F]{4})*", text):
        return text.split(",")
    if text.isascii() and text.isdecimal() and len(text) < 4:
        return int(text)
    raise CommandError(
        f"--canary {text!r:.40} is not allowed. Allowed are a number up to 999, a share such as 2%, or addresses of "
        f"four digits: 0012,0013."
    )


def _air(text: str) -> float:
    """As a share of each hour."""
    is_seconds = text.strip().endswith("s")
    share = _seconds("--air", text) / 3600 if is_seconds else _share("--air", text, 0)
    low, high = limits.AIR_SHARE_MIN, limits.AIR_SHARE_MAX
    if not low <= share <= high:
        raise CommandError(
            f"--air {text!r:.40} is not allowed. Allowed are {low:.1%} to {high:.0%}, or {math.ceil(low * 3600)}s to "
            f"{high * 3600:.0f}s in each hour: without air nodes on the air would never get it."
        )
    return share


def _seconds(option: str, text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,8})\s*(s|min|h|d|)", text.strip())
    if match is None or (not match[2] and match[1].strip("0")):
        raise CommandError(f"{option} {text!r:.40} is not allowed. Allowed is 30min, 12h, 7d and the like.")
    return int(match[1]) * _UNITS[match[2] or "s"]
