"""`tidegate airtime`: how long a LoRa packet is on the air, whether a region allows it, and what would fit."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gateway.errors import AirError
from protocols.wire import airtime
from protocols.wire.airtime import AirRefused, Modulation
from protocols.wire.law import Law
from protocols.wire.plans_table import PLANS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

# What an SX126x can be set to, by the names that its driver, its calculator and its older brothers have for it.
BANDWIDTHS_HZ = (
    *(7812, 10417, 15625, 20833, 31250, 41667, 62500, 125000, 250000, 500000),
    *(7810, 10420, 15630, 20830, 41670, 7800, 10400, 15600, 20800, 31200, 41700),
)
REGIONS = {entry[0]: plan_id for plan_id, entry in PLANS.items()}
SPREADING_FACTORS = range(5, 13)


class _NeverSent:
    """Implements duty.Spent: the question is about one packet, not about the hour before it."""

    def load(self) -> bytes:
        return b""

    def save(self, data: bytes) -> bool:
        return True


@app.command()
def airtime_command(
    sf: Annotated[
        int | None, typer.Option("--sf", help="Spreading factor, 5 to 12. Without it: a table of all.")
    ] = None,
    bw_hz: Annotated[int, typer.Option("--bw-hz", help="Bandwidth in Hz.")] = 125_000,
    cr: Annotated[str, typer.Option("--cr", help="Coding rate: 5 to 8 for 4/5 to 4/8.")] = "5",
    preamble: Annotated[int, typer.Option("--preamble", help="Symbols of the preamble.")] = 8,
    size: Annotated[int, typer.Option("--bytes", help="Payload of the packet.")] = 20,
    is_implicit: Annotated[bool, typer.Option("--implicit", help="No header.")] = False,
    no_crc: Annotated[bool, typer.Option("--no-crc", help="No CRC.")] = False,
    ldro: Annotated[
        str,
        typer.Option("--ldro", help="Low-data-rate optimisation: auto (on from 16 ms a symbol), on or off."),
    ] = "auto",
    region: Annotated[str | None, typer.Option("--region", help="cn470 or eu868. Without it: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Time on air by the formula of the SX126x datasheet, to the microsecond, and what each region says to it."""
    _check("--sf", sf if sf is not None else 7, 5, 12)
    _check("--preamble", preamble, 1, 0xFFFF)
    _check("--bytes", size, 0, airtime.SIZE_MAX)
    _check_bandwidth(bw_hz)
    _one_of("--ldro", ldro, ("auto", "on", "off"))
    laws = [Law(REGIONS[name], _NeverSent()) for name in _regions(region)]

    def modulation(at: int) -> Modulation:
        has_ldro = airtime.needs_ldro(at, bw_hz) if ldro == "auto" else ldro == "on"
        return Modulation(at, bw_hz, _coding_rate(cr), preamble, is_implicit, not no_crc, has_ldro)

    wanted = [modulation(at) for at in (SPREADING_FACTORS if sf is None else (sf,))]
    if as_json:
        found = [as_fields(one, size, laws) for one in wanted]
        typer.echo(json.dumps(found if sf is None else found[0], indent=1))
    elif sf is None:
        _print_table(wanted, size, laws)
    else:
        _print_one(wanted[0], size, laws, ldro)


def verdict(law: Law, modulation: Modulation, size: int) -> tuple[str, str]:
    """(rule, words): the rule is "" when the law has nothing against it, at its highest power on its first channel."""
    try:
        law.check(0, law.freq_hz(0), modulation, size, law.dbm_max)
    except AirRefused as refused:
        return refused.rule, str(refused)
    return "", ""


def size_max(law: Law, modulation: Modulation) -> int:
    """The largest payload that the law allows; -1 for none."""
    if verdict(law, modulation, 0)[0] not in {"", "time"}:
        return -1
    return airtime.size_max(modulation, law.longest_us)


def as_fields(modulation: Modulation, size: int, laws: list[Law]) -> dict[str, Any]:
    """Everything the command says, for a program."""
    regions = {}
    for law in laws:
        rule, words = verdict(law, modulation, size)
        most = size_max(law, modulation)
        regions[law.name] = {
            "allowed": not rule,
            "rule": rule or None,
            "why": words or None,
            "largest_bytes": most if most >= 0 else None,
            "listens_first": law.needs_listening,
        }
    return {
        "sf": modulation.sf,
        "bw_hz": modulation.bw_hz,
        "cr": modulation.cr,
        "preamble": modulation.preamble,
        "implicit": modulation.is_implicit,
        "crc": modulation.has_crc,
        "ldro": modulation.has_ldro,
        "bytes": size,
        "symbol_us": airtime.symbol_us(modulation),
        "time_on_air_us": airtime.time_on_air_us(modulation, size),
        "regions": regions,
    }


def _print_one(modulation: Modulation, size: int, laws: list[Law], ldro: str) -> None:
    air_us = airtime.time_on_air_us(modulation, size)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row("packet", _packet(modulation, size))
    table.add_row("symbol", f"{airtime.symbol_us(modulation)} us")
    table.add_row("LDRO", _ldro(modulation, ldro))
    table.add_row("time on air", f"{air_us} us")
    for law in laws:
        table.add_row("")
        rule, words = verdict(law, modulation, size)
        table.add_row(law.name, f"refused, {rule}: {words}" if rule else f"allowed: {_terms(law, air_us)}")
        most = size_max(law, modulation)
        table.add_row("", f"largest payload: {most} bytes" if most >= 0 else "largest payload: none")
    Console(highlight=False).print(table)


def _print_table(wanted: list[Modulation], size: int, laws: list[Law]) -> None:
    said = _packet(wanted[0], size).split(", ", 1)[1]
    table = Table(title=f"{size} bytes, {said}", title_justify="left", title_style="")
    for name in ("SF", "symbol, us", "LDRO", "time on air, us"):
        table.add_column(name, justify="right", no_wrap=True)
    for law in laws:
        table.add_column(law.name, no_wrap=True)
    for one in wanted:
        row = [str(one.sf), str(airtime.symbol_us(one)), "on" if one.has_ldro else "off"]
        row.append(str(airtime.time_on_air_us(one, size)))
        for law in laws:
            rule, _ = verdict(law, one, size)
            most = size_max(law, one)
            row.append(("yes" if not rule else f"no ({rule})") + (f", {most} fit" if most >= 0 else ""))
        table.add_row(*row)
    console = Console(highlight=False)
    console.print(table)
    for law in laws:
        console.print(f"{law.name}: {_terms(law, 0)}", soft_wrap=False)


def _packet(modulation: Modulation, size: int) -> str:
    header = "implicit header" if modulation.is_implicit else "explicit header"
    crc = "CRC" if modulation.has_crc else "no CRC"
    return (
        f"{size} bytes at SF{modulation.sf}, {modulation.bw_hz} Hz, 4/{modulation.cr}, "
        f"preamble {modulation.preamble}, {header}, {crc}"
    )


def _ldro(modulation: Modulation, ldro: str) -> str:
    """On or off, and by which rule."""
    state = "on" if modulation.has_ldro else "off"
    if ldro != "auto":
        return f"{state}, as asked"
    return f"{state}: a symbol takes {'16 ms or more' if modulation.has_ldro else 'less than 16 ms'}"


def _terms(law: Law, air_us: int) -> str:
    """What the law asks of every packet, and how much of it this one takes."""
    terms = [f"at most {law.longest_us // 1000} ms each"]
    hour_ms = min(band[2] for band in PLANS[law.plan_id][2])
    if hour_ms:
        often = f", {hour_ms * 1000 // air_us} of these" if air_us else ""
        terms.append(f"{hour_ms // 1000} s in any hour per band{often}")
    if law.needs_listening:
        terms.append("listen before talk")
    terms.append(f"{law.dbm_max} dBm")
    return "; ".join(terms)


def _regions(region: str | None) -> list[str]:
    if region is None:
        return sorted(REGIONS)
    return [_one_of("--region", region.lower(), tuple(sorted(REGIONS)))]


def _coding_rate(text: str) -> int:
    digits = text.removeprefix("4/")
    if not digits.isdecimal() or not 5 <= int(digits) <= 8:
        hint = f" Did you mean {int(digits) + 4}?" if digits.isdecimal() and 1 <= int(digits) <= 4 else ""
        raise AirError(f"--cr {text}: allowed are 5 to 8, for 4/5 to 4/8.{hint}")
    return int(digits)


def _check_bandwidth(bw_hz: int) -> None:
    if bw_hz in BANDWIDTHS_HZ:
        return
    wanted = bw_hz * 1000 if bw_hz < min(BANDWIDTHS_HZ) else bw_hz
    nearest = min(BANDWIDTHS_HZ[:10], key=lambda known: abs(known - wanted))
    known = ", ".join(map(str, BANDWIDTHS_HZ[:10]))
    raise AirError(f"--bw-hz {bw_hz}: an SX126x has {known} Hz. Did you mean {nearest}?")


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise AirError(f"{name} {value}: allowed are {low} to {high}.")


def _one_of(name: str, text: str, known: tuple[str, ...]) -> str:
    if text in known:
        return text
    near = get_close_matches(text, known, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise AirError(f"{name} {text}: allowed are {', '.join(known)}.{hint}")
