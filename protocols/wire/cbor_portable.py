"""The subset of deterministic CBOR that SPEC.md section 2 allows, for every Python that we run on.

Strict in both directions: what `dumps` writes has one form only, and `loads` refuses every other form of it.
Nothing is allocated by a declared length; a length is compared with the bytes at hand first.
"""

from protocols.wire.errors import CborError, EncodeError
from protocols.wire.limits import MAX_DEPTH, MAX_FRAME, MAX_ITEMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from protocols.wire.errors import WireError

_ARRAY = 4
_MAP = 5
_TAG = 6
_FALSE = b"\xf4"
_TRUE = b"\xf5"
_NULL = b"\xf6"
_MAX_UINT = (1 << 64) - 1


def dumps(obj: object) -> bytes:
    """The one encoding of an int, bytes, str, list or tuple, dict, bool, None. EncodeError for anything
    else.
    """
    out = bytearray()
    _put(out, obj, MAX_DEPTH)
    if len(out) > MAX_FRAME:
        raise EncodeError("%d bytes of CBOR: a frame holds at most %d; split it" % (len(out), MAX_FRAME))
    return bytes(out)


def loads(data: bytes) -> "Any":
    """The value that data encodes; CborError unless data is exactly what `dumps` writes for it."""
    if not isinstance(data, bytes):
        data = bytes(data)
    end = len(data)
    if end > MAX_FRAME:
        raise CborError("%d bytes of CBOR: at most %d are allowed" % (end, MAX_FRAME))
    value, pos = _get(data, 0, MAX_DEPTH)
    if pos != end:
        raise CborError("%d bytes follow the end of the CBOR item" % (end - pos))
    return value


def _put(out: bytearray, obj: object, depth: int) -> None:
    if obj is None:
        out.extend(_NULL)
    elif isinstance(obj, bool):  # before int: a bool is one
        out.extend(_TRUE if obj else _FALSE)
    elif isinstance(obj, int):
        if obj < 0:
            _put_head(out, 0x20, -1 - obj)
        else:
            _put_head(out, 0x00, obj)
    elif isinstance(obj, (bytes, bytearray)):
        _put_head(out, 0x40, len(obj))
        out.extend(obj)
    elif isinstance(obj, str):
        text = _utf8(obj)
        _put_head(out, 0x60, len(text))
        out.extend(text)
    elif isinstance(obj, (list, tuple)):
        _check_container(obj, depth)
        _put_head(out, 0x80, len(obj))
        for item in obj:
            _put(out, item, depth - 1)
    elif isinstance(obj, dict):
        _check_container(obj, depth)
        _put_head(out, 0xA0, len(obj))
        _put_pairs(out, obj, depth - 1)
    else:
        raise EncodeError(
            "cannot encode a %s: allowed are int, bytes, str, list, dict, bool, None" % type(obj).__name__
        )


def _check_container(obj: "Any", depth: int) -> None:
    if not depth:
        raise EncodeError("nested deeper than %d" % MAX_DEPTH)
    if len(obj) > MAX_ITEMS:
        raise EncodeError("%d items in one array or map: at most %d are allowed" % (len(obj), MAX_ITEMS))


def _put_pairs(out: bytearray, obj: "dict[Any, Any]", depth: int) -> None:
    keys: "list[tuple[bytes, Any]]" = []
    for key in obj:
        # A bool or null key would be the same dict key as an integer on one side and another one on the wire.
        if isinstance(key, bool) or not isinstance(key, (int, str, bytes)):
            raise EncodeError("map key %r: allowed are int, str and bytes" % (key,))
        encoded = bytearray()
        _put(encoded, key, 0)
        keys.append((bytes(encoded), key))
    keys.sort(key=_first)  # bytewise by encoding: RFC 8949 section 4.2.1
    for encoded_key, key in keys:
        out.extend(encoded_key)
        _put(out, obj[key], depth)


def _first(pair: "tuple[bytes, Any]") -> bytes:
    return pair[0]


def _put_head(out: bytearray, major: int, arg: int) -> None:
    if arg < 24:
        out.append(major | arg)
    elif arg < 0x100:
        out.append(major | 24)
        out.append(arg)
    elif arg < 0x10000:
        out.append(major | 25)
        out.append(arg >> 8)
        out.append(arg & 0xFF)
    elif arg < 0x100000000:
        out.append(major | 26)
        out.extend(arg.to_bytes(4, "big"))
    elif arg <= _MAX_UINT:
        out.append(major | 27)
        out.extend(arg.to_bytes(8, "big"))
    else:
        raise EncodeError("integer beyond 64 bits: CBOR without tags holds -2**64 to 2**64 - 1")


def _get(data: bytes, pos: int, depth: int) -> "tuple[Any, int]":
    """The item at pos and the position after it. Every caller has checked nothing: pos may be the end."""
    end = len(data)
    if pos >= end:
        raise CborError("CBOR ends in the middle of an item")
    head = data[pos]
    pos += 1
    major = head >> 5
    if major == 7:
        return _simple(head), pos
    arg = head & 31
    if arg >= 24:
        arg, pos = _long_argument(data, pos, arg)
    if major == 0:
        return arg, pos
    if major == 1:
        return -1 - arg, pos
    if major == _TAG:
        raise CborError("CBOR tag %d: tags are not used" % arg)
    if arg > end - pos:  # an item takes a byte at least, a pair two
        raise CborError("declared length %d with %d bytes at hand" % (arg, end - pos))
    if major >= _ARRAY:
        return _container(data, pos, major, arg, depth)
    item = data[pos : pos + arg]
    return (item if major == 2 else _text(item)), pos + arg


def _simple(head: int) -> "bool | None":
    if head == 0xF6:
        return None
    if head == 0xF4:
        return False
    if head == 0xF5:
        return True
    raise CborError("CBOR initial byte 0x%02x: floats, simple values and breaks are not used" % head)


def _long_argument(data: bytes, pos: int, info: int) -> "tuple[int, int]":
    if info > 27:
        raise CborError("CBOR argument form %d: reserved or of indefinite length" % info)
    stop = pos + (1 << (info - 24))
    if stop > len(data):
        raise CborError("CBOR ends in the middle of an item")
    arg = int.from_bytes(data[pos:stop], "big")
    if arg < 24 or (info > 24 and not arg >> (4 << (info - 24))):
        raise CborError("CBOR argument %d is not in its shortest form" % arg)
    return arg, stop


def _container(data: bytes, pos: int, major: int, count: int, depth: int) -> "tuple[Any, int]":
    if not depth:
        raise CborError("CBOR nested deeper than %d" % MAX_DEPTH)
    if count > MAX_ITEMS:
        raise CborError("%d items in one array or map: at most %d are allowed" % (count, MAX_ITEMS))
    if major == _MAP:
        return _map(data, pos, count, depth - 1)
    items = []
    for _ in range(count):
        item, pos = _get(data, pos, depth - 1)
        items.append(item)
    return items, pos


def _map(data: bytes, pos: int, count: int, depth: int) -> "tuple[dict[Any, Any], int]":
    pairs: "dict[Any, Any]" = {}
    previous = b""
    for _ in range(count):
        start = pos
        key, pos = _get(data, pos, 0)
        if key is None or isinstance(key, bool):
            raise CborError("map key %s: allowed are integers and strings" % key)
        encoded = data[start:pos]
        if encoded <= previous:
            raise CborError("map key %r is repeated or out of order" % (key,))
        previous = encoded
        pairs[key], pos = _get(data, pos, depth)
    return pairs, pos


def _text(raw: bytes) -> str:
    _check_utf8(raw, CborError)
    return str(raw, "utf-8")


def _utf8(text: str) -> bytes:
    try:
        raw = text.encode("utf-8")
    except ValueError:  # UnicodeError: a lone surrogate, on CPython
        raise EncodeError("text with a lone surrogate is not UTF-8")
    _check_utf8(raw, EncodeError)
    return raw


def _check_utf8(raw: bytes, error: "type[WireError]") -> None:
    """MicroPython's own check lets overlong forms, surrogates and code points beyond 0x10FFFF pass."""
    pos = 0
    end = len(raw)
    while pos < end:
        first = raw[pos]
        pos += 1
        if first < 0x80:
            continue
        if 0xC2 <= first <= 0xDF:
            more = 1
        elif 0xE0 <= first <= 0xEF:
            more = 2
        elif 0xF0 <= first <= 0xF4:
            more = 3
        else:
            raise error("byte 0x%02x cannot start a UTF-8 character" % first)
        if pos + more > end:
            raise error("UTF-8 text ends in the middle of a character")
        low, high = _second_byte_range(first)
        for index in range(pos, pos + more):
            if not low <= raw[index] <= high:
                raise error("byte 0x%02x cannot continue a UTF-8 character" % raw[index])
            low, high = 0x80, 0xBF
        pos += more


def _second_byte_range(first: int) -> "tuple[int, int]":
    """Table 3-7 of the Unicode standard: no overlong forms, no surrogates, nothing above 0x10FFFF."""
    if first == 0xE0:
        return 0xA0, 0xBF
    if first == 0xED:
        return 0x80, 0x9F
    if first == 0xF0:
        return 0x90, 0xBF
    if first == 0xF4:
        return 0x80, 0x8F
    return 0x80, 0xBF
