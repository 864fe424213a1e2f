# mypy: ignore-errors
"""What esp32.Partition knows of two places for MicroPython; loaded on first use, on a chip it is C in flash."""

import errno
import os

import _ota
import esp32


class _Flash:
    def __init__(self, part):
        self._part = part

    def read(self, at, count):
        data = bytearray(count)
        self._part.readblocks(0, data, at)
        return bytes(data)

    def erase(self, sector):
        self._part.ioctl(6, sector)

    def write(self, at, data):
        self._part.writeblocks(0, data, at)


def otadata():
    found = esp32.Partition.find(esp32.Partition.TYPE_DATA, 0)
    if not found:
        raise OSError(_ota.NOT_FOUND)
    return _ota.OtaData(_Flash(found[0]))


def label(is_running):
    running = os.getenv("VBOARD_RUNNING")
    if not running:
        raise OSError(errno.ENOENT)
    if is_running:
        return running
    data = otadata()
    at = data.active()
    return "ota_%d" % (data.place(at) if at >= 0 else 0)


def after(label):
    names = [part.info()[4] for part in esp32.Partition.find(esp32.Partition.TYPE_APP)]
    if not names:
        raise OSError(errno.ENOENT)
    return names[(names.index(label) + 1) % len(names)] if label in names else names[0]


def set_boot(part):
    kind, subtype, _, size, _, _ = part.info()
    if kind != 0 or not _ota.image_size(_Flash(part).read, size):
        raise OSError(_ota.VALIDATE_FAILED)
    otadata().set_boot(subtype - 0x10)
