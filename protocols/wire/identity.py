"""Who a node is: the one file that minting writes and no node ever changes (SPEC.md section 6).

    { 0: 1, 1: address, 2: master secret, 3: master salt, 4: node type, 5: board, ? 6: area, ? 7: radio }  crc32

The CRC is there for flash that fades, not against an attacker: who can write this file owns the node anyway.
"""

from binascii import crc32
from collections import namedtuple

from protocols.wire import cbor
from protocols.wire.errors import DecodeError, EncodeError
from protocols.wire.limits import MASTER_SALT_SIZE, MASTER_SECRET_SIZE, MAX_ADDRESS, MAX_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple

    class _Identity(NamedTuple):
        address: int
        master_secret: bytes
        master_salt: bytes
        node_type: str
        board: str
        area: "str | None"
        radio: "tuple[int, int, int, int] | None"  # plan, first channel, channels, spreading factor or 0

else:
    _Identity = namedtuple(
        "Identity", ("address", "master_secret", "master_salt", "node_type", "board", "area", "radio")
    )

_FORMAT = 1


class Identity(_Identity):
    """area is None when nobody has named one yet; radio when the node is not on the air."""

    __slots__ = ()

    def __repr__(self) -> str:
        # A log line or a traceback must never hold the keys. (MicroPython ignores this: do not print one
        # there.)
        return "Identity(address=%04x, node_type=%r, board=%r, area=%r)" % (
            self.address,
            self.node_type,
            self.board,
            self.area,
        )


def encode(identity: "Identity") -> bytes:
    """The bytes of the identity file."""
    problem = _problem(identity)
    if problem:
        raise EncodeError("identity: " + problem)
    pairs = {
        0: _FORMAT,
        1: identity.address,
        2: identity.master_secret,
        3: identity.master_salt,
        4: identity.node_type,
        5: identity.board,
    }
    if identity.area is not None:
        pairs[6] = identity.area
    if identity.radio is not None:
        pairs[7] = list(identity.radio)
    body = cbor.dumps(pairs)
    return body + crc32(body).to_bytes(4, "little")


def decode(data: bytes) -> "Identity":
    """What `encode` was given; DecodeError for anything else, and never with a key in its message."""
    body = data[:-4]
    if len(data) < 5 or crc32(body) != int.from_bytes(data[-4:], "little"):
        raise DecodeError("identity: %d bytes without a valid checksum; mint the node again" % len(data))
    pairs = cbor.loads(body)
    if not isinstance(pairs, dict) or pairs.get(0) != _FORMAT or isinstance(pairs[0], bool):
        raise DecodeError("identity: not a map of format %d; mint the node again" % _FORMAT)
    if len(pairs) != 6 + (6 in pairs) + (7 in pairs) or any(key not in pairs for key in range(1, 6)):
        raise DecodeError("identity: keys 0 to 5 must be there, 6 and 7 may be, no other")
    for key in (6, 7):
        if key in pairs and pairs[key] is None:
            raise DecodeError("identity: an area or a radio that is not known is left out")
    radio = pairs.get(7)
    if isinstance(radio, list):
        radio = tuple(radio)
    identity = Identity(pairs[1], pairs[2], pairs[3], pairs[4], pairs[5], pairs.get(6), radio)
    problem = _problem(identity)
    if problem:
        raise DecodeError("identity: " + problem)
    return identity


def _problem(identity: "Any") -> str:
    """What is wrong with the values, or "" when nothing is."""
    if type(identity.address) is not int or not 1 <= identity.address <= MAX_ADDRESS:
        return "address %r: allowed are 1 to %d" % (identity.address, MAX_ADDRESS)
    for name, key, size in (
        ("master secret", identity.master_secret, MASTER_SECRET_SIZE),
        ("master salt", identity.master_salt, MASTER_SALT_SIZE),
    ):
        if not isinstance(key, bytes) or len(key) != size:
            return "%s: must be %d bytes" % (name, size)
    names = [("node type", identity.node_type), ("board", identity.board)]
    if identity.area is not None:
        names.append(("area", identity.area))
    for name, text in names:
        if not isinstance(text, str) or not 1 <= len(text.encode("utf-8")) <= MAX_NAME:
            return "%s: must be text of 1 to %d bytes" % (name, MAX_NAME)
    return "" if identity.radio is None else _radio_problem(identity.radio)


def _radio_problem(radio: "Any") -> str:
    """The plan itself is for whoever has it to judge (SPEC.md section 7.1)."""
    if not isinstance(radio, tuple) or len(radio) != 4:
        return "radio: must be plan, first channel, channels and spreading factor"
    for value in radio:
        if type(value) is not int or not 0 <= value <= 255:
            return "radio: plan, channels and spreading factor are 0 to 255, not %r" % (radio,)
    if not radio[2]:
        return "radio: at least one channel"
    if radio[3] and not 7 <= radio[3] <= 12:
        return "radio: spreading factor 7 to 12, or 0 for any, not %d" % radio[3]
    return ""
