"""What a node accepts as an update: a SUIT envelope of one shape (OTA.md), signed by a key that it trusts.

    match(envelope, device, keys) -> Manifest       Refused for everything else, with the reason to report

A template is compared, no commands are run: what is no number or digest of ours must be there byte for byte. What is
cheap is asked first; the signature, a second of a chip's time, comes last. Nothing is true before `match` returns.
"""

import hashlib
from collections import namedtuple

from protocols.wire.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NamedTuple

    class Device(NamedTuple):
        """What the node is, and how far it has come."""

        vendor: bytes  # UUIDs, 16 bytes each
        class_id: bytes
        sequence: int  # of the release that runs and is confirmed: an update has a higher one
        size_max: int  # bytes that a bundle may have in the spare slot
        payload_max: int  # bytes that may be kept of what is sent

    class Key(NamedTuple):
        """A key that may sign."""

        kid: bytes
        algorithm: int  # COSE: -7 ES256, -46 HSS/LMS
        key: bytes
        is_revoked: bool

    class Manifest(NamedTuple):
        sequence: int
        size: int  # of the bundle, once it is in a slot
        digest: bytes  # its SHA-256
        payload_size: int  # of what is sent (delta.py)
        payload_digest: bytes
        kid: bytes  # who signed

else:
    Device = namedtuple("Device", ("vendor", "class_id", "sequence", "size_max", "payload_max"))
    Key = namedtuple("Key", ("kid", "algorithm", "key", "is_revoked"))
    Manifest = namedtuple("Manifest", ("sequence", "size", "digest", "payload_size", "payload_digest", "kid"))

ES256 = -7
HSS_LMS = -46
KID_BYTES = 8
# An HSS/LMS signature of one tree of ten levels and 32-byte hashes has 1456 bytes; the rest is 320.
MAX_ENVELOPE = 2048
# A small integer on a 32-bit chip.
MAX_SEQUENCE = (1 << 30) - 1
MAX_SIZE = 1 << 20  # of a bundle, and of what makes it
MAX_IMAGE = 1 << 22  # of MicroPython; what a node takes is up to its Device

# Why an update was refused or given up -> the number that SUIT reports have for it (draft-ietf-suit-report, 4.2).
REASONS = {
    "cbor": 1,
    "cose": 2,
    "algorithm": 3,
    "unknown-key": 4,
    "revoked-key": 4,
    "signature": 4,
    "digest": 4,
    "command": 5,
    "component": 6,
    "parameter": 8,
    "vendor": 10,
    "class": 10,
    "downgrade": 10,
    "oversize": 10,
    "base": 10,
    "payload": 10,
    "image": 10,
    "bundle": 11,
    "space": 11,
}


class Refused(WireError):
    """An update that is not taken. ``reason``: a key of REASONS."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


# The bytes of the template between what varies; OTA.md has them in diagnostic notation.
_ENVELOPE = b"\xd8\x6b\xa2\x02"
_SHA256 = b"\x82\x2f\x58\x20"
_SIGN1 = b"\xd2\x84"
_PROTECTED_ES256 = b"\xa1\x01\x26"
_PROTECTED_HSS = b"\xa1\x01\x38\x2d"
_COMPONENTS = b"\xa2\x02\x82\x81\x41a\x81\x41p\x04"
_COMMON = b"\x88\x0c\x00\x14\xa4\x01"
_CONDITIONS = b"\x01\x0f\x02\x0f"
_VALIDATE = b"\x07\x45\x84\x0c\x00\x03\x0f"
_INSTALL = b"\x90\x0c\x01\x14\xa3"
_FETCH = b"\x15a#\x15\x02\x03\x0f\x0c\x00\x14\xa1\x16\x01\x16\x02\x03\x0f"


def match(envelope: bytes, device: "Device", keys: "Sequence[Key]") -> "Manifest":
    """The manifest in this envelope, verified, meant for this device, and newer than what it runs."""
    if len(envelope) > MAX_ENVELOPE:
        raise Refused("oversize", "envelope of %d bytes: at most %d" % (len(envelope), MAX_ENVELOPE))
    reader = _Reader(bytes(envelope))
    algorithm, protected, kid, signature, signed = _authentication(reader)
    start = reader.at + 1  # the key 3; what follows is the manifest with its length, which the digest covers
    found, vendor, class_id = _manifest(reader)
    if reader.at != len(envelope):
        raise Refused("cbor", "%d bytes follow the envelope" % (len(envelope) - reader.at))
    _check_device(found, vendor, class_id, device)
    if hashlib.sha256(reader.data[start:]).digest() != signed[len(_SHA256) :]:
        raise Refused("digest", "the manifest is not the one that was signed")
    key = _key_of(kid, algorithm, keys)
    # Sig_structure of RFC 9052 section 4.4; the detached payload is the digest.
    message = (
        b"\x84\x6aSignature1"
        + bytes((0x40 + len(protected),))
        + protected
        + b"\x40\x58"
        + bytes((len(signed),))
    )
    if not _verify(algorithm, key, message + signed, signature):
        raise Refused("signature", "not signed by the key %s" % _hex(kid))
    return Manifest(*found, kid)


def _authentication(reader: "_Reader") -> "tuple[int, bytes, bytes, bytes, bytes]":
    """(algorithm, protected header, kid, signature, the SUIT_Digest that was signed)."""
    reader.expect(_ENVELOPE, "cose")
    end = reader.enter("cose")
    reader.expect(b"\x82\x58\x24", "cose")
    signed = reader.take(len(_SHA256) + 32)
    if signed[: len(_SHA256)] != _SHA256:
        raise Refused("algorithm", "digest other than SHA-256")
    inner = reader.enter("cose")
    reader.expect(_SIGN1, "cose")
    protected = reader.string("cose")
    if protected == _PROTECTED_ES256:
        algorithm = ES256
    elif protected == _PROTECTED_HSS:
        algorithm = HSS_LMS
    else:
        raise Refused("algorithm", "protected header %s: ES256 or HSS/LMS" % _hex(protected))
    reader.expect(b"\xa1\x04\x48", "cose")
    kid = reader.take(KID_BYTES)
    reader.expect(b"\xf6", "cose")
    signature = reader.string("cose")
    reader.leave(inner)
    reader.leave(end)
    return algorithm, protected, kid, signature, signed


def _manifest(reader: "_Reader") -> "tuple[tuple[int, int, bytes, int, bytes], bytes, bytes]":
    """(the first five of a Manifest), vendor, class."""
    reader.expect(b"\x03", "cbor")
    end = reader.enter("cbor")
    reader.expect(b"\xa5\x01\x01\x02", "cbor")
    sequence = reader.number(MAX_SEQUENCE)
    reader.expect(b"\x03", "cbor")
    common = reader.enter("cbor")
    reader.expect(_COMPONENTS, "component")
    shared = reader.enter("cbor")
    reader.expect(_COMMON, "parameter")
    vendor = reader.uuid()
    reader.expect(b"\x02", "parameter")
    class_id = reader.uuid()
    digest, size = _image(reader)
    reader.expect(_CONDITIONS, "command")
    reader.leave(shared)
    reader.leave(common)
    reader.expect(_VALIDATE, "command")
    reader.expect(b"\x14", "command")
    install = reader.enter("cbor")
    reader.expect(_INSTALL, "command")
    payload_digest, payload_size = _image(reader)
    reader.expect(_FETCH, "command")
    reader.leave(install)
    reader.leave(end)
    return (sequence, size, digest, payload_size, payload_digest), vendor, class_id


def _image(reader: "_Reader") -> "tuple[bytes, int]":
    """The parameters image digest and image size."""
    reader.expect(b"\x03\x58\x24", "parameter")
    reader.expect(_SHA256, "algorithm")
    digest = reader.take(32)
    reader.expect(b"\x0e", "parameter")
    return digest, reader.number(MAX_IMAGE)


def _check_device(
    found: "tuple[int, int, bytes, int, bytes]", vendor: bytes, class_id: bytes, device: "Device"
) -> None:
    sequence, size, _, payload_size, _ = found
    if vendor != device.vendor:
        raise Refused("vendor", "vendor %s: this node is of %s" % (_hex(vendor), _hex(device.vendor)))
    if class_id != device.class_id:
        raise Refused("class", "class %s: this node is %s" % (_hex(class_id), _hex(device.class_id)))
    if sequence <= device.sequence:
        raise Refused("downgrade", "release %d: release %d runs" % (sequence, device.sequence))
    if not 0 < size <= device.size_max:
        raise Refused("oversize", "bundle of %d bytes: 1 to %d" % (size, device.size_max))
    if not 0 < payload_size <= device.payload_max:
        raise Refused("oversize", "payload of %d bytes: 1 to %d" % (payload_size, device.payload_max))


def _key_of(kid: bytes, algorithm: int, keys: "Sequence[Key]") -> bytes:
    for key in keys:
        if key.kid == kid:
            if key.is_revoked:
                raise Refused("revoked-key", "key %s is revoked" % _hex(kid))
            if key.algorithm != algorithm:
                raise Refused("algorithm", "key %s is for algorithm %d" % (_hex(kid), key.algorithm))
            return key.key
    raise Refused("unknown-key", "key %s is not trusted here" % _hex(kid))


def _verify(algorithm: int, key: bytes, message: bytes, signature: bytes) -> bool:
    """Either verifier is loaded only where it is needed."""
    if algorithm == ES256:
        from protocols.wire import es256

        return es256.verify(key, message, signature)
    from protocols.wire import lms

    return lms.verify(key, message, signature)


def _hex(data: bytes) -> str:
    return "".join(["%02x" % byte for byte in data[:KID_BYTES]])


class _Reader:
    """Takes an envelope apart from left to right; whatever is not as expected is refused on the spot."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise Refused("cbor", "ends at byte %d, %d more are declared" % (len(self.data), count))
        self.at += count
        return self.data[self.at - count : self.at]

    def expect(self, wanted: bytes, reason: str) -> None:
        at = self.at
        if self.take(len(wanted)) != wanted:
            raise Refused(reason, "not the template at byte %d" % at)

    def _head(self, major: int, most: int, reason: str) -> int:
        """The argument of an item of that type, in its shortest form."""
        at = self.at
        first = self.take(1)[0]
        value = first & 31
        if value >= 24:
            width = 1 << (value - 24)
            if width > 4:
                raise Refused("cbor", "number of %d bytes at byte %d" % (width, at))
            value = int.from_bytes(self.take(width), "big")
            if value < 24 or (width > 1 and not value >> (4 * width)):
                raise Refused("cbor", "not in its shortest form at byte %d" % at)
        if first >> 5 != major:
            raise Refused(reason, "not the template at byte %d" % at)
        if value > most:
            raise Refused("oversize", "%d at byte %d: at most %d" % (value, at, most))
        return value

    def number(self, most: int) -> int:
        return self._head(0, most, "parameter")

    def string(self, reason: str) -> bytes:
        return self.take(self._head(2, MAX_ENVELOPE, reason))

    def uuid(self) -> bytes:
        self.expect(b"\x50", "parameter")
        return self.take(16)

    def enter(self, reason: str) -> int:
        """Into a byte string that wraps CBOR; where it ends."""
        count = self._head(2, MAX_ENVELOPE, reason)
        if count > len(self.data) - self.at:
            raise Refused("cbor", "ends at byte %d, %d more are declared" % (len(self.data), count))
        return self.at + count

    def leave(self, end: int) -> None:
        if self.at != end:
            raise Refused("cbor", "byte string ends at byte %d, not at %d" % (end, self.at))
