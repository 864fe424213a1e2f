"""A node's storage, its power cut everywhere, and the judge. Runs inside MicroPython on its VfsLfs2, and on CPython.

`Recording` drives outbox, channel, settings, boots and commands through a seeded life and logs every flash operation
beside what the caller had been promised by then. `Sweep` then walks along the log: for an operation and a variant
it makes the flash that such a cut leaves, starts the node on it, judges, lets the node go on, cuts the power a second
time somewhere in that recovery and what follows it, starts again and judges again.

Nothing here knows how storage works: the judge compares promises with what a restarted node says.
"""

from struct import pack, unpack_from

from firmware.boots import counted
from firmware.durable import Channel, Commands, Document
from firmware.errors import StorageError
from firmware.outbox import EVENTS, READINGS, Outbox
from firmware.steady import steady
from hil_tests.world.cutflash import BLOCK_BYTES, VARIANTS, CutFlash, PowerCut, Rng

BLOCKS = 26
OUTBOX_BYTES = 5 * BLOCK_BYTES
EPOCHS = (1001, 1002, 1003)


LOST, DUPLICATED, PIV_REUSED, OTHER = range(4)


class Wrong(Exception):
    """A promise was broken; ``kind`` says which sort."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class FileSystem:
    """A mounted file system that remembers the file it opened last (the firmware has one open at a time).

    MicroPython closes abandoned files in its garbage collector. That of a node that lost its power must never be
    closed, so it is kept in `_ABANDONED` for good.
    """

    def __init__(self, mount, flash):
        self._fs = mount(flash)
        self._file = None
        for name in ("remove", "rename", "mkdir", "stat", "statvfs", "ilistdir"):
            setattr(self, name, getattr(self._fs, name))

    def open(self, path, mode):
        self._file = self._fs.open(path, mode)
        return self._file

    def abandon(self):
        _ABANDONED.append(self._file)


_ABANDONED = []


class Node:
    """Everything durable, as a start of the firmware builds it."""

    def __init__(self, fs):
        self.box = Outbox(fs, "/outbox", OUTBOX_BYTES)
        self.channel = Channel(fs)
        self.settings = Document(fs, "settings")
        self.fs = fs
        self.boots = counted(fs, False)
        self.commands = Commands(fs)
        if self.channel.id_context is not None:
            self.box.begin_epoch(epoch_number(self.channel.id_context))


def epoch_number(id_context):
    return unpack_from("<I", id_context)[0]


def id_context(epoch):
    return pack("<I", epoch) + bytes(12)


def payload(call, size):
    """What call number ``call`` of keep() kept: no two are equal."""
    return pack("<I", call) + bytes((call & 0xFF,)) * (size - 4)


class Promises:
    """What callers were told, and what was under way when the power went."""

    def __init__(self):
        self.kept = {}  # seq -> (call, kind)
        self.epochs = {}  # seq -> epoch, once it is settled
        self.acked = set()
        self.epoch = None
        self.piv = -1  # highest given out in this epoch
        self.downlink = -1
        self.settings = None
        self.boots = 0
        self.command = 0
        self.pending = None  # the action under way: (name, arguments)

    def copy(self):
        new = Promises()
        for name in ("epoch", "piv", "downlink", "settings", "boots", "command", "pending"):
            setattr(new, name, getattr(self, name))
        new.kept = dict(self.kept)
        new.epochs = dict(self.epochs)
        new.acked = set(self.acked)
        return new

    def settle(self, name, value):
        """An action returned."""
        if name == "keep":
            seq, call, kind = value
            self.kept[seq] = (call, kind)
            if self.epoch is not None:
                self.epochs[seq] = self.epoch
        elif name == "epoch":
            for seq in self.kept:
                if seq not in self.epochs:
                    self.epochs[seq] = value
            self.epoch = value
            self.piv = 0
            self.downlink = 0
        elif name == "ack":
            # The gateway's whole knowledge: what it no longer covers is offered again, if it is still here.
            covered, gone = value
            self.acked = {seq for seq in self.acked if self.epochs.get(seq) != self.epoch}
            self.acked.update(covered)
            self.acked.update(gone)
        elif name == "piv":
            if value <= self.piv:
                raise Wrong(PIV_REUSED, "PIV %d again, %d was used" % (value, self.piv))
            self.piv = value
        else:
            setattr(self, name, value)


class Life:
    """Drives a Node and writes down, per action: flash operations before it, after it, its name and its outcome."""

    def __init__(self, node, flash, promises, rng, call):
        self.node = node
        self.flash = flash
        self.promises = promises
        self.rng = rng
        self.call = call
        self.history = []

    def do(self, name, argument, action):
        before = self.flash.ops
        self.promises.pending = (name, argument)
        outcome = action()
        self.promises.pending = None
        self.promises.settle(name, outcome)
        self.history.append((before, self.flash.ops, name, argument, outcome))

    def keep(self, kind, size):
        self.call += 1
        call = self.call
        self.do("keep", (call, kind), lambda: (self.node.box.keep(kind, payload(call, size)), call, kind))

    def begin_epoch(self, epoch):
        def begin():
            self.node.channel.begin(id_context(epoch), 1, {1: 0})
            self.node.box.begin_epoch(epoch)
            return epoch

        self.do("epoch", epoch, begin)

    def piv(self):
        self.do("piv", None, self.node.channel.next_piv)

    def downlink(self, piv):
        def accept():
            if not self.node.channel.accept(1, piv):
                raise Wrong(
                    OTHER, "downlink PIV %d refused, %d was the highest" % (piv, self.promises.downlink)
                )
            return piv

        self.do("downlink", piv, accept)

    def save(self, version):
        def save():
            self.node.settings.save(pack("<I", version) * (1 + version % 60))
            return version

        self.do("settings", version, save)

    def start(self):
        self.do("boots", None, lambda: counted(self.node.fs, True))

    def command(self):
        command_id = self.promises.command + 1

        def begin():
            self.node.commands.begin(command_id)
            return command_id

        self.do("command", command_id, begin)
        self.node.commands.end(b"done")

    def acknowledge(self, cum, runs):
        """What a gateway says that has everything up to cum and in runs, of the current epoch."""
        epoch = self.promises.epoch
        covered = [
            seq
            for seq in self.promises.kept
            if self.promises.epochs.get(seq) == epoch
            and (seq <= cum or any(a <= seq < a + n for a, n in runs))
        ]

        def acknowledge():
            gone = [seq for seq in self.promises.acked if not self.node.box.has(seq)]
            self.node.box.acknowledge(epoch, cum, runs)
            return covered, gone

        self.do("ack", tuple(covered), acknowledge)

    def flush(self):
        self.do("flushed", None, self.node.box.flush)


def live(life, steps):
    """A seeded life that fills the outbox several times over."""
    rng = life.rng
    life.start()
    for step in range(steps):
        if step == 12:
            life.begin_epoch(EPOCHS[0])
        if step == steps // 2:
            life.begin_epoch(EPOCHS[1])
        if step == steps * 4 // 5:
            life.begin_epoch(EPOCHS[2])
        alarm = rng.below(9) == 0
        life.keep(2 if alarm else 1, 8 + rng.below(12) if alarm else 120 + rng.below(80))
        if step < 12:
            continue
        if rng.below(3) == 0:
            life.piv()
        if rng.below(11) == 0:
            life.downlink(life.promises.downlink + 1 + rng.below(70))
        if rng.below(13) == 0:
            life.save(step)
        if rng.below(40) == 0:
            life.command()
        # For most of the time the gateway is away, and the outbox overflows.
        if not steps // 4 < step < steps * 9 // 10 and rng.below(4) == 0:
            gap = life.node.box.next_seq - 1 - rng.below(20)
            life.acknowledge(max(gap, 0), [(gap + 3, 2)])
        if rng.below(30) == 0:
            life.flush()


def go_on(life):
    """What a node does after a start, short."""
    life.start()
    if life.promises.epoch is None:
        life.begin_epoch(EPOCHS[0])
    life.piv()
    life.keep(1, 150)
    life.keep(2, 12)
    life.downlink(life.node.channel.highest(1) + 1)
    life.save(1000 + life.call)
    life.acknowledge(max(life.node.box.oldest_in(life.promises.epoch) - 1, 0), [])
    life.keep(1, 190)
    life.piv()


# -- the judge -------------------------------------------------------------------------------------------------------


def judge(node, was):
    """Raise Wrong unless a restarted node holds every promise. What was under way may have happened, whole, or not.

    Returns the promises as they stand now: what was under way is settled by what is found.
    """
    now = was.copy()
    now.pending = None
    name, argument = was.pending or (None, None)
    if name == "epoch":
        _judge_epoch(node, now, argument)
    elif node.channel.id_context != (None if was.epoch is None else id_context(was.epoch)):
        raise Wrong(OTHER, "epoch %r became %r" % (was.epoch, node.channel.id_context))
    _judge_records(node, now, argument if name == "keep" else None, argument if name == "ack" else None)
    _judge_documents(node, now, name, argument)
    return now


def _judge_epoch(node, now, epoch):
    """begin_epoch was cut: the channel has the new one, or the old one with its counters."""
    found = node.channel.id_context
    if found == id_context(epoch):
        now.settle("epoch", epoch)
    elif found != (None if now.epoch is None else id_context(now.epoch)):
        raise Wrong(OTHER, "epoch %r cut into %r" % (epoch, found))


def _judge_records(node, now, keeping, acknowledging):
    box = node.box
    offered = {}
    for lane in (READINGS, EVENTS):
        last = 0
        while True:
            record = box.next_unacked(lane, last)
            if record is None:
                break
            last = record.seq
            call = unpack_from("<I", record.payload)[0]
            kind = record.kind
            if last not in now.kept and (call, kind) == keeping and last not in offered:
                now.settle("keep", (last, call, kind))  # kept, though its caller never heard
                keeping = None
            if now.kept.get(last) != (call, kind):
                raise Wrong(
                    DUPLICATED, "seq %d holds call %d, promised %r" % (last, call, now.kept.get(last))
                )
            if record.payload != payload(call, len(record.payload)):
                raise Wrong(LOST, "seq %d is not what was kept" % last)
            if last in now.acked:
                now.acked.discard(last)  # what was acknowledged may be forgotten, and is then offered again
            if record.epoch != now.epochs.get(last):
                raise Wrong(
                    DUPLICATED, "seq %d: epoch %r, was %r" % (last, record.epoch, now.epochs.get(last))
                )
            offered[last] = call
    if len(set(offered.values())) != len(offered):
        raise Wrong(DUPLICATED, "one record under two ids")
    if acknowledging:
        now.acked.update(seq for seq in acknowledging if seq not in offered and box.has(seq))
    missing = [seq for seq in now.kept if seq not in now.acked and seq not in offered]
    if len(missing) != box.evicted:
        raise Wrong(
            LOST, "%d records missing, %d counted as evicted: %r" % (len(missing), box.evicted, missing[-5:])
        )
    if now.kept and box.next_seq <= max(now.kept):
        raise Wrong(DUPLICATED, "next seq %d, %d is used" % (box.next_seq, max(now.kept)))
    if box.damaged:
        raise Wrong(OTHER, "%d segments damaged" % box.damaged)


def _judge_documents(node, now, name, argument):
    if node.channel.id_context is not None and node.channel.highest(1) < now.downlink:
        raise Wrong(OTHER, "downlink bound %d, %d was accepted" % (node.channel.highest(1), now.downlink))
    data = node.settings.load()
    version = None if data is None else unpack_from("<I", data)[0]
    if data is not None and data != pack("<I", version) * (1 + version % 60):
        raise Wrong(OTHER, "settings torn")
    if version != now.settings and (name, argument) != ("settings", version):
        raise Wrong(OTHER, "settings %r, saved %r" % (version, now.settings))
    now.settings = version
    if node.boots != now.boots and (name, node.boots) != ("boots", now.boots + 1):
        raise Wrong(OTHER, "boots %d, counted %d" % (node.boots, now.boots))
    now.boots = node.boots
    if node.commands.latest != now.command and (name, argument) != ("command", node.commands.latest):
        raise Wrong(OTHER, "command %d, begun %d" % (node.commands.latest, now.command))
    now.command = node.commands.latest


# -- recording and sweeping ------------------------------------------------------------------------------------------


class Recording:
    """One life: `start` is the flash it begins with, `log` its operations, `history` its actions."""

    def __init__(self, filesystem, seed, steps, minted=None):
        flash = CutFlash(bytearray(minted or b"\xff" * (BLOCKS * BLOCK_BYTES)), seed=seed, record=True)
        if minted is None:
            filesystem.mkfs(flash)
        self.start = bytes(flash.image)
        flash.log = []
        flash.ops = 0
        self.life = Life(Node(FileSystem(filesystem, flash)), flash, Promises(), Rng(seed), 0)
        live(self.life, steps)
        self.log = flash.log
        if not self.life.node.box.evicted:
            raise Wrong(OTHER, "nothing was evicted: this life is too short to show anything")
        self.history = self.life.history


class Sweep:
    """Walks along a recording. ``cuts`` and ``wrong`` count; the first few failures are kept as text."""

    def __init__(self, filesystem, seed, steps, steadied=True, minted=None):
        self.filesystem = filesystem
        self.steadied = steadied
        self.seed = seed
        self.recording = Recording(filesystem, seed, steps, minted)
        self.cuts = 0
        self.wrong = [0] * 4  # by kind
        self.failures = []

    def run(self, variants, chosen):
        """Cut at every operation and variant for which ``chosen(number)`` holds."""
        self.variants = variants
        log = self.recording.log
        history = self.recording.history
        before = CutFlash(bytearray(self.recording.start))
        promises = Promises()
        at = 0
        number = 0
        for op in range(len(log)):
            while at < len(history) and history[at][1] <= op:
                promises.settle(history[at][2], history[at][4])
                at += 1
            promises.pending = history[at][2:4] if at < len(history) and history[at][0] <= op else None
            for variant in variants:
                number += 1
                if chosen(number):
                    self._cut(before.image, promises, log[op], op, variant)
            before.apply(log[op][0], log[op][1], log[op][2])

    def _cut(self, image, promises, operation, op, variant):
        seed = self.seed * 1000003 + op * 8 + variant
        flash = CutFlash(bytearray(image), seed=seed, record=True)
        flash.tear(operation[0], operation[1], operation[2], variant)
        where = "op %d %s" % (op, VARIANTS[variant])
        try:
            self._again(flash, promises, seed)
        except (Wrong, OSError, StorageError) as exc:
            self._failed(where, exc)

    def _again(self, flash, promises, seed):
        """Start, judge, go on; then once more with a second cut somewhere in that."""
        self.cuts += 1
        image = bytearray(flash.image)
        unstable = {block: bytearray(mask) for block, mask in flash.unstable.items()}
        self.stage = "start"
        self._start(flash, promises)
        rng = Rng(seed + 1)
        again = CutFlash(image, unstable, seed)
        again.cut_at = rng.below(max(flash.ops, 1))
        again.variant = self.variants[rng.below(len(self.variants))]
        self.cuts += 1
        self.stage = "cut again at %d of %d %s" % (again.cut_at, flash.ops, VARIANTS[again.variant])
        promises = promises.copy()
        try:
            promises = self._start(again, promises)
        except PowerCut:
            promises = self.current
            self.fs.abandon()
            image = bytearray(again.image)
            again.release()
        self.stage += ", start"
        last = CutFlash(image, again.unstable, seed + 2)
        self._start(last, promises)

    def _start(self, flash, promises):
        self.current = promises
        if self.steadied:
            steady(flash)
        self.fs = FileSystem(self.filesystem, flash)
        node = Node(self.fs)
        self.current = judge(node, promises)
        life = Life(node, flash, self.current, Rng(1), 100000 + len(self.current.kept))
        go_on(life)
        return self.current

    def _failed(self, where, exc):
        self.wrong[exc.kind if isinstance(exc, Wrong) else OTHER] += 1
        if len(self.failures) < 12:
            self.failures.append("%s, %s: %s %s" % (where, self.stage, type(exc).__name__, exc))
