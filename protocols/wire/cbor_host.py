"""cbor2 for the one shape that a gateway decodes all day: a flat array of integers, byte strings and nulls.

The fast path may only say yes. Whatever it does not take goes to the portable decoder, which has the last
word and writes the error: so both accept and refuse the same bytes, and `loads` here is only sooner done.

cbor2 accepts non-shortest forms. But an item with neither tags nor indefinite lengths has exactly one
shortest form and every other form is longer: data is deterministic if and only if it is as long as the
shortest form of what was read.

A declared length costs nothing here either, but for a buffer of 64 KiB in which cbor2 begins to read a long string; the
portable decoder does not even have that.

There is no fast `dumps`: with the type checks that SPEC.md asks for, cbor2's encoder is no faster than the
portable one on messages of this size (1.6 and 1.7 µs for an ack).
"""

from typing import Any

import cbor2

from protocols.wire import cbor_portable
from protocols.wire.limits import MAX_FRAME

dumps = cbor_portable.dumps


def _refuse(*_: object) -> object:
    raise cbor2.CBORDecodeError("tags are not used")


# Every tag that cbor2 would act upon; others come back as a CBORTag, which _shortest_length does not know.
_TAGS = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)
_REFUSED_TAGS = {tag: _refuse for tag in _TAGS}


def loads(data: bytes) -> Any:
    """As cbor_portable.loads."""
    if data and 0x80 <= data[0] <= 0x97 and len(data) <= MAX_FRAME:
        try:
            items = cbor2.loads(data, semantic_decoders=_REFUSED_TAGS, allow_indefinite=False, max_depth=2)
        except cbor2.CBORError:
            return cbor_portable.loads(data)
        if _shortest_length(items) == len(data):
            return items
    return cbor_portable.loads(data)


def _shortest_length(items: object) -> int:
    """Bytes of a flat array of at most 23 items in its shortest form; 0 when it is another shape."""
    if type(items) is not list:
        return 0
    size = 1
    for item in items:
        kind = type(item)
        if kind is int:
            if item < 0:
                item = -1 - item
            size += (
                1 if item < 24 else 2 if item < 0x100 else 3 if item < 0x10000 else 5 if item < 1 << 32 else 9
            )
        elif kind is bytes:
            length = len(item)
            size += length + (1 if length < 24 else 2 if length < 0x100 else 3)
        elif item is None:
            size += 1
        else:
            return 0
    return size
