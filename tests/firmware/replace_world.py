"""Updates of MicroPython itself on a node whose power is cut everywhere, and the judge. On MicroPython and on CPython.

One chip has all partitions, `otadata` and both places among them, and its bootloader is that of the virtual board, so a
cut may hit any operation of any of them. The judge knows what may run: the old MicroPython or the new one, whole.
"""

from boards.virtual.rom import _ota
from firmware import filling, gate, news, pending, pieces, slots, update
from firmware.durable import Document
from firmware.steady import steady
from hil_tests.world.cutflash import BLOCK_BYTES, CutFlash
from protocols.wire import cbor, interpreter, ota, release
from tests.firmware import install_world
from tests.firmware.install_world import CRASHES, OK, STARTS_MAX, Files, Hal, Node, Part, Reset, Wrong

APP_BLOCKS = 10
STATE_BLOCKS = 16
PLACE_BLOCKS = 8
PIECE = 1024
FRAGMENT = 200
# In this order on the chip.
APP, STATE, DATA, FIRST, SECOND = 0, 10, 26, 28, 36
BLOCKS = 44
WHOLE = {}  # sequence -> the image


class Flash:
    """A partition as `_ota` wants it."""

    def __init__(self, chip, first):
        self._chip = chip
        self._first = first

    def read(self, at, count):
        data = bytearray(count)
        for done in range(0, count, BLOCK_BYTES):
            part = memoryview(data)[done : done + BLOCK_BYTES]
            block, offset = (at + done) // BLOCK_BYTES, (at + done) % BLOCK_BYTES
            if offset + len(part) > BLOCK_BYTES:
                here = BLOCK_BYTES - offset
                self._chip.readblocks(self._first + block, part[:here], offset)
                self._chip.readblocks(self._first + block + 1, part[here:], 0)
            else:
                self._chip.readblocks(self._first + block, part, offset)
        return bytes(data)

    def erase(self, sector):
        self._chip.ioctl(6, self._first + sector)

    def write(self, at, data):
        self._chip.writeblocks(self._first + at // BLOCK_BYTES, data, at % BLOCK_BYTES)


class Places:
    """firmware/hal/places.py, on this chip."""

    room = PLACE_BLOCKS * BLOCK_BYTES

    def __init__(self, flash, this):
        self.this = this
        self._flash = flash
        self._other = Flash(flash, (SECOND, FIRST)[this])

    def _otadata(self):
        return _ota.OtaData(Flash(self._flash, DATA))

    def read(self, at, buffer):
        buffer[:] = self._other.read(at, len(buffer))

    def erase(self, block):
        self._other.erase(block)

    def write(self, at, data):
        self._other.write(at, data)

    def steady(self):
        if self._flash.unstable:
            steady(Part(self._flash, DATA, 2))

    @property
    def pending(self):
        data = self._otadata()
        for at in (0, 1):
            if data.entries[at][1] == _ota.PENDING_VERIFY and data.is_intact(at):
                return data.place(at)
        return -1

    def confirm(self):
        data = self._otadata()
        if data.place(data.active()) != self.this:
            data.set_boot(self.this)
        self._otadata().mark_valid()

    def boot_other(self):
        if self.pending >= 0:
            raise Wrong("set while this one is pending")
        if not _ota.image_size(self._other.read, self.room):
            raise OSError(_ota.VALIDATE_FAILED)
        self._otadata().set_boot(1 - self.this)


class Board(Hal):
    def __init__(self, state, app, slot, places):
        super().__init__(state, app, slot)
        self._places = places

    def places(self):
        return self._places


class Chip:
    """One node, and a start of it after the other until nothing is under way. ``runs``: the sequence of what runs."""

    def __init__(self, mount, flash, step):
        self.flash = flash
        self._mount = mount
        self._app = Part(flash, APP, APP_BLOCKS)
        self._state = Part(flash, STATE, STATE_BLOCKS)
        self.old, self.new, _, self.fault = step
        self.runs = -1
        self.phase = -1

    def board(self, place):
        if self.flash.unstable:
            steady(self._app)
            steady(self._state)
        app, state = (Files(self._mount, part) for part in (self._app, self._state))
        return Board(state, app, 0, Places(self.flash, place))

    def image(self, place):
        """The sequence of the image in a place that is whole, 0: there is none."""
        read = Flash(self.flash, (FIRST, SECOND)[place]).read
        size = _ota.image_size(read, Places.room)
        found = read(0, size)
        return next((n for n in WHOLE if WHOLE[n] == found), 0)

    def start(self):
        """One start, from the bootloader on. True when nothing is under way any more, or the image is awaited."""
        data = _ota.OtaData(Flash(self.flash, DATA))
        place = _ota.start(data, lambda at: self.image(at) > 0)
        if place is None:
            raise Wrong("neither: nothing can be started")
        self.runs = self.image(place)
        if self.runs not in (self.old, self.new):
            raise Wrong("MicroPython %d runs, allowed are %d and %d" % (self.runs, self.old, self.new))
        if self.runs == self.new and self.fault == CRASHES:
            return False
        hal = self.board(place)
        is_on_trial = update.begin(hal)
        data = Document(hal.state_fs, "update").load()
        is_healthy = self.runs != self.new or self.fault == OK
        has_news = data and pending.ENDED <= data[0] <= pending.TOLD
        node = Node(hal, is_healthy)
        if has_news:
            news.recover(hal, node.outbox)
            news.tell(node)
        while is_on_trial:
            hal.clock.seconds += 1800
            is_on_trial = gate.look(node, 0) >= 0
        self.events = node.outbox.events
        self.phase = pending.Pending(hal.state_fs).f[pending.PHASE]
        if self.phase == pending.FILLING:
            self.fill(hal)
        return self.phase == pending.NOTHING

    def fill(self, hal):
        """The image comes, from where it is wanted."""
        coming = filling.Filling(hal, install_world.SILENT)
        image = WHOLE[self.new]
        while not coming.is_full:
            _, at, _ = interpreter.decode_answer(coming.answer())
            coming.hear(interpreter.piece(at, image[at : at + PIECE]))

    def settle(self):
        for _ in range(STARTS_MAX):
            try:
                if self.start():
                    return
            except Reset:
                pass
        raise Wrong("still not settled after %d starts" % STARTS_MAX)

    def receive(self, data, session, place):
        """The envelope comes in, and is handed over."""
        hal = self.board(place)
        receiver = ota.OtaReceiver(pieces.Pieces(hal.state_fs), 100000)
        count = -(-len(data) // FRAGMENT)
        descriptor = interpreter.IS_ONE | self.new
        receiver.hear(
            session, ota.Setup(count, FRAGMENT, count * FRAGMENT - len(data), descriptor, 0).encode()
        )
        data += bytes(count * FRAGMENT - len(data))
        for at in range(count):
            receiver.hear(session, ota.data_fragment(at + 1, data[FRAGMENT * at : FRAGMENT * (at + 1)]))
        pending.received(hal, install_world.SILENT)  # as receive.py does when it has all


class Sweep(install_world.Sweep):
    """``steps``: (MicroPython that runs, that comes, its envelope, what is wrong with it)."""

    def __init__(self, mount, files, steps, seed):
        self.mount = mount
        self.seed = seed
        self.steps = steps
        self.cuts = 0
        self.failures = []
        flash = CutFlash(bytearray(b"\xff" * (BLOCKS * BLOCK_BYTES)), seed=seed, record=True)
        for at, blocks in ((APP, APP_BLOCKS), (STATE, STATE_BLOCKS)):
            mount.mkfs(Part(flash, at, blocks))
        app = Files(mount, Part(flash, APP, APP_BLOCKS))
        app.mkdir(slots.FOLDERS[0])
        state = Files(mount, Part(flash, STATE, STATE_BLOCKS))
        for fs, path, data in ((app, "/a/" + release.FILE, files[0]), (state, "/identity", files[1])):
            with fs.open(path, "wb") as file:
                file.write(data)
        first = WHOLE[steps[0][0]]
        for at in range(0, len(first), BLOCK_BYTES):
            flash.writeblocks(FIRST + at // BLOCK_BYTES, first[at : at + BLOCK_BYTES])
        _ota.start(_ota.OtaData(Flash(flash, DATA)), lambda at: at == 0)
        self.image = bytes(flash.image)
        flash.log = []
        flash.ops = 0
        self.until = []
        place = 0
        for at, step in enumerate(steps):
            chip = Chip(mount, flash, step)
            chip.receive(step[2], at + 1, place)
            chip.settle()
            if (chip.runs == step[1]) != (step[3] == OK):
                raise Wrong("uncut, step %d ends with %d" % (at, chip.runs))
            place = place if step[3] != OK else 1 - place
            self._check_events(chip, at, True)
            self.until.append(flash.ops)
        self.log = flash.log

    def _check_events(self, chip, at, is_told):
        """One event for each update that was begun, with its outcome."""
        told = [cbor.loads(event)[4] for event in chip.events]
        for n in range(len(told)):
            _, new, _, fault = self.steps[n]
            if told[n][0] != new or (told[n][1] == 0) != (fault == OK) or told[n][2:] != [1]:
                raise Wrong("update %d to %d was told as %r" % (n, new, told[n]))
        if len(told) not in ((at + 1,) if is_told else (at, at + 1)):
            raise Wrong("%d events after %d updates" % (len(told), at + 1))
        return len(told) == at + 1

    def _settled(self, flash, at):
        old, new, _, fault = self.steps[at]
        chip = Chip(self.mount, flash, self.steps[at])
        chip.events = []
        chip.settle()
        was_told = self._check_events(chip, at, False)
        if chip.runs != (new if fault == OK and was_told else old):
            raise Wrong("%d runs in the end" % chip.runs)
