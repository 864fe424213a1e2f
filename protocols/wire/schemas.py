"""What a set of readings holds, and the words readings and batch share: flags, time qualities, Schema, Sets.

The registry itself is data: registry_table.py here, measurands.toml with everything a person wants to know.
"""

from collections import namedtuple

from protocols.wire.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Series(NamedTuple):
        """One measurand as the codec sees it: value = number on the wire / 10**decimals."""

        name: str
        decimals: int
        centre: int
        order: int

    class Schema(NamedTuple):
        id: int
        name: str
        series: tuple[Series, ...]
        codes: list[tuple[int, int, int]]  # for readings.decode, which fills it: a node has no use for it
        min_bits: int  # of a single set that is all GOOD

    class Sets(NamedTuple):
        """``times`` in seconds, one per set; ``rows`` integers, None when missing; ``flags`` None: all GOOD."""

        tq: int
        times: tuple[int, ...]
        rows: tuple[tuple[int | None, ...], ...]
        flags: tuple[tuple[int, ...], ...] | None

else:
    Series = namedtuple("Series", ("name", "decimals", "centre", "order"))
    Schema = namedtuple("Schema", ("id", "name", "series", "codes", "min_bits"))
    Sets = namedtuple("Sets", ("tq", "times", "rows", "flags"))

# Time quality, the first two bits of a body.
GNSS = 0
SYNCHRONISED = 1
RTC_HOLDOVER = 2
UNSYNCHRONISED = 3  # times are seconds since boot; the gateway places them

# QARTOD quality flags, in the order in which they are coded.
GOOD = 1
UNKNOWN = 2
SUSPECT = 3
FAIL = 4
MISSING = 9
FLAGS = (GOOD, UNKNOWN, SUSPECT, FAIL, MISSING)


class UnknownSchema(DecodeError):
    """A schema id that this registry does not have: the sender is newer than we are."""


_loaded: "dict[int, Schema]" = {}


def schema(schema_id: int) -> "Schema":
    """The schema of that id; the same object every time."""
    found = _loaded.get(schema_id)
    return _load(schema_id) if found is None else found


def _load(schema_id: int) -> "Schema":
    from protocols.wire import registry_table  # here, so that a node can forget it once it has its schema

    entry = registry_table.SCHEMAS.get(schema_id)
    if entry is None:
        known = ", ".join([str(known) for known in sorted(registry_table.SCHEMAS)])
        raise UnknownSchema(
            "schema id %s is not in this registry (it has %s): update the registry" % (schema_id, known)
        )
    return define(
        schema_id, entry[0], [Series(*registry_table.MEASURANDS[measurand]) for measurand in entry[1]]
    )


def define(schema_id: int, name: str, of_series: "list[Series]") -> "Schema":
    """Make a schema known under its id."""
    series = tuple(of_series)
    _loaded[schema_id] = Schema(schema_id, name, series, [], 4 + sum([s.order + 1 for s in series]))
    return _loaded[schema_id]
