"""`tidegate plan`: how many nodes a place bears, and what becomes of an alarm there, before anything is bought.

A day of the simulated air with the rules of the link (world/traffic.py), for the number of nodes asked for and for
fewer and more of them. It has no firmware and no bytes in it, so a thousand nodes take seconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from hil_tests.errors import HilError
from hil_tests.plan_svg import draw
from hil_tests.world.profiles import NAMES
from hil_tests.world.survey import Outcome, Question, ask, quantile
from protocols.wire.law import Law
from protocols.wire.plans_table import PLANS

app = typer.Typer(add_completion=False)
_Number = TypeVar("_Number", int, float)

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
# What one core does in a minute or two.
NODES_MAX = 20_000
GATEWAYS_MAX = 64
CONCENTRATOR_CHANNELS_MAX = 8
_BAR = 10

LEFT_OUT = (
    "Left out: terrain and buildings but for chance (8 dB standard deviation over places, around Okumura and Hata's "
    "median), other users of the band (--loss stands for them), daily rhythms, joins, commands and updates, and in "
    "the battery figure power below the highest. Assumed: a dozen openings a year per cover, two alarms a month per "
    "river station, 150 trips a day per lift; ADR begins where it would settle. Measure some links before you rely "
    "on it."
)


@app.command()
def plan(
    nodes: Annotated[list[str], typer.Argument(help=f"TYPE=COUNT …, of {', '.join(NAMES)}.")],
    region: Annotated[str, typer.Option(help="The plan: cn470 or eu868.")] = "cn470",
    gateways: Annotated[int, typer.Option(help=f"How many, spread evenly; 1 to {GATEWAYS_MAX}.")] = 1,
    radio: Annotated[
        str, typer.Option(help="concentrator, or bridge (one channel, one --sf).")
    ] = "concentrator",
    channels: Annotated[int | None, typer.Option(help="Of the plan; default 8, a bridge has 1.")] = None,
    sf: Annotated[str, typer.Option(help="adr, or a spreading factor for every node.")] = "adr",
    area_km2: Annotated[float | None, typer.Option(help="A square of so many km²; default 4.")] = None,
    density: Annotated[float | None, typer.Option(help="Nodes per km², instead of --area-km2.")] = None,
    days: Annotated[float, typer.Option(help="Days that go by, 0.1 to 60.")] = 1.0,
    loss: Annotated[float, typer.Option(help="Part of all packets lost for other reasons, 0 to 0.9.")] = 0.0,
    storm: Annotated[int, typer.Option(help="So many of them raise an alarm within one minute, once.")] = 0,
    height_m: Annotated[float, typer.Option(help="Height of the gateways' antennas, 10 to 200 m.")] = 30.0,
    iron_db: Annotated[
        float, typer.Option(help="What a closed cover takes; 10 to 30 dB are published.")
    ] = 20.0,
    board: Annotated[
        str, typer.Option(help="Whose currents; a folder of boards/.")
    ] = "heltec_wifi_lora_32_v3",
    seed: Annotated[int, typer.Option(help="Of places, shadows and chance.")] = 1,
    curve: Annotated[bool, typer.Option(help="Also a quarter, half, twice and four times the nodes.")] = True,
    svg: Annotated[Path | None, typer.Option(help="Draw delivery and load over the number of nodes.")] = None,
) -> None:
    """How many nodes a place bears: delivery, alarm latency, airtime, energy, and the worst node."""
    counts = parse_nodes(nodes)
    is_bridge = _choice("--radio", radio, ("concentrator", "bridge")) == "bridge"
    plan_id = _plan_id(region)
    question = Question(
        nodes=counts,
        plan_id=plan_id,
        gateways=_within("--gateways", gateways, 1, GATEWAYS_MAX),
        is_bridge=is_bridge,
        channels=_channels(channels, is_bridge, plan_id),
        sf=_spreading(sf, is_bridge, plan_id),
        area_km2=_area(area_km2, density, sum(counts.values())),
        days=_within("--days", days, 0.1, 60),
        loss=_within("--loss", loss, 0, 0.9),
        storm=_within("--storm", storm, 0, NODES_MAX),
        gateway_height_m=_within("--height-m", height_m, 10, 200),
        iron_db=_within("--iron-db", iron_db, 0, 60),
        seed=seed,
    )
    currents = _board(board)
    if svg is not None and not svg.parent.is_dir():
        raise HilError(f"--svg {svg}: there is no folder {svg.parent}.")
    console = Console()
    scaled = [question.scaled(factor) for factor in FACTORS] if curve or svg is not None else []
    main, *outcomes = _ask_all(console, [question, *scaled], currents)
    console.print(_answer(main, board))
    console.print()
    console.print(_by_kind(main))
    if outcomes:
        console.print()
        console.print(_curve(outcomes, question.total))
    console.print()
    console.print(LEFT_OUT, style="dim", highlight=False)
    if svg is not None:
        svg.write_text(draw(outcomes, question.total, _title(question)), encoding="utf-8")
        console.print(f"Drawn: {svg}")


# -- what was asked ------------------------------------------------------------------------------------------


def parse_nodes(texts: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in NAMES:
            near = get_close_matches(name, NAMES, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise HilError(f"{text}: there is no node type {name!r}; there are {', '.join(NAMES)}.{hint}")
        if not number.isdecimal():
            raise HilError(f"{text}: say how many, as in {name}=100.")
        counts[name] = counts.get(name, 0) + int(number)
    total = sum(counts.values())
    if not 1 <= total <= NODES_MAX:
        raise HilError(f"{total} nodes in all; 1 to {NODES_MAX} can be asked for.")
    return counts


def _choice(option: str, value: str, allowed: Sequence[str]) -> str:
    if value in allowed:
        return value
    near = get_close_matches(value, allowed, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise HilError(f"{option} {value}: it is one of {', '.join(allowed)}.{hint}")


def _within(option: str, value: _Number, low: float, high: float) -> _Number:
    if not low <= value <= high:
        raise HilError(f"{option} {value}: it goes from {low} to {high}.")
    return value


def _plan_id(region: str) -> int:
    names = {entry[0]: plan_id for plan_id, entry in PLANS.items()}
    return names[_choice("--region", region.lower(), tuple(names))]


def _channels(channels: int | None, is_bridge: bool, plan_id: int) -> int:
    if is_bridge:
        if channels not in (None, 1):
            raise HilError(f"--channels {channels}: a bridge has one radio, so there is one channel.")
        return 1
    most = min(CONCENTRATOR_CHANNELS_MAX, Law(plan_id).channels)
    return _within("--channels", most if channels is None else channels, 1, most)


def _spreading(text: str, is_bridge: bool, plan_id: int) -> int | None:
    law = Law(plan_id)
    if text == "adr":
        if is_bridge:
            raise HilError(
                f"--radio bridge hears one spreading factor: name it, --sf 7 to --sf {law.sf_max}."
            )
        return None
    if not text.isdecimal() or not 7 <= int(text) <= law.sf_max:
        why = ", where its longest packet still holds something" if law.sf_max < 12 else ""
        raise HilError(f"--sf {text}: it is adr, or 7 to {law.sf_max} in {law.name}{why}.")
    return int(text)


def _area(area_km2: float | None, density: float | None, total: int) -> float:
    if density is None:
        return _within("--area-km2", 4.0 if area_km2 is None else area_km2, 0.01, 10_000)
    if area_km2 is not None:
        raise HilError("--area-km2 and --density say the same; give one of them.")
    return total / _within("--density", density, 0.1, 100_000)


def _board(name: str) -> Any:
    root = Path(__file__).resolve().parent.parent / "boards"
    known = sorted(path.parent.name for path in root.glob("*/board.py"))
    constants = importlib.import_module(f"boards.{_choice('--board', name, known)}.board")
    if constants.DEEP_SLEEP_UA is None or constants.RADIO_TX_MA is None:
        raise HilError(f"--board {name}: it has no radio, or its currents are not known; take another one.")
    return constants


# -- asking --------------------------------------------------------------------------------------------------


def _ask_all(console: Console, questions: Sequence[Question], board: Any) -> list[Outcome]:
    """The answers, in order; questions about nobody or too many are left out."""
    asked = [one for one in questions if 0 < one.total <= NODES_MAX]
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %")
    outcomes = []
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
        bar = bars.add_task("", total=sum(one.total for one in asked))
        before = 0
        for one in asked:
            bars.update(bar, description=f"{one.total} nodes, {one.days:g} day(s)")

            def show(part: float, done: float = before, size: int = one.total) -> None:
                bars.update(bar, completed=done + part * size)

            outcomes.append(ask(one, board, show))
            before += one.total
    return outcomes


# -- what a person sees --------------------------------------------------------------------------------------


def _title(question: Question) -> str:
    radio = "bridge" if question.is_bridge else "concentrator"
    plural = "s" if question.gateways > 1 else ""
    sf = "ADR" if question.sf is None else f"SF{question.sf}"
    return (
        f"{', '.join(f'{count} {name}' for name, count in question.nodes.items())} on {question.area_km2:.3g} km², "
        f"{question.gateways} {radio}{plural}, {PLANS[question.plan_id][0]}, {question.channels} channels, {sf}"
    )


def _percent(part: float) -> str:
    return f"{100 * part:.2f} %" if part < 0.9995 or part == 1 else f"{100 * part:.3f} %"


def _seconds(values: Sequence[float], lost: int) -> str:
    if not values:
        return "none in this time" if not lost else f"all {lost} lost"
    told = ", ".join(f"{name} {quantile(values, part):.1f} s" for name, part in (("p50", 0.5), ("p99", 0.99)))
    return f"{told}, worst {values[-1]:.1f} s, of {len(values) + lost}; {lost} not stored by the end"


def _answer(outcome: Outcome, board: str) -> Table:
    question = outcome.question
    table = Table(
        title=_title(question), show_header=False, title_justify="left", title_style="bold", box=None
    )
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    share = outcome.out_of_reach / outcome.total
    reach = f"{outcome.out_of_reach} of {outcome.total} ({100 * share:.1f} %)"
    style = "bold red" if share > 0.02 else ""
    if outcome.out_of_reach:
        reach += ": no gateway hears them; more gateways or higher ones. The figures below are of the others."
    table.add_row("out of reach", reach, style=style)
    table.add_row(
        "records delivered",
        f"{_percent(outcome.delivered)} by the end; a routine set that is lost goes again with the node's next frame",
    )
    table.add_row("packets heard", f"{_percent(outcome.heard)} of all that were sent, by one gateway or more")
    table.add_row("alarms, to disk", _seconds(outcome.alarm_s, outcome.alarms_lost))
    if question.storm:
        table.add_row(
            f"storm of {len(outcome.storm_s) + outcome.storm_lost}",
            _seconds(outcome.storm_s, outcome.storm_lost),
        )
    table.add_row(
        "channel load",
        f"{_percent(outcome.channel_load)} of the time up, {_percent(outcome.down_load)} down, each of "
        f"{question.channels}",
    )
    table.add_row("duty", f"{_percent(outcome.duty_worst)} in the worst hour of any node")
    table.add_row("spreading factors", ", ".join(f"SF{sf}: {count}" for sf, count in outcome.by_sf.items()))
    table.add_row("worst node", outcome.worst_node)
    table.add_row(
        "assumed",
        f"{question.days:g} day(s), seed {question.seed}, {100 * question.loss:g} % lost besides, currents of {board}",
    )
    return table


def _by_kind(outcome: Outcome) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("type", "in reach", "delivered", "air a day", "worst", "19 Ah last", "worst"):
        table.add_column(name, justify="left" if name == "type" else "right")
    for name, kind in outcome.kinds.items():
        years = "mains" if kind.years is None else _years(kind.years)
        worst = "" if kind.worst_years is None else _years(kind.worst_years)
        air = f"{kind.air_s_a_day:.1f} s", f"{kind.worst_air_s_a_day:.1f} s"
        table.add_row(name, str(kind.count), _percent(kind.delivered), *air, years, worst)
    return table


def _years(years: float) -> str:
    # A cell is sold for ten to fifteen years: beyond that, consumption is not what ends its life.
    return "> 15 years" if years > 15 else f"{years:.1f} years"


def _curve(outcomes: Sequence[Outcome], asked: int) -> Table:
    table = Table(
        box=None,
        pad_edge=False,
        title="The same place with fewer and more nodes, on an ordinary day",
        title_justify="left",
    )
    for name in ("nodes", "delivered", "packets heard", "channel load", "alarm p99"):
        table.add_column(name, justify="right" if name in ("nodes", "alarm p99") else "left")
    most = max(outcome.channel_load for outcome in outcomes) or 1.0
    for outcome in sorted(outcomes, key=lambda outcome: outcome.total):
        p99 = quantile(outcome.alarm_s, 0.99)
        table.add_row(
            str(outcome.total),
            _bar(outcome.delivered, outcome.delivered),
            _bar(outcome.heard, outcome.heard),
            _bar(outcome.channel_load / most, outcome.channel_load),
            "" if p99 is None else f"{p99:.1f} s",
            style="bold" if outcome.total == asked else "",
        )
    return table


def _bar(part: float, figure: float) -> str:
    length = round(part * _BAR)
    return "█" * length + "·" * (_BAR - length) + f" {_percent(figure)}"
