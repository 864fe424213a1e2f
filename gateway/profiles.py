"""Device profiles: what a model of device has to say and how it is asked, as data (protocols/devices/*.toml).

A profile says it for one way of talking: [modbus], [gatt], [bthome] or [advert]. The models below are the one place
where a key, its default, its bounds and its explanation live; profile_check.py finds what contradicts itself, and
says it with file:line. protocols/devices/README.md is the recipe for adding one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from gateway.config_types import ARRAY, Baud, Section, allowed
from protocols import fields
from protocols.fields import Form

COIL, DISCRETE, INPUT, HOLDING = "coil", "discrete", "input", "holding"
BIT_FUNCTIONS = (COIL, DISCRETE)
# What the wire allows in one answer (Modbus Application Protocol V1.1b3, 6.1 to 6.4).
READ_REGISTERS_MAX = 125
READ_BITS_MAX = 2000

PointName = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9_]{0,47}$",
        json_schema_extra=allowed("1 to 48 of a-z, 0-9, '_', beginning with a letter"),
    ),
]
Text = Annotated[str, Field(min_length=1, max_length=400)]
Pair = Annotated[
    tuple[float, float], ARRAY, Field(json_schema_extra=allowed("two numbers, the lower one first"))
]
Function = Literal["coil", "discrete", "input", "holding"]
Order = Literal["ABCD", "CDAB", "BADC", "DCBA"]
RegisterType = Literal["bit", "u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64", "bcd"]
ByteType = Literal[
    "u8", "s8", "u16", "s16", "u24", "s24", "u32", "s32", "u64", "s64", "f32", "f64"
]  # fmt: skip
Uuid = Annotated[
    str,
    Field(
        pattern=r"^([0-9a-f]{4}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$",
        json_schema_extra=allowed("a Bluetooth UUID in lower case: four hex digits, or all 32 with dashes"),
    ),
]
_UUID_BASE = "0000{}-0000-1000-8000-00805f9b34fb"


def full_uuid(uuid: str) -> str:
    """All 128 bits of a UUID."""
    return _UUID_BASE.format(uuid) if len(uuid) == 4 else uuid


class Writable(Section):
    """What may be written to a point, in its unit."""

    min: float = Field(description="the lowest value that is ever written")
    max: float = Field(description="the highest one")


class Point(Section):
    """One quantity of a device; value = raw * scale + offset, in `unit`."""

    measurand: str = Field(
        min_length=1,
        max_length=64,
        description="what it is, by its name in the measurand registry",
        json_schema_extra=allowed("a measurand of protocols/measurands.toml"),
    )
    unit: str = Field(
        max_length=32, description="unit of the value after scale and offset: that of the measurand"
    )
    name: PointName | None = Field(
        None, description="where a device has the measurand more than once, such as voltage_l1"
    )
    scale: float = Field(1.0, description="raw number to unit")
    offset: float = Field(0.0, description="added after the scale")
    decimals: int | None = Field(None, ge=0, le=6, description="kept decimals; default: the measurand's")
    range: Pair | None = Field(
        None, description="what the device can report at all: outside is FAIL; default: the measurand's"
    )
    suspect: Pair | None = Field(None, description="outside is SUSPECT; default: no such test")
    trend: bool = Field(
        True,
        description="false where it may change faster, or stand still longer, than the measurand's registry has it",
    )
    invalid: Annotated[tuple[int, ...], ARRAY] = Field(
        (), max_length=8, description="raw numbers by which the device says that it has no value"
    )

    @property
    def key(self) -> str:
        """Its name within the device."""
        return self.name or self.measurand


class FieldPoint(Point):
    """A point in bytes that a device sends."""

    at: int = Field(0, ge=0, le=255, description="byte where it begins")
    type: ByteType = Field(description="number type")
    order: Order = Field("DCBA", description="DCBA is least significant byte first, as Bluetooth has it")
    bits: Annotated[tuple[int, int], ARRAY] | None = Field(
        None, description="[lowest bit, how many] of a bit field", json_schema_extra=allowed("two integers")
    )

    @cached_property
    def form(self) -> Form:
        """How its bytes are read."""
        return Form(self.type, self.order, self.bits, self.scale, self.offset, self.invalid)

    def value(self, data: bytes) -> fields.Value | None:
        """The value in what was sent; None when it has none. FieldError: too short."""
        return fields.decode(self.form, data[self.at : self.at + self.form.length])


class Register(Section):
    """Where a number is in a Modbus device, and in which form."""

    function: Function = Field(description="coil (01), discrete (02), input (04) or holding (03)")
    address: int = Field(
        ge=0,
        le=499_999,
        description="of its first register, counted from modbus.base",
        json_schema_extra=allowed("an integer from 0 to 65535, or 1 to 65536 with base = 1"),
    )
    order: Order | None = Field(None, description="default: modbus.order")
    count: int | None = Field(
        None, ge=1, le=READ_REGISTERS_MAX, description="registers; only bcd and string need it"
    )


class IdentityRegister(Register):
    """A register that tells which device this is: serial number, version, model."""

    name: PointName = Field(description="such as serial or version")
    type: Literal["u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64", "bcd", "string"] = Field(
        description="string or a number type"
    )
    expect: str | int | None = Field(None, description="what this model always says; told when it differs")


class Identification(Section):
    """What a device says of itself when it is asked who it is (function 43/14); each begins so, in any case."""

    vendor: str = Field("", max_length=244, description="its vendor name")
    product: str = Field("", max_length=244, description="its product code")


class ModbusPoint(Point, Register):
    """One quantity in registers, or a coil."""

    type: RegisterType = Field(description="number type; bit for coils and discrete inputs")
    bits: Annotated[tuple[int, int], ARRAY] | None = Field(
        None,
        description="[lowest bit, how many] of a bit field",
        json_schema_extra=allowed("two integers: the lowest bit and how many"),
    )
    period_s: float | None = Field(
        None, ge=0.1, le=86_400, description="how often it is read; default: modbus.period_s"
    )
    writable: Writable | None = Field(None, description="{ min, max } where it may be written")


class Step(Section):
    """One request of a start or stop sequence, as odd as the device wants it."""

    do: Literal["read", "write"] = Field(description="read or write")
    function: Function = Field("holding", description="which table")
    address: int = Field(ge=0, le=499_999, description="counted from modbus.base")
    count: int = Field(1, ge=0, le=READ_REGISTERS_MAX, description="of a read; some devices want 0")
    values: Annotated[tuple[int, ...], ARRAY] = Field((), max_length=123, description="of a write")


class SerialDefaults(Section):
    """How the device leaves the factory."""

    baud: Baud = Field(9600, description="bits per second")
    parity: Literal["none", "even", "odd"] = Field("none", description="parity bit")
    stop_bits: Literal[1, 2] = Field(1, description="stop bits")


class ModbusProfile(Section):
    """A device that is asked by Modbus."""

    base: Literal[0, 1] = Field(
        0, description="0: addresses as on the wire; 1: as manuals that call the first register 1"
    )
    order: Order = Field("ABCD", description="byte order of numbers wider than one register")
    unit_id: int = Field(1, ge=1, le=247, description="unit id from the factory")
    serial: SerialDefaults = Field(
        SerialDefaults.model_validate({}), description="line settings from the factory"
    )
    period_s: float = Field(60.0, ge=0.1, le=86_400, description="how often points are read")
    timeout_ms: int = Field(500, ge=20, le=30_000, description="how long it may take to begin its answer")
    gap_ms: float = Field(
        0.0, ge=0, le=10_000, description="silence it needs between an answer and the next request"
    )
    max_registers: int = Field(READ_REGISTERS_MAX, ge=1, le=READ_REGISTERS_MAX, description="per read")
    max_bits: int = Field(READ_BITS_MAX, ge=1, le=READ_BITS_MAX, description="coils per read")
    max_hole: int = Field(
        READ_REGISTERS_MAX,
        ge=0,
        le=READ_REGISTERS_MAX,
        description="unwanted registers between two points of one read",
    )
    mask_write: bool = Field(
        False, description="true: it has function 22, by which bit fields of one register are written"
    )
    warm_up_s: float = Field(0.0, ge=0, le=3600, description="after start, until values are good")
    wipe_s: float = Field(
        0.0, ge=0, le=3600, description="after start, while a wiper runs and nothing is read"
    )
    keep_running: bool = Field(True, description="false: start before each reading, stop after it")
    start: Annotated[tuple[Step, ...], ARRAY] = Field((), max_length=8, description="before measuring")
    stop: Annotated[tuple[Step, ...], ARRAY] = Field((), max_length=8, description="after measuring")
    identity: Annotated[tuple[IdentityRegister, ...], ARRAY] = Field((), max_length=16)
    identification: Identification | None = Field(
        None, description="{ vendor, product } as the device says them itself (function 43/14), for bus scan"
    )
    point: Annotated[tuple[ModbusPoint, ...], ARRAY] = Field(min_length=1, max_length=256)

    def wire_address(self, register: Register | Step) -> int:
        """The address as a request carries it."""
        return register.address - self.base

    def length(self, register: Register) -> int:
        """Registers (or coils) that it takes."""
        if register.function in BIT_FUNCTIONS:
            return 1
        kind = getattr(register, "type", "u16")
        return register.count or max(1, fields.SIZES.get(kind, 2) // 2)

    def form(self, register: ModbusPoint | IdentityRegister) -> Form:
        """How its registers are read and written; a coil has none."""
        order = register.order or self.order
        if isinstance(register, IdentityRegister):
            size = 2 * self.length(register) if register.type in ("bcd", "string") else 0
            return Form(register.type, order, size=size)
        size = 2 * self.length(register) if register.type == "bcd" else 0
        return Form(
            register.type, order, register.bits, register.scale, register.offset, register.invalid, size
        )


class GattPoint(FieldPoint):
    """One quantity in a characteristic."""

    characteristic: Uuid = Field(description="its UUID")
    service: Uuid | None = Field(None, description="default: gatt.service")
    mode: Literal["read", "notify"] = Field("read", description="read: asked for; notify: sent by itself")
    period_s: float | None = Field(None, ge=1, le=86_400, description="of read; default: gatt.period_s")
    writable: Writable | None = Field(None, description="{ min, max } where it may be written")


class GattProfile(Section):
    """A Bluetooth device that is connected to."""

    service: Uuid = Field(description="UUID of the service")
    period_s: float = Field(60.0, ge=1, le=86_400, description="how often characteristics are read")
    stay_connected: bool = Field(False, description="true: hold the connection; needed for notify")
    point: Annotated[tuple[GattPoint, ...], ARRAY] = Field(min_length=1, max_length=64)


class BthomePoint(Point):
    """One object of a BTHome v2 advert. The value is that of the BTHome format, times scale, plus offset."""

    object: int = Field(ge=1, le=255, description="object id, such as 0x02 for temperature")
    index: int = Field(0, ge=0, le=15, description="which one, where an advert has several of this id")


class BthomeProfile(Section):
    """A Bluetooth device that advertises in the BTHome v2 format, plain, or encrypted where it has a key_file."""

    point: Annotated[tuple[BthomePoint, ...], ARRAY] = Field(min_length=1, max_length=64)


class AdvertProfile(Section):
    """A Bluetooth device that advertises in a layout of its own."""

    company: int | None = Field(None, ge=0, le=65_535, description="company id of its manufacturer data")
    service: Uuid | None = Field(None, description="UUID of its service data")
    prefix: str = Field(
        "",
        pattern=r"^([0-9a-f]{2}){0,16}$",
        description="hex digits that the data begins with",
        json_schema_extra=allowed("up to 32 hex digits in lower case, two for each byte"),
    )
    length: int = Field(ge=1, le=255, description="bytes of the data")
    address_at: int | None = Field(
        None,
        ge=0,
        le=249,
        description="byte where the device's own address stands, six bytes as printed: it is known by that, however "
        "it advertises",
    )
    sequence: FieldPointPlace | None = Field(None, description="{ at, type } of a counter of measurements")
    point: Annotated[tuple[FieldPoint, ...], ARRAY] = Field(min_length=1, max_length=64)

    def matches(self, data: bytes) -> bool:
        """Whether this is data of such a device."""
        return len(data) == self.length and data.startswith(bytes.fromhex(self.prefix))


class FieldPointPlace(Section):
    """Where a plain number stands."""

    at: int = Field(ge=0, le=255, description="byte where it begins")
    type: ByteType = Field(description="number type")
    order: Order = Field("DCBA", description="byte order")

    def value(self, data: bytes) -> int:
        """The number."""
        form = Form(self.type, self.order)
        value = fields.decode(form, data[self.at : self.at + form.length])
        return int(value) if isinstance(value, (int, float)) else 0


class Profile(Section):
    """One model of device."""

    title: Text = Field(description="maker, model and what it is")
    vendor: Text = Field(description="who makes it")
    model: Text = Field(description="the model as its label has it")
    sources: Annotated[tuple[Text, ...], ARRAY] = Field(
        min_length=1,
        max_length=8,
        description="manual, datasheet or standard, with version",
        json_schema_extra=allowed("an array of 1 to 8 texts"),
    )
    checked: Text = Field(description="what the map was compared with, and what was left out")
    modbus: ModbusProfile | None = Field(None)
    gatt: GattProfile | None = Field(None)
    bthome: BthomeProfile | None = Field(None)
    advert: AdvertProfile | None = Field(None)

    @property
    def points(self) -> tuple[Point, ...]:
        """Every point it has, in the order of the file."""
        return tuple(point for part in self.parts() for point in part.point)

    def parts(self) -> Iterator[ModbusProfile | GattProfile | BthomeProfile | AdvertProfile]:
        """The ways of talking it describes; profile_check.py allows one."""
        for part in (self.modbus, self.gatt, self.bthome, self.advert):
            if part is not None:
                yield part

    @property
    def source(self) -> str:
        """The kind of link it needs."""
        return "modbus" if self.modbus is not None else "ble"


AdvertProfile.model_rebuild()
