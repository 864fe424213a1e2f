# mypy: ignore-errors
"""esp32.Partition on an image file that behaves as NOR flash: an erase sets every bit, a write only clears bits.

The file is unbuffered, so a SIGKILL is a power cut: what was written is written, the rest never was.
"""

import errno

import _board

_BLOCK = 4096
_CHUNK = 128
_BLANK = b"\xff" * _CHUNK
_EIO = errno.EIO
WAKEUP_ALL_LOW = False
WAKEUP_ANY_HIGH = True


def wake_on_ext0(pin, level):
    _wake_on(b"ext0", (pin,) if pin is not None else (), level)


def wake_on_ext1(pins, level):
    _wake_on(b"ext1", pins, level)


def wake_on_gpio(pins, level):
    # How RISC-V chips are woken by a pin; the others know it for light sleep alone.
    _wake_on(b"ext1", pins, level)


def gpio_deep_sleep_hold(enable):
    pass


def _wake_on(source, pins, level):
    # The supervisor remembers it until this life ends: a real chip forgets it at the next reset, too.
    numbers = b"".join([b" %d" % pin._number for pin in pins])
    if _board.ask(b"%s %d%s" % (source, level, numbers)):
        raise ValueError("invalid pin")


def _kind(label):
    """(type, subtype). As the stock partition table has it, file systems are data/fat (0x81) whatever is inside."""
    if label[:4] == "ota_":
        return (0, 0x10 + int(label[4:]))
    return (1, 0) if label == "otadata" else (1, 0x81)


class Partition:
    TYPE_APP = 0
    TYPE_DATA = 1
    BOOT = 0
    RUNNING = 1

    def __init__(self, label, block_size=_BLOCK):
        if label in (self.BOOT, self.RUNNING):
            import _places

            label = _places.label(label == self.RUNNING)
        for row in _board.PARTITIONS.split(";"):
            name, offset, size = row.split(":")
            if name == label:
                self._label = name
                self._offset = int(offset)
                self._size = int(size)
                self._block = block_size
                self._file = open(_board.FOLDER + "/" + name + ".bin", "r+b")
                return
        raise OSError(errno.ENOENT)

    @classmethod
    def find(cls, type=TYPE_APP, subtype=0xFF, label=None, block_size=_BLOCK):
        labels = [row.split(":")[0] for row in _board.PARTITIONS.split(";")]
        labels = [name for name in labels if label is None or name == label]
        kinds = [_kind(name) for name in labels]
        return [
            cls(labels[at], block_size)
            for at in range(len(labels))
            if kinds[at][0] == type and subtype in (0xFF, kinds[at][1])
        ]

    def info(self):
        type, subtype = _kind(self._label)
        return (type, subtype, self._offset, self._size, self._label, False)

    def get_next_update(self):
        import _places

        return Partition(_places.after(self._label), self._block)

    def set_boot(self):
        import _places

        _places.set_boot(self)

    @classmethod
    def mark_app_valid_cancel_rollback(cls):
        import _places

        _places.otadata().mark_valid()

    def _seek(self, block, offset, length):
        start = block * self._block + offset
        if start < 0 or start + length > self._size:
            raise OSError(_EIO)
        self._file.seek(start)
        return start

    def readblocks(self, block, buf, offset=0):
        self._seek(block, offset, len(buf))
        self._file.readinto(buf)

    def writeblocks(self, block, buf, offset=None):
        if offset is None:
            # The two-argument form of the block protocol erases first.
            for n in range((len(buf) + self._block - 1) // self._block):
                self.ioctl(6, block + n)
            offset = 0
        start = self._seek(block, offset, len(buf))
        self._refuse_unerased(start, memoryview(buf))
        self._file.seek(start)
        self._file.write(buf)

    def _refuse_unerased(self, start, data):
        # A real chip would AND old and new in silence and hand back neither: here the bug shows where it happens.
        for at in range(0, len(data), _CHUNK):
            new = data[at : at + _CHUNK]
            self._file.seek(start + at)
            old = self._file.read(len(new))
            if old == _BLANK or old == new:
                continue
            for i in range(len(old)):
                if new[i] & ~old[i]:
                    raise OSError(_EIO)

    def ioctl(self, command, argument):
        if command in (1, 2, 3):  # init, deinit, sync
            return 0
        if command == 4:
            return self._size // self._block
        if command == 5:
            return self._block
        if command == 6:
            self._seek(argument, 0, self._block)
            for _ in range(self._block // _CHUNK):
                self._file.write(_BLANK)
            return 0
        return None
