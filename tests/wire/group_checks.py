"""The word that calls to a pass, and what goes to everybody who came: the same on both interpreters.

micropython tests/wire/group_checks.py
"""

import sys

sys.path.insert(0, ".")

from protocols.wire import envelope, group, messages, update
from protocols.wire.errors import DecodeError, EncodeError, WireError

SECRET = bytes(range(16, 32))
KEY = group.key_of(SECRET, 4711)
ALONE = update.Pass(4711, 3000, 300, 0, 0, b"")
FOR_ALL = update.Pass((1 << 40) - 1, (1 << 24) - 1, 0xFFFF, 470300000, 9, SECRET)


def refused(kind, call, *args):
    try:
        call(*args)
    except kind as exc:
        return getattr(exc, "reason", "")
    raise ValueError(f"{args!r} was not refused")


def same(got, wanted):
    if got != wanted:
        raise ValueError(f"{got!r}, not {wanted!r}")


def check_passes():
    for one in (ALONE, FOR_ALL, FOR_ALL._replace(sf=5) if hasattr(FOR_ALL, "_replace") else FOR_ALL):
        same(update.decode_pass(update.encode_pass(one)), one)
    good = update.encode_pass(FOR_ALL)
    for size in range(len(good)):
        if size != 11:  # which is a pass for one node alone
            refused(DecodeError, update.decode_pass, good[:size])
    refused(DecodeError, update.decode_pass, good + b"\0")
    refused(DecodeError, update.decode_pass, b"\x40" + good[1:])
    refused(DecodeError, update.decode_pass, good[:9] + b"\0\0" + good[11:])  # lasts no time
    refused(DecodeError, update.decode_pass, good[:11] + b"\0\0\0\0" + good[15:])  # 0 Hz
    refused(DecodeError, update.decode_pass, good[:15] + b"\x04" + good[16:])
    refused(DecodeError, update.decode_pass, good[:15] + b"\x0d" + good[16:])
    refused(EncodeError, update.encode_pass, update.Pass(1 << 40, 1, 1, 0, 0, b""))
    refused(EncodeError, update.encode_pass, update.Pass(1, 1 << 24, 1, 0, 0, b""))
    refused(EncodeError, update.encode_pass, update.Pass(1, 1, 0, 0, 0, b""))
    refused(EncodeError, update.encode_pass, update.Pass(1, 1, 1, 470300000, 9, b"short"))
    refused(EncodeError, update.encode_pass, update.Pass(1, 1, 1, 470300000, 13, SECRET))


def check_next():
    good = update.encode_next(6000, 300)
    same(good, bytes((0x43, 0x70, 0x17, 0x2C, 0x01)))
    for when in ((1, 1), (6000, 300), (5907, 120)):
        same(update.decode_next(update.encode_next(*when)), when)
    for size in range(len(good)):
        refused(DecodeError, update.decode_next, good[:size])
    refused(DecodeError, update.decode_next, good + b"\0")
    refused(DecodeError, update.decode_next, b"\x41" + good[1:])
    for begins_in, lasts_s in (
        (0, 300),
        (6001, 300),
        (6000, 0),
        (6000, 301),
    ):  # now, no appointment, no time, too long
        refused(EncodeError, update.encode_next, begins_in, lasts_s)
        spoilt = b"\x43" + begins_in.to_bytes(2, "little") + lasts_s.to_bytes(2, "little")
        refused(DecodeError, update.decode_next, spoilt)


def check_group():
    command = b"\x08\x01\x00" + bytes(range(72))
    frame = group.seal(KEY, 300, command)
    same(len(frame), 1 + 2 + 4 + len(command) + 7 + 8)
    listener = group.Listener(SECRET, 4711)
    for at in range(len(frame)):  # nothing that was refused moves the PIV that is expected next
        for bit in (0, 3, 7):
            spoilt = frame[:at] + bytes((frame[at] ^ 1 << bit,)) + frame[at + 1 :]
            refused(WireError, listener.open, spoilt)
    same(listener.open(frame), command)
    same(refused(WireError, listener.open, frame), "replay")
    same(refused(WireError, listener.open, group.seal(KEY, 299, command)), "replay")
    same(listener.open(group.seal(KEY, 70000, b"\x01\x01")), b"\x01\x01")


def check_strangers():
    listener = group.Listener(SECRET, 4711)
    same(
        refused(WireError, listener.open, group.seal(group.key_of(SECRET, 4712), 0, b"\x01\x01")),
        "unknown_node",
    )
    same(refused(WireError, listener.open, group.seal(group.key_of(bytes(16), 4711), 0, b"\x01\x01")), "auth")
    ping = messages.encode(messages.Ping(1))
    same(refused(WireError, listener.open, envelope.seal(KEY, 0, ping)), "malformed")
    other = messages.encode(update.Update(4712, b"\x01\x01"))
    same(refused(WireError, listener.open, envelope.seal(KEY, 0, other)), "malformed")
    same(refused(WireError, listener.open, envelope.seal(KEY, 0, b"\x80")), "message")
    context = envelope.seal(KEY, 0, messages.encode(update.Update(4711, b"\x01\x01")), bytes(8))
    same(refused(WireError, listener.open, context), "unknown_node")
    for frame in (b"", b"\x09", bytes(600), b"\x09\x00\xff\xff\x12\x67"):
        refused(WireError, listener.open, frame)


CHECKS = (check_passes, check_next, check_group, check_strangers)

if __name__ == "__main__":
    for check in CHECKS:
        check()
    print(f"checks={len(CHECKS)}")
