"""ES256 (ECDSA on P-256 over SHA-256, COSE algorithm -7), verification only, in a few hundred bytes of live heap.

    verify(key, message, signature) -> bool      key = X || Y, signature = r || s, 32 bytes each, big-endian

Numbers have 256 bits, so MicroPython makes a new one on the heap with each step; what is alive at a time is a dozen of
them. Nothing here is secret, so nothing here takes the same time for every input.
"""

import hashlib

ALGORITHM = -7
KEY_BYTES = 64
SIGNATURE_BYTES = 64

# FIPS 186-4 appendix D.1.2.3; the curve is y^2 = x^3 - 3x + b.
_HEX = (
    "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
    "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
    "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
)


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is one of ``message`` by the owner of ``key``. False for whatever is malformed, too."""
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    p, n, b, gx, gy = [int(text, 16) for text in _HEX]
    x, y = _halves(key)
    r, s = _halves(signature)
    if not (0 < r < n and 0 < s < n and x < p and y < p):
        return False
    if (y * y - (x * x - 3) * x - b) % p:
        return False
    inverse = pow(s, n - 2, n)
    u1 = int.from_bytes(hashlib.sha256(message).digest(), "big") * inverse % n
    u2 = r * inverse % n
    point = _sum(p, (gx, gy), (x, y), u1, u2)
    return point is not None and (point[0] - r) % n == 0


def _halves(data: bytes) -> "tuple[int, int]":
    return int.from_bytes(data[:32], "big"), int.from_bytes(data[32:], "big")


def _sum(p: int, g: "tuple[int, int]", q: "tuple[int, int]", u1: int, u2: int) -> "tuple[int, int] | None":
    """u1 g + u2 q, bit by bit of both at once; None: the point at infinity."""
    both = _affine(p, _add(p, (g[0], g[1], 1), q))
    total = (1, 1, 0)
    for bit in range(255, -1, -1):
        total = _double(p, total)
        which = (u1 >> bit & 1) + 2 * (u2 >> bit & 1)
        if which:
            addend = both if which == 3 else q if which == 2 else g
            if addend is not None:
                total = _add(p, total, addend)
    return _affine(p, total)


def _affine(p: int, point: "tuple[int, int, int]") -> "tuple[int, int] | None":
    x, y, z = point
    if not z:
        return None
    inverse = pow(z, p - 2, p)
    square = inverse * inverse % p
    return x * square % p, y * square * inverse % p


def _double(p: int, point: "tuple[int, int, int]") -> "tuple[int, int, int]":
    """In Jacobian coordinates: x / z^2, y / z^3; z is 0 at infinity."""
    x, y, z = point
    yy = y * y % p
    s = 4 * x * yy % p
    zz = z * z
    m = 3 * (x - zz) * (x + zz) % p
    x = (m * m - 2 * s) % p
    return x, (m * (s - x) - 8 * yy * yy) % p, 2 * y * z % p


def _add(p: int, a: "tuple[int, int, int]", b: "tuple[int, int]") -> "tuple[int, int, int]":
    """A point in Jacobian coordinates and one that is affine."""
    x, y, z = a
    if not z:
        return b[0], b[1], 1
    zz = z * z % p
    h = (b[0] * zz - x) % p
    r = (b[1] * zz * z - y) % p
    if not h:
        return (1, 1, 0) if r else _double(p, a)
    hh = h * h % p
    v = x * hh % p
    hh = hh * h % p
    x = (r * r - hh - 2 * v) % p
    return x, (r * (v - x) - y * hh) % p, z * h % p
