"""The corners of updates: what somebody signs or sends who knows the formats well, and what is refused all the same."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from hil_tests.world.ota_world import Memory
from protocols import lms_sign
from protocols.wire import bundle, delta, es256, lms, ota, parity
from protocols.wire.errors import DecodeError
from tests.wire.release_cases import public
from tests.wire.test_delta import applied

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
MESSAGE = b"a manifest"


def two(first: int, second: int) -> bytes:
    return first.to_bytes(32, "big") + second.to_bytes(32, "big")


# --- ES256 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [1, 2, 3, N // 2, N - 2, N - 1])
def test_keys_beside_the_point_that_all_begin_with(secret: int) -> None:
    """Its own, its double, its opposite: where two points are one, or add up to none."""
    signer = ec.derive_private_key(secret, ec.SECP256R1())
    for at in range(3):
        message = MESSAGE + bytes((at,))
        r, s = decode_dss_signature(signer.sign(message, ec.ECDSA(hashes.SHA256())))
        assert es256.verify(public(signer), message, two(r, s))
        assert not es256.verify(public(signer), MESSAGE, two(r, s))


def test_each_signature_has_one_form_within_the_range() -> None:
    """A key for which s is 5: so s + n has 32 bytes, too, and means the same."""
    k, s = 0x1234567, 5
    r = ec.derive_private_key(k, ec.SECP256R1()).public_key().public_numbers().x % N
    z = int.from_bytes(hashlib.sha256(MESSAGE).digest(), "big")
    secret = (s * k - z) * pow(r, -1, N) % N
    key = public(ec.derive_private_key(secret, ec.SECP256R1()))
    assert es256.verify(key, MESSAGE, two(r, s))
    assert not es256.verify(key, MESSAGE, two(r, s + N))
    for first, second in ((0, s), (r, 0), (N, s), (r, N), (0, 0), (2**256 - 1, 2**256 - 1)):
        assert not es256.verify(key, MESSAGE, two(first, second))


def a_point_with_a_small_x() -> tuple[int, int]:
    for x in range(1, 100):
        square = (x**3 - 3 * x + B) % P
        y = pow(square, (P + 1) // 4, P)
        if y * y % P == square:
            return x, y
    raise AssertionError("half of all x have one")


def test_a_key_that_is_no_point_is_none_whatever_the_sum_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = a_point_with_a_small_x()
    monkeypatch.setattr(es256, "_sum", lambda *_: (7, 1))
    assert es256.verify(two(x, y), MESSAGE, two(7, 1))
    for key in (two(x, y + 1), two(x + P, y), two(0, 0), two(x, y)[:-1], two(x, y) + b"\0"):
        assert not es256.verify(key, MESSAGE, two(7, 1))
    monkeypatch.setattr(es256, "_sum", lambda *_: None)
    assert not es256.verify(two(x, y), MESSAGE, two(7, 1))


# --- payloads ------------------------------------------------------------------------------------

OLD = {"a.mpy": b"0123456789", "b.mpy": b"x" * 10}
KEEP, DROP, ADD, CHANGE = range(4)
COPY, SUM, INSERT, SEEK = range(4)
END = b"\0"


def number(count: int, what: int = 0) -> bytes:
    value, out = count << 2 | what, b""
    while value > 127:
        out, value = out + bytes((value & 127 | 128,)), value >> 7
    return out + bytes((value,))


def plain(value: int) -> bytes:
    return number(value >> 2, value & 3)


def add(path: bytes, content: bytes, size: int | None = None) -> bytes:
    return number(len(path), ADD) + path + plain(len(content) if size is None else size) + content


def payload(steps: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -10)
    return bytes((1, 10)) + bytes(8) + packer.compress(steps) + packer.flush()


def many() -> Iterator[bytes]:
    for at in range(bundle.MAX_FILES + 1):
        yield add(b"c%03d" % at, b"")


BOTH = number(2, KEEP)
WRONG = {
    "copies beyond the end": (number(11, CHANGE) + number(11, COPY) + number(1, KEEP) + END, "copies beyond"),
    "sums beyond the end": (number(11, CHANGE) + number(11, SUM) + b"\0" * 11, "adds beyond"),
    "sums after a copy to the end": (number(11, CHANGE) + number(10, COPY) + number(1, SUM) + b"\0", "adds beyond"),
    "an edit longer than its file": (number(3, CHANGE) + number(4, COPY), "4 bytes where 3"),
    "an insert longer than its file": (number(3, CHANGE) + number(4, INSERT) + b"1234", "4 bytes where 3"),
    "an edit of nothing": (number(3, CHANGE) + number(0, COPY), "0 bytes where 3"),
    "seeks before the beginning": (number(3, CHANGE) + number(1, SEEK), "seeks out of"),
    "seeks far before it": (number(3, CHANGE) + number(2**20 + 1, SEEK), "seeks out of"),
    "ends before the base": (number(1, KEEP) + END, "ends before the base does, at b.mpy"),
    "nothing at all": (END, "ends before the base does, at a.mpy"),
    "keeps more than there is": (number(3, KEEP) + END, "more files than the base"),
    "drops more than there is": (number(3, DROP) + END, "more files than the base"),
    "changes more than there is": (BOTH + number(1, CHANGE), "more files than the base"),
    "drops none": (number(0, DROP) + BOTH + END, "0 files at once"),
    "keeps too many at once": (number(bundle.MAX_FILES + 1, KEEP), "files at once"),
    "a number of five bytes": (b"\x80\x80\x80\x80\x01", "more than four bytes"),
    "a size of five bytes": (number(3, ADD) + b"c.m" + b"\xff\xff\xff\xff\x01", "more than four bytes"),
    "a file too large": (add(b"0", b"", bundle.MAX_FILE + 1), "file 1 of 65536"),
    "a changed file too large": (number(bundle.MAX_FILE + 1, CHANGE), "file 1 of 65536"),
    "too many files": (BOTH + b"".join(many()) + END, "file 201 of 0"),
    "a path too long": (number(bundle.MAX_PATH + 1, ADD) + b"c" * 65, "path of 65 bytes"),
    "no path": (number(0, ADD) + END, "number|path ''"),
    "a path that is no ASCII": (add("é".encode(), b""), "no ASCII"),
    "a path to outside": (BOTH + add(b"c/../../x", b""), "leaves its folder"),
    "a path from the root": (add(b"/x", b""), "leaves its folder"),
    "a path out of order": (BOTH + add(b"a.z", b"") + END, "out of order"),
    "a path that is there": (BOTH + add(b"b.mpy", b"") + END, "repeated"),
    "a path with a NUL": (add(b"0\0", b""), "letters, digits"),
    "it breaks off": (number(1, KEEP) + number(9, CHANGE), "cut short"),
    "content that breaks off": (add(b"0", b"12", 3), "cut short"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_steps_that_no_sender_makes_are_refused(what: str) -> None:
    steps, told = WRONG[what]
    with pytest.raises(bundle.BundleError, match=told):
        applied(payload(steps), OLD)


def test_what_stands_at_the_edge_is_taken() -> None:
    files, (size, _) = applied(
        payload(
            number(10, CHANGE) + number(20, SEEK) + number(2 * 9 + 1, SEEK) + number(10, COPY)
            + number(1, DROP) + add(b"c" * bundle.MAX_PATH, b"z" * 4, 4) + END
        ),
        OLD,
    )  # fmt: skip
    assert files == {"a.mpy": b"0123456789", "c" * bundle.MAX_PATH: b"zzzz"}
    assert size == 1 + 5 + 3 + 10 + 1 + bundle.MAX_PATH + 3 + 4


BEGINS = (b"", b"\1", b"\1\x0a" + bytes(7), b"\0\x0a" + bytes(8), b"\1\x08" + bytes(8), b"\1\x0b" + bytes(8))


@pytest.mark.parametrize("first", BEGINS)
def test_what_begins_otherwise_is_no_payload(first: bytes) -> None:
    with pytest.raises(bundle.BundleError, match="no payload of version"):
        delta.base_of(first)


# --- transfer ------------------------------------------------------------------------------------


def receiver(fragments: int) -> tuple[ota.OtaReceiver, Memory]:
    store = Memory()
    made = ota.OtaReceiver(store, 1 << 20)
    assert made.hear(1, ota.Setup(fragments, 2, 0, 7, 0).encode()) == bytes((ota.SETUP, 0))
    return made, store


def test_rows_without_end_fill_no_flash() -> None:
    """Under a stolen group key somebody sends all the rows there are, and none of the fragments."""
    made, store = receiver(600)
    for row in range(601, parity.MAX_ROW + 1, 7):
        made.hear(1, ota.data_fragment(row, b"??"))
    assert len(list(store.numbers())) == 1 + parity.MAX_MISSING
    assert made.deficit()
    for row in range(1, 601):
        made.hear(1, ota.data_fragment(row, b"ok"))
    while not made.work():
        pass
    assert made.read(600) == b"ok"


def test_a_question_for_fragments_that_there_are_not_is_refused() -> None:
    made, _ = receiver(5)
    for first in (0, 6, 0xFFFF):
        with pytest.raises(DecodeError, match="there is none"):
            made.hear(1, bytes((ota.MISSING,)) + first.to_bytes(2, "little"))
    answer = made.hear(1, bytes((ota.MISSING,)) + b"\5\0")
    assert answer == bytes((ota.MISSING, 5, 0, 1)) + bytes(ota.BITMAP - 1)


# --- HSS/LMS -------------------------------------------------------------------------------------


def test_an_hss_signature_has_one_form_and_its_key_has_one() -> None:
    name, seed = bytes(range(lms_sign.NAME_BYTES)), b"s" * lms_sign.SEED_BYTES
    lowest = lms_sign.leaves(5, name, seed)
    key = lms_sign.public_key(name, lowest)
    good = lms_sign.sign(name, seed, lowest, 3, b"r" * lms_sign.HASH_BYTES, MESSAGE)
    assert lms.verify(key, MESSAGE, good)
    kind = good.rindex(key[4:8])  # the type of the tree, between the chains and the path
    for wrong in (
        good + b"\0",
        good[:-1],
        good[:kind] + b"\0\0\0\5" + good[kind + 4 :],
        good[:8] + b"\0\0\0\7" + good[12:],  # another type of chains
        good[:4] + (3 + 32).to_bytes(4, "big") + good[8:],  # the same leaf, one round further
        b"\0\0\0\1" + good[4:],
        b"\0\0\0\2" + good[4:],
        good[:4],
        b"",
    ):
        assert not lms.verify(key, MESSAGE, wrong)
    for other in (key + b"\0", key[:-1], key[:4], b"", b"\0\0\0\0" + key[4:], b"\0\0\0\3" + key[4:]):
        assert not lms.verify(other, MESSAGE, good)


def test_no_number_of_a_leaf_makes_a_signature_of_another() -> None:
    name, seed = bytes(lms_sign.NAME_BYTES), b"s" * lms_sign.SEED_BYTES
    lowest = lms_sign.leaves(5, name, seed)
    good = lms_sign.sign(name, seed, lowest, 0, b"r" * lms_sign.HASH_BYTES, MESSAGE)
    taken = [
        leaf
        for leaf in (*range(70), 2**31, 2**32 - 1)
        if lms.verify(
            lms_sign.public_key(name, lowest), MESSAGE, good[:4] + leaf.to_bytes(4, "big") + good[8:]
        )
    ]
    assert taken == [0]
