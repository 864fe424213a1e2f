"""What a bundle says of itself: which release it is, for whom, and whose signature its successor needs (OTA.md).

    release.cbor = [version, sequence, vendor, class, [[algorithm, public key], …], [revoked key id, …]]

The file is part of the bundle, so who signs a release also says who may sign the next one; a node takes it from the
slot that runs. A key that is revoked is listed, so that what it still signs is refused by that name.
"""

import hashlib
from collections import namedtuple

from protocols.wire import cbor
from protocols.wire.bundle import BundleError
from protocols.wire.errors import CborError
from protocols.wire.manifest import ES256, HSS_LMS, KID_BYTES, MAX_SEQUENCE, Device, Key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple

    class Release(NamedTuple):
        sequence: int
        vendor: bytes
        class_id: bytes
        keys: "tuple[Key, ...]"  # those that are revoked, too: without their bytes

else:
    Release = namedtuple("Release", ("sequence", "vendor", "class_id", "keys"))

FILE = "release.cbor"
_VERSION = 1
# Two in use and their two successors; with eight revoked ones the file fits the largest CBOR item that a node reads.
MAX_KEYS = 4
MAX_REVOKED = 8


def encode(sequence: int, vendor: bytes, class_id: bytes, keys: "Any", revoked: "Any") -> bytes:
    """``keys``: (algorithm, public key) of each; ``revoked``: key ids."""
    data = cbor.dumps([_VERSION, sequence, vendor, class_id, [list(key) for key in keys], list(revoked)])
    decode(data)
    return data


def decode(data: bytes) -> "Release":
    """BundleError for what is no such file."""
    try:
        version, sequence, vendor, class_id, keys, revoked = cbor.loads(data)
        known = [_key(algorithm, key) for algorithm, key in keys]
        gone = [Key(_sized(kid, KID_BYTES), 0, b"", True) for kid in revoked]
    except (CborError, TypeError, ValueError):
        raise BundleError("bundle", "%s is not what OTA.md says" % FILE)
    if version != _VERSION or not isinstance(sequence, int) or not 0 < sequence <= MAX_SEQUENCE:
        raise BundleError("bundle", "%s: version %r, sequence %r" % (FILE, version, sequence))
    if not 0 < len(known) <= MAX_KEYS or len(gone) > MAX_REVOKED:
        raise BundleError(
            "bundle", "%d keys, %d revoked: 1 to %d and %d" % (len(known), len(gone), MAX_KEYS, MAX_REVOKED)
        )
    # The revoked ones first: a key in both lists is revoked.
    return Release(sequence, _sized(vendor, 16), _sized(class_id, 16), tuple(gone + known))


def device(release: "Release", size_max: int, payload_max: int) -> "Device":
    """What manifest.match asks, of a node that runs this release."""
    return Device(release.vendor, release.class_id, release.sequence, size_max, payload_max)


def _key(algorithm: "Any", key: "Any") -> "Key":
    if algorithm not in (ES256, HSS_LMS) or not isinstance(key, bytes) or not 50 <= len(key) <= 64:
        raise BundleError("bundle", "a key of algorithm %r" % (algorithm,))
    return Key(hashlib.sha256(key).digest()[:KID_BYTES], algorithm, key, False)


def _sized(data: "Any", size: int) -> bytes:
    if not isinstance(data, bytes) or len(data) != size:
        raise BundleError("bundle", "%r in %s: %d bytes" % (data, FILE, size))
    return data
