"""What a profile may not say although every key of it is allowed: contradictions, with the key and a way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from gateway.config_errors import Problem
from gateway.profiles import (
    BIT_FUNCTIONS,
    HOLDING,
    INPUT,
    AdvertProfile,
    BthomeProfile,
    FieldPoint,
    GattProfile,
    ModbusPoint,
    ModbusProfile,
    Point,
    Profile,
    Register,
    Step,
    Writable,
)
from gateway.toml_lines import Path
from protocols import fields
from protocols.measurands import registry
from protocols.wire.limits import MAX_VALUE

_PARTS = ("modbus", "gatt", "bthome", "advert")
# From one unit to another of the same quantity: what a maker counts in, and what the registry does.
_FACTORS = {
    ("m", "cm"): 100.0, ("mm", "cm"): 0.1, ("cm", "mm"): 10.0, ("m", "mm"): 1000.0, ("mm", "m"): 0.001,
    ("cm", "m"): 0.01, ("Pa", "kPa"): 0.001, ("hPa", "kPa"): 0.1, ("bar", "kPa"): 100.0, ("mbar", "kPa"): 0.1,
    ("MPa", "kPa"): 1000.0, ("Pa", "hPa"): 0.01, ("kPa", "hPa"): 10.0, ("mbar", "hPa"): 1.0, ("kW", "W"): 1000.0,
    ("Wh", "kW.h"): 0.001, ("kWh", "kW.h"): 1.0, ("MWh", "kW.h"): 1000.0, ("mV", "V"): 0.001, ("kV", "V"): 1000.0,
    ("V", "mV"): 1000.0, ("mA", "A"): 0.001, ("A", "mA"): 1000.0, ("mS/cm", "uS/cm"): 1000.0,
    ("S/m", "uS/cm"): 10_000.0, ("kvar", "var"): 1000.0, ("kVA", "V.A"): 1000.0, ("VA", "V.A"): 1.0,
    ("m3/h", "m3/s"): 1 / 3600, ("L/s", "m3/s"): 0.001, ("l/s", "m3/s"): 0.001, ("ppm", "mg/L"): 1.0,
    ("ppm", "[ppm]"): 1.0, ("NTU", "{NTU}"): 1.0, ("FNU", "{NTU}"): 1.0, ("pH", "[pH]"): 1.0, ("°C", "Cel"): 1.0,
    ("C", "Cel"): 1.0, ("degC", "Cel"): 1.0, ("dB", "dB[SPL]"): 1.0, ("dBA", "dB[SPL]"): 1.0, ("rpm", "/min"): 1.0,
}  # fmt: skip
# They say by themselves that they have no value.
_NOT_RAW = ("f32", "f64", "string")


def problems(profile: Profile) -> Iterator[Problem]:
    """Everything that is wrong with a profile whose keys are all allowed."""
    there = [name for name in _PARTS if getattr(profile, name) is not None]
    if len(there) != 1:
        found = " and ".join(f"[{name}]" for name in there) or "none"
        yield Problem(
            (there[1],) if there else ("title",),
            f"a profile describes one way of talking, and here is {found}. Needed is one of [modbus], [gatt], "
            "[bthome], [advert]; a device that talks two ways has two profiles.",
        )
        return
    for name, text in (("title", profile.title), ("vendor", profile.vendor), ("model", profile.model)):
        if not text.isprintable():
            yield Problem((name,), "holds a character that no screen shows: a control or a direction mark.")
    where: Path = (there[0], "point")
    keys: dict[str, int] = {}
    for index, point in enumerate(profile.points):
        yield from _check_point((*where, index), point)
        if point.key in keys:
            yield Problem(
                (*where, index, "name" if point.name else "measurand"),
                f'"{point.key}" is already what point {keys[point.key] + 1} is called: give one of them a name, '
                f'such as name = "{point.key}_{index + 1}".',
            )
        keys.setdefault(point.key, index)
    if profile.modbus is not None:
        yield from _check_modbus(profile.modbus)
    if profile.gatt is not None:
        yield from _check_gatt(profile.gatt)
    if profile.advert is not None:
        yield from _check_advert(profile.advert)
    if profile.bthome is not None:
        yield from _check_bthome(profile.bthome)


# --- any point --------------------------------------------------------------------------------------------------------


def _check_point(path: Path, point: Point) -> Iterator[Problem]:
    known = registry().by_name
    measurand = known.get(point.measurand)
    if measurand is None:
        near = difflib.get_close_matches(point.measurand.lower(), known, n=1, cutoff=0.5)
        same_unit = [name for name, one in known.items() if one.unit == point.unit]
        hint = f' Did you mean "{near[0]}"?' if near else ""
        if not near and same_unit:
            hint = f" In {point.unit} there are: {', '.join(same_unit[:8])}."
        yield Problem(
            (*path, "measurand"),
            f'"{point.measurand}" is not in the measurand registry (protocols/measurands.toml).{hint}',
        )
        return
    if point.unit != measurand.unit:
        yield Problem((*path, "unit"), _unit_hint(point, measurand.unit))
    for name in ("range", "suspect"):
        pair = getattr(point, name)
        if pair is not None and pair[0] >= pair[1]:
            yield Problem((*path, name), f"[{pair[0]:g}, {pair[1]:g}]: the lower number goes first.")
    yield from _check_span(path, point)
    if point.scale == 0:
        yield Problem((*path, "scale"), "0 makes every value the same. Allowed is any other number.")
    decimals = measurand.decimals if point.decimals is None else point.decimals
    top = max(abs(end) for end in point.range or measurand.range)
    if top * 10**decimals > MAX_VALUE:
        fits = max((d for d in range(decimals) if top * 10**d <= MAX_VALUE), default=0)
        yield Problem(
            (*path, "decimals" if point.decimals is not None else "range"),
            f"{top:g} with {decimals} decimals is more than a record holds ({MAX_VALUE} steps). "
            f"Keep decimals = {fits}, or a narrower range.",
        )


def _check_span(path: Path, point: Point) -> Iterator[Problem]:
    """Whether range and suspect leave anything, and what may be written is in them."""
    if point.range is not None and point.suspect is not None:
        low, high = point.suspect
        if low >= point.range[1] or high <= point.range[0]:
            yield Problem(
                (*path, "suspect"),
                f"[{low:g}, {high:g}] has nothing of range, [{point.range[0]:g}, {point.range[1]:g}]: every value "
                "would be suspect.",
            )
    limits: Writable | None = getattr(point, "writable", None)
    if limits is not None and point.range is not None:
        low, high = point.range
        if limits.min <= limits.max and (limits.min < low or limits.max > high):
            yield Problem(
                (*path, "writable"),
                f"{limits.min:g} to {limits.max:g} is more than range allows, {low:g} to {high:g}: what was written "
                "would be read back as FAIL.",
            )


def _check_reach(path: Path, point: Point, ends: tuple[float, float]) -> Iterator[Problem]:
    """Whether the type, with scale and offset, has any value within the range."""
    measurand = registry().by_name.get(point.measurand)
    if measurand is None or point.scale == 0:
        return
    low, high = point.range or measurand.range
    if low < high and (ends[1] < low or ends[0] > high):
        name = "range" if point.range is not None else "scale"
        yield Problem(
            (*path, name),
            f"values go from {ends[0]:g} to {ends[1]:g} {point.unit}, and allowed are {low:g} to {high:g}: each would "
            "be FAIL. Is scale or offset another?",
        )


def _unit_hint(point: Point, unit: str) -> str:
    if point.unit.lower() == unit.lower():
        return f'"{point.unit}" is not the unit of {point.measurand}: write unit = "{unit}"; units know capitals.'
    text = f'"{point.unit}" is not the unit of {point.measurand}, which is "{unit}".'
    factor = _FACTORS.get((point.unit, unit))
    if factor is None:
        return f"{text} Write scale and offset so that the value is in {unit}, or choose another measurand."
    scale = point.scale * factor
    if factor == 1:
        return f'{text} Write unit = "{unit}": it is the same.'
    return f'{text} Write unit = "{unit}" and scale = {scale:g}.'


def _check_bits(path: Path, type_: str, bits: tuple[int, int] | None) -> Iterator[Problem]:
    if bits is None:
        return
    low, width = bits
    if type_[0] != "u":
        yield Problem(
            (*path, "bits"), f"a bit field stands in an unsigned number, and the type is {type_}: u16, say."
        )
    elif low < 0 or width < 1 or low + width > 8 * fields.SIZES[type_]:
        size = 8 * fields.SIZES[type_]
        yield Problem(
            (*path, "bits"), f"[{low}, {width}] is not within the {size} bits of a {type_} (0 to {size - 1})."
        )


def _check_invalid(path: Path, form: fields.Form) -> Iterator[Problem]:
    """A raw number that the type can not hold would never be met, and the value that it stands for be believed."""
    if form.type in _NOT_RAW:
        return
    low, high = fields.raw_limits(form)
    for raw in form.invalid:
        if not low <= raw <= high:
            told = f"{raw} is no raw number of this point: {low} to {high} are."
            yield Problem(
                (*path, "invalid"),
                told + (f" Is {raw - (1 << 8 * form.length)} meant?" if low < 0 <= raw else ""),
            )


# --- Modbus -----------------------------------------------------------------------------------------------------------


def _check_modbus(part: ModbusProfile) -> Iterator[Problem]:
    registers: list[tuple[Path, Register]] = [
        (("modbus", "point", index), point) for index, point in enumerate(part.point)
    ]
    registers += [(("modbus", "identity", index), each) for index, each in enumerate(part.identity)]
    for path, register in registers:
        yield from _check_register(path, part, register)
    for name in ("start", "stop"):
        for index, step in enumerate(getattr(part, name)):
            yield from _check_step(("modbus", name, index), part, step)
    named: set[str] = set()
    for index, each in enumerate(part.identity):
        if each.name in named:
            yield Problem(("modbus", "identity", index, "name"), f'"{each.name}" stands twice: rename one.')
        named.add(each.name)
        if each.expect is not None and isinstance(each.expect, str) != (each.type == "string"):
            wanted = "a text in quotes" if each.type == "string" else "a whole number without quotes"
            yield Problem(
                ("modbus", "identity", index, "expect"), f"a {each.type} says {wanted}, never this."
            )
    said = part.identification
    if said is not None and not (said.vendor or said.product):
        yield Problem(
            ("modbus", "identification"),
            "needs vendor, product or both: what the device begins with when it is asked who it is.",
        )
    yield from _overlaps(part)
    if part.wipe_s and not part.start:
        yield Problem(("modbus", "wipe_s"), "a wiper is started by something: [[modbus.start]] is missing.")
    if part.warm_up_s and not part.start:
        yield Problem(
            ("modbus", "warm_up_s"), "counts from the start of the device: [[modbus.start]] is missing."
        )
    if not part.keep_running and not (part.start and part.stop):
        yield Problem(
            ("modbus", "keep_running"),
            "false starts the device before each reading and stops it after: needed are [[modbus.start]] and "
            "[[modbus.stop]].",
        )


def _check_step(path: Path, part: ModbusProfile, step: Step) -> Iterator[Problem]:
    """One request of a start or stop sequence."""
    length = len(step.values) if step.do == "write" else step.count
    if step.address < part.base or part.wire_address(step) + max(1, length) > 65_536:
        yield Problem((*path, "address"), _address_hint(part, step.address, step.function))
    if step.do == "read" and step.values:
        yield Problem((*path, "values"), 'a read has none; did you mean do = "write"?')
    if step.do == "read":
        return
    if not step.values:
        yield Problem(path, "a write needs values = [ … ].")
    if step.count != 1:
        yield Problem((*path, "count"), "is of a read: a write writes as many as values has. Leave it away.")
    if step.function not in (HOLDING, "coil"):
        yield Problem((*path, "function"), f"{step.function} cannot be written: coil and holding can.")
    top = 1 if step.function == "coil" else 0xFFFF
    for value in step.values:
        if not 0 <= value <= top:
            meant = f" Is {value + 0x10000} meant?" if -0x8000 <= value < 0 and top > 1 else ""
            yield Problem(
                (*path, "values"), f"{value} does not go into a {step.function}: 0 to {top} do.{meant}"
            )
            break


def _check_register(path: Path, part: ModbusProfile, register: Register) -> Iterator[Problem]:
    kind: str = getattr(register, "type", "u16")
    is_bit = register.function in BIT_FUNCTIONS
    if is_bit != (kind == "bit"):
        allowed = 'type = "bit"' if is_bit else "a number type, with bits = [ … ] for one bit of it"
        yield Problem((*path, "type"), f'"{kind}" does not go with {register.function}: needed is {allowed}.')
        return
    length = part.length(register)
    if not is_bit:
        yield from _check_length(path, part, register, kind, length)
        order = register.order or part.order
        if register.order is not None and fields.SIZES.get(kind) == 2 and order in ("CDAB", "DCBA"):
            meant = "ABCD" if order == "CDAB" else "BADC"
            yield Problem(
                (*path, "order"),
                f'{order} swaps words, and a {kind} has one: write "{meant}", which reads it the same.',
            )
    first = part.wire_address(register)
    if first < 0 or first + length > 65536:
        yield Problem((*path, "address"), _address_hint(part, register.address, register.function))
    if isinstance(register, ModbusPoint):
        yield from _check_bits(path, "u16" if is_bit else kind, None if is_bit else register.bits)
        if not is_bit and kind in fields.SIZES:
            yield from _check_invalid(path, part.form(register))
        if is_bit and (register.bits is not None or register.scale != 1 or register.offset != 0):
            yield Problem(path, "a coil is 0 or 1: bits, scale and offset do not apply.")
        yield from _check_writable(path, part, register)
        if not is_bit and kind in fields.SIZES and (register.bits is None or kind[0] == "u"):
            yield from _check_reach(path, register, fields.limits(part.form(register)))


def _check_length(
    path: Path, part: ModbusProfile, register: Register, kind: str, length: int
) -> Iterator[Problem]:
    size = fields.SIZES.get(kind)
    if size is not None and register.count is not None and register.count != size // 2:
        same = [
            name for name in fields.SIZES if fields.SIZES[name] == 2 * register.count and name[0] == kind[0]
        ]
        also = f", or type {' or '.join(same)}" if same else ""
        yield Problem(
            (*path, "count"),
            f"a {kind} takes {size // 2} register{'s' if size > 2 else ''}, not {register.count}. "
            f"Leave count away{also}.",
        )
    if kind == "string" and register.count is None:
        yield Problem(path, "a string needs count: how many registers it takes.")
    if kind == "bcd" and length > 4:
        yield Problem((*path, "count"), f"{4 * length} digits are too many for a value: at most 4 registers.")
    if length > part.max_registers:
        yield Problem(path, f"takes {length} registers, and modbus.max_registers is {part.max_registers}.")


def _address_hint(part: ModbusProfile, address: int, function: str) -> str:
    if part.base and address < part.base:
        return f"{address} is before the first register, which is 1 with base = 1. Is base = 0 meant?"
    wide = {INPUT: 300_001, HOLDING: 400_001}.get(function, 100_001)
    if address >= wide:
        return f"{address}: write what follows the leading digit, {address - wide + part.base}."
    return f"{address} goes beyond 65535, the last register there is."


def _check_writable(path: Path, part: ModbusProfile, point: ModbusPoint) -> Iterator[Problem]:
    if point.writable is not None and point.function not in (HOLDING, "coil"):
        yield Problem(
            (*path, "writable"), f"{point.function} cannot be written: only coils and holding registers can."
        )
    ends = (0.0, 1.0) if point.type == "bit" else fields.limits(part.form(point))
    yield from _check_limits(path, point.writable, point.type, ends)


def _check_limits(
    path: Path, limits: Writable | None, type_: str, ends: tuple[float, float]
) -> Iterator[Problem]:
    """Whether what may be written can be."""
    if limits is None:
        return
    if limits.min > limits.max:
        yield Problem((*path, "writable", "min"), f"{limits.min:g} is above max, {limits.max:g}: swap them.")
    low, high = ends
    if limits.min < low or limits.max > high:
        yield Problem(
            (*path, "writable"),
            f"{limits.min:g} to {limits.max:g} is more than a {type_} can hold: {low:g} to {high:g}.",
        )


def _overlaps(part: ModbusProfile) -> Iterator[Problem]:
    """Points that share registers without being different bits of them."""
    taken: dict[tuple[str, int], list[int]] = {}
    for index, point in enumerate(part.point):
        is_told = False  # one of them is enough
        for address in range(point.address, point.address + part.length(point)):
            for other in taken.setdefault((point.function, address), []):
                if not is_told and not _apart(part.point[other], point):
                    is_told = True
                    yield _overlap(part, other, index)
            taken[point.function, address].append(index)


def _overlap(part: ModbusProfile, other: int, index: int) -> Problem:
    first, second = part.point[other], part.point[index]
    length = part.length(first)
    last = first.address + length - 1
    span = str(first.address) if length == 1 else f"{first.address} to {last}"
    hint = "" if second.address == first.address else f" The next free one is {last + 1}."
    if second.address == first.address and first.type == second.type and first.type != "bit":
        hint = " For parts of one register give both bits = [lowest, how many]."
    return Problem(
        ("modbus", "point", index, "address"),
        f"{second.address} overlaps {first.key}, whose {first.type} takes {first.function} {span}.{hint}",
    )


def _apart(one: ModbusPoint, other: ModbusPoint) -> bool:
    if one.bits is None or other.bits is None or (one.address, one.type) != (other.address, other.type):
        return False
    low, high = sorted((one.bits, other.bits))
    return low[0] + low[1] <= high[0]


# --- Bluetooth --------------------------------------------------------------------------------------------------------


def _check_gatt(part: GattProfile) -> Iterator[Problem]:
    for index, point in enumerate(part.point):
        path: Path = ("gatt", "point", index)
        yield from _check_bits(path, point.type, point.bits)
        yield from _check_invalid(path, point.form)
        yield from _check_limits(path, point.writable, point.type, fields.limits(point.form))
        yield from _check_reach(path, point, fields.limits(point.form))
        if point.mode == "notify" and not part.stay_connected:
            yield Problem((*path, "mode"), "notify needs gatt.stay_connected = true.")
        if point.mode == "notify" and point.period_s is not None:
            yield Problem(
                (*path, "period_s"), 'a device notifies when it wants to; did you mean mode = "read"?'
            )

    places = [(point.service or part.service, point.characteristic) for point in part.point]
    yield from _check_bytes("gatt", part.point, places)


def _check_bytes(kind: str, points: Sequence[FieldPoint], places: Sequence[object]) -> Iterator[Problem]:
    """Points in the same bytes of one place that are not different bits of one number."""
    for index, point in enumerate(points):
        for before in range(index):
            other = points[before]
            is_same = places[before] == places[index]
            touch = other.at < point.at + point.form.length and point.at < other.at + other.form.length
            if is_same and touch and not _apart_in_bytes(other, point):
                yield Problem(
                    (kind, "point", index, "at" if "at" in point.model_fields_set else "type"),
                    f"byte {point.at} overlaps {other.key}, whose {other.type} takes bytes {other.at} to "
                    f"{other.at + other.form.length - 1}. For parts of one number give both bits = [lowest, how many].",
                )
                break


def _apart_in_bytes(one: FieldPoint, other: FieldPoint) -> bool:
    if (
        one.bits is None
        or other.bits is None
        or (one.at, one.type, one.order) != (other.at, other.type, other.order)
    ):
        return False
    low, high = sorted((one.bits, other.bits))
    return low[0] + low[1] <= high[0]


def _check_bthome(part: BthomeProfile) -> Iterator[Problem]:
    from gateway.pollers.bthome import KINDS  # only a gateway that hears such devices pays for it

    first: dict[tuple[int, int], str] = {}
    for index, point in enumerate(part.point):
        path: Path = ("bthome", "point", index)
        if point.object not in KINDS:
            yield Problem(
                (*path, "object"),
                f"0x{point.object:02x} is no number of BTHome version 2. bthome.io/format lists them: 0x02 "
                "temperature, 0x03 humidity, 0x01 battery …",
            )
        which = (point.object, point.index)
        if which in first:
            yield Problem(
                (*path, "object"),
                f"0x{point.object:02x} with index {point.index} is {first[which]} already. The second one of an advert "
                "has index = 1.",
            )
        first.setdefault(which, point.key)


def _check_advert(part: AdvertProfile) -> Iterator[Problem]:
    if (part.company is None) == (part.service is None):
        yield Problem(
            ("advert",), "needed is company (manufacturer data) or service (service data), one of them."
        )
    places: list[tuple[Path, FieldPoint]] = [
        (("advert", "point", index), point) for index, point in enumerate(part.point)
    ]
    for path, point in places:
        yield from _check_bits(path, point.type, point.bits)
        yield from _check_invalid(path, point.form)
        yield from _check_reach(path, point, fields.limits(point.form))
        end = point.at + point.form.length
        if end > part.length:
            yield Problem(
                (*path, "at"),
                f"a {point.type} at {point.at} ends at {end}, and advert.length is {part.length}.",
            )
    yield from _check_bytes("advert", part.point, [None] * len(part.point))
    if len(part.prefix) // 2 > part.length:
        yield Problem(
            ("advert", "prefix"), f"is longer than the data, of which advert.length is {part.length}."
        )
    for path, point in places:
        if point.at < len(part.prefix) // 2:
            yield Problem(
                (*path, "at"),
                f"byte {point.at} is one of advert.prefix, which is always the same: {len(part.prefix) // 2} is the "
                "first after it.",
            )
    if part.sequence is not None and part.sequence.type[0] != "u":
        yield Problem(("advert", "sequence"), f"a counter is unsigned, and the type is {part.sequence.type}.")
    if part.address_at is not None and part.address_at + 6 > part.length:
        yield Problem(
            ("advert", "address_at"),
            f"an address at {part.address_at} ends at {part.address_at + 6}, and advert.length is {part.length}.",
        )
    if part.sequence is not None and part.sequence.at + fields.SIZES[part.sequence.type] > part.length:
        yield Problem(("advert", "sequence"), f"ends beyond advert.length, {part.length}.")
