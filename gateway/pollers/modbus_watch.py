"""A block of registers, read every which way: what an integrator looks at to find out how a device keeps a number.

Both address bases stand beside each other, because manuals count from 0 and from 1 and rarely say which; a number of
two registers is shown in all four byte orders, as float and as integer, and what could be a measurement is bold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import tomlkit
from rich.table import Table
from rich.text import Text
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT

from gateway.errors import GatewayError
from gateway.profile_library import NAME, parse
from protocols import fields
from protocols.measurands import registry

# Traditional numbering: 4xxxx holding registers, 3xxxx input registers, from 1.
TRADITIONAL = {"holding": 40_001, "input": 30_001}
WIDTH_FLOAT = 10


def is_likely(value: float) -> bool:
    """Whether a float looks like a measurement and not like bytes in the wrong order."""
    return value == 0 or 1e-4 <= abs(value) < 1e7


def table(function: str, address: int, registers: Sequence[int | None], changed: set[int]) -> Table:
    """The block as a table of at most 80 columns; registers in `changed` moved since they were read last.

    None is a register that the device refuses.
    """
    view = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("base 0", "base 1", "hex", "u16", "s16", "", *fields.ORDERS):
        view.add_column(name, justify="right", no_wrap=True)
    for i, register in enumerate(registers):
        at = address + i
        one = TRADITIONAL[function] + at if at < 9999 else at + 1
        if register is None:
            view.add_row(str(at), str(one), Text("none", "dim"))
            continue
        signed = register - 0x10000 if register & 0x8000 else register
        style = "yellow" if at in changed else ""
        numbers = [Text(word, style) for word in (f"{register:04X}", str(register), str(signed))]
        pair = [each for each in registers[i : i + 2] if each is not None]
        if len(pair) < 2:
            view.add_row(str(at), str(one), *numbers)
            continue
        view.add_row(str(at), str(one), *numbers, Text("f32", "dim"), *_floats(pair))
        view.add_row("", "", "", "", "", Text("s32", "dim"), *_integers(pair))
    return view


def _floats(pair: Sequence[int]) -> list[Text]:
    return [_float(order, pair) for order in fields.ORDERS]


def _float(order: str, pair: Sequence[int]) -> Text:
    value = fields.decode(fields.Form("f32", order), fields.registers_to_bytes(pair))
    if not isinstance(value, float) or not math.isfinite(value):
        return Text("nan", "dim")
    return Text(f"{value:.4g}"[:WIDTH_FLOAT], "bold green" if is_likely(value) else "dim")


def _integers(pair: Sequence[int]) -> list[Text]:
    data = fields.registers_to_bytes(pair)
    return [Text(str(fields.decode(fields.Form("s32", order), data))) for order in fields.ORDERS]


def value_of(kind: str, order: str, registers: Sequence[int], scale: float = 1.0) -> fields.Value | None:
    """The number that `registers` hold, read so."""
    return fields.decode(fields.Form(kind, order, scale=scale), fields.registers_to_bytes(registers))


def pick(
    file: Path,
    function: str,
    address: int,
    kind: str,
    order: str,
    measurand: str,
    *,
    scale: float = 1.0,
    name: str = "",
) -> str:
    """Write a point into the profile `file`, which is made when missing. Returns the point as it stands there."""
    known = registry().by_name
    if measurand not in known:
        from difflib import get_close_matches

        near = get_close_matches(measurand, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise GatewayError(
            f"there is no measurand '{measurand}': protocols/measurands.toml has them all.{hint}"
        )
    if not file.parent.is_dir():
        raise GatewayError(f"{file}: there is no folder {file.parent}. Make it: mkdir -p {file.parent}")
    if not re.fullmatch(NAME, file.name):
        raise GatewayError(
            f"{file.name}: no name for a profile. Allowed are a-z, 0-9, '_' and '-', and .toml at the end."
        )
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else _skeleton(file)
        document = tomlkit.parse(text)
    except (OSError, UnicodeDecodeError, TOMLKitError) as exc:
        raise GatewayError(f"{file}: cannot be read: {exc}.") from exc
    modbus = document.setdefault("modbus", tomlkit.table())
    points = modbus.setdefault("point", tomlkit.aot())
    if not isinstance(points, AoT):
        raise GatewayError(f"{file}: modbus.point is no array of tables; write [[modbus.point]].")
    point = tomlkit.table()
    point.update({"measurand": measurand, **({"name": name} if name else {}), "unit": known[measurand].unit})
    base = int(modbus.get("base", 0))
    point.update({"function": function, "address": address + base, "type": kind})
    if order != str(modbus.get("order", "ABCD")):
        point["order"] = order
    if scale != 1.0:
        point["scale"] = scale
    points.append(point)
    written = tomlkit.dumps(document)
    parse(written.encode(), str(file))  # what would be refused later is refused now, and nothing is written
    try:
        file.write_text(written, encoding="utf-8")
    except OSError as exc:
        raise GatewayError(f"{file}: cannot be written: {exc.strerror}.") from exc
    return "[[modbus.point]]\n" + point.as_string()


def _skeleton(file: Path) -> str:
    return (
        f'title = "{file.stem}"\nvendor = "to be filled in"\nmodel = "to be filled in"\n'
        'sources = ["found by looking at the device"]\nchecked = "nothing but one device"\n\n[modbus]\n'
    )
