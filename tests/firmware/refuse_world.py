"""What a node does with updates that are none: real install.py on simulated flash. Runs in MicroPython, and on CPython.

A node is given an update and started until it has told how that ended. Only a whole, signed one may be installed; for
every other the `app` partition, with the slot that runs and the spare one, is the same to the byte, and was neither
programmed nor erased meanwhile.
"""

import json
from binascii import unhexlify

from firmware import pending, slots
from firmware.durable import Document
from firmware.errors import StorageError
from hil_tests.world.cutflash import BLOCK_BYTES, CutFlash, Rng
from protocols.wire import bundle, cbor, outcomes
from protocols.wire.errors import WireError
from tests.firmware.install_world import (
    APP_BLOCKS,
    FRAGMENT,
    OK,
    STATE_BLOCKS,
    WHOLE,
    Chip,
    Files,
    Part,
    Wrong,
)

RUNS, COMES = 6, 7
# What a node that does not get on with it comes to: each is counted, and told with its number.
FAULTS = (Wrong, OSError, StorageError, WireError, ArithmeticError, LookupError, ValueError, TypeError)
# What the envelope alone can be refused for; and what only a good envelope comes to.
OF_ENVELOPES = (
    "cbor", "cose", "algorithm", "unknown-key", "revoked-key", "signature", "digest", "command", "component",
    "parameter", "vendor", "class", "downgrade", "oversize",
)  # fmt: skip
HEAD_BYTES = 2


class Watched(Part):
    """A partition that counts what is done to it."""

    touched = 0

    def writeblocks(self, block, buf, offset=0):
        self.touched += 1
        Part.writeblocks(self, block, buf, offset)

    def ioctl(self, op, arg):
        if op == 6:
            self.touched += 1
        return Part.ioctl(self, op, arg)


class Yard(Chip):
    """One node after the other, each as it was flashed with release 6."""

    boot = {}  # noqa: RUF012  (nothing is cut here)

    def __init__(self, mount, first):
        self._mount = mount
        self._blank = bytearray(b"\xff" * (STATE_BLOCKS * BLOCK_BYTES))
        mount.mkfs(Part(CutFlash(self._blank), 0, STATE_BLOCKS))
        image = bytearray(b"\xff" * (APP_BLOCKS * BLOCK_BYTES))
        part = Part(CutFlash(image), 0, APP_BLOCKS)
        mount.mkfs(part)
        tree = bundle.Tree(Files(mount, part), "/a")
        tree._fs.mkdir("/a")
        for path in sorted(first):
            with tree.create(path) as file:
                file.write(first[path])
        self.first = bytes(image)
        self.image = image
        self.old, self.new, self.fault = RUNS, COMES, OK
        self.fresh()

    def fresh(self, app=True):
        """Another node; ``app`` False: with the program of the one before, which it never touched."""
        if app:
            self.image = bytearray(self.first)
            self._app = Watched(CutFlash(self.image), 0, APP_BLOCKS)
        self.flash = CutFlash(bytearray(self._blank))
        self._state = Part(self.flash, 0, STATE_BLOCKS)
        self.events = []

    def outcome(self, data, session=1):
        """The number under which the node tells how it ended."""
        self.receive(data, session)
        self.settle()
        told = [cbor.loads(event)[4] for event in self.events]
        if len(told) != 1:
            raise Wrong("%d events after one update" % len(told))
        return told[0][1]

    def check_untouched(self):
        if self.runs != RUNS:
            raise Wrong("release %d runs" % self.runs)
        if self._app.touched:
            raise Wrong("%d writes and erases in app" % self._app.touched)
        if self.image != self.first:
            raise Wrong("app is another one")


class Mutations:
    """``good``: whole updates, which would be installed; ``others``: more signed bytes to splice with."""

    KINDS = (
        "bit", "bits", "cut", "insert", "remove", "swap", "noise", "splice", "repeat", "zeros", "head", "signature",
    )  # fmt: skip

    def __init__(self, good, others, seed):
        self.good = good
        self._others = good + others
        self._rng = Rng(seed)

    def make(self, number):
        """(kind, base, bytes); the bytes are no whole update."""
        while True:
            kind = self.KINDS[number % len(self.KINDS)]
            base = self.good[self._rng.below(len(self.good))]
            data = bytes(getattr(self, "_" + kind)(bytearray(base)))
            if data and data not in self._others:
                return kind, base, data

    def _run(self, data, most=60):
        first = self._rng.below(len(data))
        return first, min(len(data), first + 1 + self._rng.below(most))

    def _bit(self, data):
        data[self._rng.below(len(data))] ^= 1 << self._rng.below(8)
        return data

    def _bits(self, data):
        for _ in range(2 + self._rng.below(20)):
            self._bit(data)
        return data

    def _cut(self, data):
        return data[: self._rng.below(len(data))]

    def _insert(self, data):
        at = self._rng.below(len(data))
        return data[:at] + self._rng.bytes(1 + self._rng.below(60)) + data[at:]

    def _remove(self, data):
        first, end = self._run(data)
        return data[:first] + data[end:]

    def _swap(self, data):
        """Two fragments change places."""
        count = len(data) // FRAGMENT
        one, two = self._rng.below(count) * FRAGMENT, self._rng.below(count) * FRAGMENT
        piece = data[one : one + FRAGMENT]
        data[one : one + FRAGMENT] = data[two : two + FRAGMENT]
        data[two : two + FRAGMENT] = piece
        return data

    def _noise(self, data):
        first, end = self._run(data)
        data[first:end] = self._rng.bytes(end - first)
        return data

    def _splice(self, data):
        """The begin of one and the end of another."""
        other = self._others[self._rng.below(len(self._others))]
        at = self._rng.below(min(len(data), len(other)))
        return data[:at] + other[at:]

    def _repeat(self, data):
        first, end = self._run(data, 300)
        return data[:end] + data[first:]

    def _zeros(self, data):
        first, end = self._run(data)
        data[first:end] = bytes(end - first)
        return data

    def _head(self, data):
        """The length of the envelope."""
        data[:HEAD_BYTES] = self._rng.bytes(HEAD_BYTES)
        return data

    def _signature(self, data):
        at = data.find(b"\x58\x40") + 2
        data[at + self._rng.below(64)] ^= 1 << self._rng.below(8)
        return data


def right_reasons(base, data):
    """The names under which this mutation may be refused, by where it differs from what it was made of; None: any."""
    end = HEAD_BYTES + int.from_bytes(base[:HEAD_BYTES], "big")
    if data[:end] == base[:end]:
        return ("payload",)
    if data[:HEAD_BYTES] == base[:HEAD_BYTES]:
        return OF_ENVELOPES
    return None


def fuzz(yard, mutations, numbers):
    """Failures, and how often each outcome was told."""
    failures = []
    told = {}
    for number in numbers:
        kind, base, data = mutations.make(number)
        yard.fresh(False)
        try:
            outcome = yard.outcome(data)
            yard.check_untouched()
            name = outcomes.OUTCOMES[outcome][0]
            told[name] = told.get(name, 0) + 1
            allowed = right_reasons(base, data)
            if name == "installed" or (allowed is not None and name not in allowed):
                raise Wrong("told as %s" % name)
        except FAULTS as exc:
            if len(failures) < 12:
                failures.append("%s number %d: %s %s" % (kind, number, type(exc).__name__, exc))
            yard.fresh()
    return failures, told


def named(yard, cases):
    """Each case with its own reason."""
    failures = []
    for name, data, wanted in cases:
        yard.fresh(False)
        try:
            outcome = yard.outcome(data)
            yard.check_untouched()
            if outcome != wanted:
                raise Wrong(
                    "told as %s, not %s" % (outcomes.OUTCOMES[outcome][0], outcomes.OUTCOMES[wanted][0])
                )
        except FAULTS as exc:
            failures.append("%s: %s %s" % (name, type(exc).__name__, exc))
            yard.fresh()
    return failures


# --- another path in: what a node finds on its flash, and nobody received ------------------------------------------


class Meddler:
    """Writes what only a fault of the flash, or a hand at it, leaves there: with checksums that hold."""

    def __init__(self, yard, good, seed):
        self._yard = yard
        self._good = good
        self._rng = Rng(seed)

    def meddle(self):
        """A node whose document, pieces and slots say anything. True: what is there is a whole, verified update."""
        rng = self._rng
        yard = self._yard
        good = self._good[rng.below(len(self._good))]
        if rng.below(4):
            yard.receive(good, 1)
        state = yard.state()
        if rng.below(3):
            self._mutate(state, "/update")
        data = self._document()
        Document(state, pending.NAME).save(data)
        if not rng.below(3):
            record = rng.bytes(8)
            for at in range(4):  # mostly of what a node may write
                if rng.below(4):
                    record[at] = (0, 1, 255, 3)[rng.below(4)]
            record[0] &= 1 if rng.below(4) else 255
            Document(yard.app(), "slots", slots.COPIES).save(bytes(record))
        yard._app.touched = 0
        return True

    def _document(self):
        rng = self._rng
        found = pending.Pending(self._yard.state())
        f = found.f
        if rng.below(2):
            f = [rng.below(6)] + [rng.below(256) for _ in range(6)] + [rng.below(65536), rng.below(65536)]
            f += [
                rng.below(12),
                rng.below(5000),
                rng.below(5000),
                rng.below(9),
                bytes(rng.bytes(32)),
                bytes(rng.bytes(32)),
            ]
            f[pending.SLOT] = rng.below(2)
        else:
            f[pending.PHASE] = rng.below(6)
            f[pending.SLOT] = rng.below(2)
        found.f = f
        found.save()
        return Document(self._yard.state(), pending.NAME).load()

    def _mutate(self, state, path):
        rng = self._rng
        try:
            with state.open(path, "rb") as file:
                data = bytearray(file.read())
        except OSError:
            data = bytearray(rng.bytes(rng.below(600)))
        for _ in range(1 + rng.below(6)):
            if not data:
                break
            at = rng.below(len(data))
            what = rng.below(4)
            if what == 0:
                data[at] ^= 1 << rng.below(8)
            elif what == 1:
                data = data[:at]
            elif what == 2:
                data[at : at + 3] = rng.bytes(3)
            else:
                data = data[:at] + rng.bytes(1 + rng.below(30)) + data[at:]
        with state.open(path, "wb") as file:
            file.write(data)


def meddled(yard, good, seed, count):
    """Nodes that found such a flash: each runs release 6 whole, or what it had verified itself, and gets on with it."""
    failures = []
    installed = 0
    meddler = Meddler(yard, good, seed)
    for number in range(count):
        yard.fresh()
        try:
            meddler.meddle()
            yard.settle()
            installed += yard.runs == COMES
        except FAULTS as exc:
            if len(failures) < 12:
                failures.append("meddled %d: %s %s" % (number, type(exc).__name__, exc))
    return failures, installed


def load(path):
    """(files of the first release, whole updates, others, cases) out of what refuse_cases.py wrote."""
    with open(path) as file:
        made = json.loads(file.read())
    for sequence, size, digest in made["digests"]:
        WHOLE[sequence] = (size, unhexlify(digest))
    first = {name: unhexlify(data) for name, data in made["first"].items()}
    cases = [(name, unhexlify(data), outcome) for name, data, outcome in made["cases"]]
    return (
        first,
        [unhexlify(data) for data in made["good"]],
        [unhexlify(data) for data in made["others"]],
        cases,
    )
