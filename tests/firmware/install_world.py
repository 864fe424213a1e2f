"""Updates of a node whose power is cut everywhere, and the judge. Runs inside MicroPython, and on CPython.

One chip has both partitions, so that a cut may hit any operation of either. A life is a row of updates: the pieces come
in, are handed over, installed, tried, and confirmed or rolled back; then the next. `Sweep` cuts it at each operation,
starts the node until nothing is under way any more, judging every start, and does so once more with a second cut
somewhere in that recovery. The judge knows what a slot may hold: the old release or the new one, whole.
"""

import json
from binascii import unhexlify

from firmware import gate, news, pending, pieces, slots, update
from firmware.durable import Document
from firmware.errors import StorageError
from firmware.hal import CAUSE_HARD_RESET
from firmware.steady import steady
from hil_tests.world.cutflash import BLOCK_BYTES, VARIANTS, CutFlash, Rng
from protocols.wire import bundle, cbor, ota, release

APP_BLOCKS = 80
STATE_BLOCKS = 16
FRAGMENT = 200
STARTS_MAX = 40
OK, CRASHES, UNHEALTHY = 0, 1, 2
# The third series of each node never says anything: a trial that forgets that it was so before finds no node healthy.
SILENT = 1 << 2
# Beside the slots; no update touches them.
BOOT = {"/main.py": b"import gc, os, sys " * 20, "/boot/starter.mpy": b"slots and crashes " * 50}


class Wrong(Exception):
    """The node ran what it must not run, or told what was not so."""


class Reset(Exception):
    """The program asked for one."""


class Part:
    """A partition of a chip, as a block device."""

    def __init__(self, flash, first, blocks):
        self._flash = flash
        self._first = first
        self._blocks = blocks

    def readblocks(self, block, buf, offset=0):
        flash = self._flash
        if flash.dead or flash.unstable:
            flash.readblocks(self._first + block, buf, offset)
        else:  # the same, a few microseconds faster: a sweep is mostly this
            at = (self._first + block) * BLOCK_BYTES + offset
            buf[:] = flash._view[at : at + len(buf)]

    def writeblocks(self, block, buf, offset=0):
        self._flash.writeblocks(self._first + block, buf, offset)

    def ioctl(self, op, arg):
        if op == 4:
            return self._blocks
        return self._flash.ioctl(op, self._first + arg if op == 6 else arg)


class Files:
    """A mounted file system."""

    def __init__(self, mount, device):
        self._fs = mount(device)
        for name in ("open", "remove", "mkdir", "stat", "statvfs", "ilistdir"):
            setattr(self, name, getattr(self._fs, name))


class Box:
    """An outbox as small as it can be: the events that were kept."""

    def __init__(self, fs):
        self._file = Document(fs, "box")
        data = self._file.load()
        self.events = cbor.loads(data) if data else []

    @property
    def next_seq(self):
        return len(self.events) + 1

    def keep(self, kind, payload):
        self.events.append(bytes(payload))
        self._file.save(cbor.dumps(self.events))
        return len(self.events)

    def flush(self):
        pass


class Clock:
    seconds = 0

    def uptime_s(self):
        return self.seconds

    def ticks_ms(self):
        return 0

    def ticks_diff(self, later, earlier):
        return later - earlier


class Bag:
    """An object with attributes."""

    def __init__(self, **fields):
        for name in fields:
            setattr(self, name, fields[name])


class Hal:
    def __init__(self, state, app, slot):
        self.state_fs = state
        self.reset_cause = CAUSE_HARD_RESET
        self.clock = Clock()
        self.lines = []
        self._app = app
        self._slot = slot

    def program(self):
        return self._app, self._slot

    def places(self):
        return None

    def log(self, text):
        self.lines.append(text)

    def feed_watchdog(self):
        pass

    def reset(self):
        raise Reset


class Node:
    """What the gate asks of a node. A healthy one is answered at once, the other never measures."""

    def __init__(self, hal, is_healthy):
        self.hal = hal
        self.outbox = Box(hal.state_fs)
        self.has_measured = is_healthy
        self.sampler = Bag(values=[7, None, None], unfitted=lambda: [1])
        self.nap = None
        self.asked = 0  # to measure once more
        self.health = Bag(heap_free_min=9999, frames_sent=1)
        self.uplink = Bag(must_hello=not is_healthy, hurry=lambda: None)

    def record_time(self):
        return 0, 0

    def begin_measurement(self, keeps_set):
        self.asked += 1


class Chip:
    """One node: its flash, and a start of it after the other until nothing is under way."""

    boot = BOOT

    def __init__(self, mount, flash, start):
        self.flash = flash
        self._mount = mount
        self._app = Part(flash, 0, APP_BLOCKS)
        self._state = Part(flash, APP_BLOCKS, STATE_BLOCKS)
        self.runs = -1  # the release that ran in the latest start
        self.old, self.new, self.fault = start

    def app(self):
        files = Files(self._mount, self._app)
        self._boot(files)
        if not self.flash.unstable:  # nothing is to be found, and that takes its time
            return files
        steady(self._app)
        return Files(self._mount, self._app)

    def _boot(self, files):
        """What MicroPython reads before anything of ours can steady the flash."""
        for path in self.boot:
            try:
                with files.open(path, "rb") as file:
                    if file.read(1000) != self.boot[path]:
                        raise Wrong("%s is another" % path)
            except OSError as exc:
                raise Wrong("%s can not be read: %r" % (path, exc))

    def state(self):
        if self.flash.unstable:
            steady(self._state)
        return Files(self._mount, self._state)

    def start(self):
        """One start, as starter.py and main.py make it. True when nothing is under way any more."""
        app = self.app()
        slot = slots.counted(slots.Slots(app))
        folder = slots.choose(app, slot)
        self.runs = self._judge(app, folder)
        if self.runs == self.new and self.fault == CRASHES:
            return False
        hal = Hal(self.state(), app, slots.FOLDERS.index(folder))
        is_on_trial = update.begin(hal)
        data = Document(hal.state_fs, "update").load()
        is_healthy = self.runs != self.new or self.fault == OK
        has_news = data and data[0] > pending.ON_TRIAL
        node = Node(hal, is_healthy)
        if has_news:
            news.recover(hal, node.outbox)
            news.tell(node)
        while is_on_trial:
            hal.clock.seconds += 1800
            is_on_trial = gate.look(node, 0) >= 0
        self.events = node.outbox.events
        phase = pending.Pending(hal.state_fs).f[pending.PHASE]
        return phase == pending.NOTHING

    def settle(self):
        """Start it until nothing is under way."""
        for _ in range(STARTS_MAX):
            try:
                if self.start():
                    return
            except Reset:
                pass
        raise Wrong("still not settled after %d starts" % STARTS_MAX)

    def _judge(self, app, folder):
        tree = bundle.Tree(app, folder)
        try:
            with tree.open(release.FILE) as file:
                sequence = release.decode(file.read(1000)).sequence
        except OSError:
            raise Wrong("neither: %s has no %s" % (folder, release.FILE))
        if sequence not in (self.old, self.new):
            raise Wrong("release %d runs, allowed are %d and %d" % (sequence, self.old, self.new))
        if bundle.digest(tree) != WHOLE[sequence]:
            raise Wrong("release %d in %s is not whole" % (sequence, folder))
        return sequence

    def receive(self, data, session):
        """The pieces of an update come in, and are handed over."""
        state = self.state()
        receiver = ota.OtaReceiver(pieces.Pieces(state), 100000)
        count = -(-len(data) // FRAGMENT)
        padding = count * FRAGMENT - len(data)
        receiver.hear(session, ota.Setup(count, FRAGMENT, padding, 0, 0).encode())
        data += bytes(padding)
        for at in range(count):
            receiver.hear(session, ota.data_fragment(at + 1, data[FRAGMENT * at : FRAGMENT * (at + 1)]))
        hal = Hal(state, None, 0)
        pending.received(hal, SILENT)  # as receive.py does when it has all


def _copied(unstable):
    return {block: bytearray(unstable[block]) for block in unstable}


WHOLE = {}  # sequence -> (size, digest) of its bundle


class Sweep:
    """``steps``: (release that runs, release that comes, bytes of the update, what is wrong with it)."""

    def __init__(self, mount, first, steps, seed):
        self.mount = mount
        self.seed = seed
        self.steps = steps
        self.cuts = 0
        self.failures = []
        flash = CutFlash(
            bytearray(b"\xff" * ((APP_BLOCKS + STATE_BLOCKS) * BLOCK_BYTES)), seed=seed, record=True
        )
        for at, blocks in ((0, APP_BLOCKS), (APP_BLOCKS, STATE_BLOCKS)):
            mount.mkfs(Part(flash, at, blocks))
        app = Files(mount, Part(flash, 0, APP_BLOCKS))
        for folder in ("/1", "/2", "/a", "/b", "/boot"):  # as images.py makes it
            app.mkdir(folder)
        for path in sorted(BOOT):
            with app.open(path, "wb") as file:
                file.write(BOOT[path])
        tree = bundle.Tree(app, "/a")
        for path in sorted(first):
            with tree.create(path) as file:
                file.write(first[path])
        WHOLE[steps[0][0]] = bundle.digest(tree)
        self.image = bytes(flash.image)
        flash.log = []
        flash.ops = 0
        self.until = []  # operations at the end of each step
        for at, (old, new, data, fault) in enumerate(steps):
            chip = Chip(mount, flash, (old, new, fault))
            chip.receive(data, at + 1)
            chip.settle()
            if (chip.runs == new) != (fault == OK):
                raise Wrong("uncut, step %d ends with release %d" % (at, chip.runs))
            self._check_events(chip, at, True)
            self.until.append(flash.ops)
        self.log = flash.log

    def _check_events(self, chip, at, is_told):
        """One event for each update that was begun, with its outcome."""
        told = [cbor.loads(event)[4] for event in chip.events]
        for n in range(len(told)):
            _, new, _, fault = self.steps[n]
            if told[n][0] != new or (told[n][1] == 0) != (fault == OK):
                raise Wrong("update %d to release %d was told as %r" % (n, new, told[n]))
        if len(told) not in ((at + 1,) if is_told else (at, at + 1)):
            raise Wrong("%d events after %d updates" % (len(told), at + 1))
        return len(told) == at + 1

    def run(self, chosen):
        before = CutFlash(bytearray(self.image))
        number = 0
        at = 0
        for op in range(len(self.log)):
            while self.until[at] <= op:
                at += 1
            for variant in range(len(VARIANTS)):
                number += 1
                if chosen(number):
                    self._cut(before.image, at, op, variant)
            before.apply(*self.log[op])

    def _cut(self, image, at, op, variant):
        seed = self.seed * 1000003 + op * 8 + variant
        flash = CutFlash(bytearray(image), seed=seed)
        flash.tear(*self.log[op], variant)
        self.stage = "first"
        try:
            self._recover(flash, at, seed)
        except (Wrong, OSError, StorageError) as exc:
            if len(self.failures) < 12:
                self.failures.append(
                    "op %d %s, step %d, %s: %s %s"
                    % (op, VARIANTS[variant], at, self.stage, type(exc).__name__, exc)
                )

    def _recover(self, flash, at, seed):
        """To the end; and once more up to a second cut. What happened until then is known: it is done again as it was
        logged, which takes a third less time than to start the node again."""
        self.cuts += 1
        again = CutFlash(bytearray(flash.image), _copied(flash.unstable), seed)
        flash.log = log = []
        flash.ops = 0
        self._settled(flash, at)
        flash.release()
        rng = Rng(seed + 1)
        cut_at = rng.below(max(len(log), 1))
        variant = rng.below(len(VARIANTS))
        self.cuts += 1
        self.stage = "again at %d of %d %s" % (cut_at, len(log), VARIANTS[variant])
        for operation in log[:cut_at]:
            again.apply(*operation)
        if log:
            again.tear(*log[cut_at], variant)
        last = CutFlash(again.image, again.unstable, seed + 2)
        self._settled(last, at)
        last.release()

    def _settled(self, flash, at):
        old, new, _, fault = self.steps[at]
        chip = Chip(self.mount, flash, (old, new, fault))
        chip.events = []
        chip.settle()
        was_told = self._check_events(chip, at, False)
        if chip.runs != (new if fault == OK and was_told else old):
            raise Wrong("release %d runs in the end" % chip.runs)


def life(path):
    """(files of the first release, steps) out of what install_cases.py wrote."""
    with open(path) as file:
        made = json.loads(file.read())
    for sequence, size, digest in made["digests"]:
        WHOLE[sequence] = (size, unhexlify(digest))
    first = {name: unhexlify(data) for name, data in made["first"].items()}
    return first, [(old, new, unhexlify(data), fault) for old, new, data, fault in made["steps"]]
