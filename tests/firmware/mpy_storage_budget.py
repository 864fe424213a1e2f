"""What the outbox costs a node, measured inside MicroPython: mpy_storage_budget.py ROOT FLASH_FILE

Weeks of a node that keeps 96 sets a day, first heard by its gateway every hour, then not at all until its outbox of
256 KB runs over. Prints figures as name=value.
"""

import gc
import sys

sys.path.insert(0, sys.argv[1])

from vfs import VfsLfs2

from firmware.durable import Channel
from firmware.outbox import EVENTS, READINGS, Outbox

BLOCK_BYTES = 4096
SETS_A_DAY = 96
SET_BYTES = 38  # eight series and what the node keeps beside them


class FileFlash:
    """A partition in a file of the host, so that the heap holds the node alone."""

    def __init__(self, path, blocks):
        self.file = open(path, "w+b")  # noqa: SIM115  it is the flash, open as long as the node runs
        self.blocks = blocks
        self.progs = self.prog_bytes = self.erases = self.reads = 0
        self.erased = b"\xff" * BLOCK_BYTES
        for block in range(blocks):
            self.ioctl(6, block)

    def readblocks(self, block, buf, offset=0):
        self.file.seek(block * BLOCK_BYTES + offset)
        self.file.readinto(buf)
        self.reads += len(buf)

    def writeblocks(self, block, buf, offset=0):
        self.file.seek(block * BLOCK_BYTES + offset)
        self.file.write(buf)
        self.progs += 1
        self.prog_bytes += len(buf)

    def ioctl(self, op, arg):
        if op == 4:
            return self.blocks
        if op == 5:
            return BLOCK_BYTES
        if op == 6:
            self.file.seek(arg * BLOCK_BYTES)
            self.file.write(self.erased)
            self.erases += 1
        return 0


def alive():
    gc.collect()
    return gc.mem_alloc()


def day(box, channel, acked):
    """96 sets, an alarm now and then; each hour a frame is sent, and acknowledged when the gateway is there."""
    payload = bytearray(SET_BYTES)
    for k in range(SETS_A_DAY):
        box.keep(1, payload)
        if k % 24 == 23:
            box.keep(2, b"an alarm")
        if k % 4 == 3:
            channel.next_piv()
            if acked:
                box.next_unacked(READINGS, 0)
                box.acknowledge(1, box.next_seq - 1, [])


def main(path):
    flash = FileFlash(path, 128)
    VfsLfs2.mkfs(flash)
    fs = VfsLfs2(flash)
    channel = Channel(fs)
    channel.begin(bytes(16), 1, {1: 0})
    empty = alive()
    box = Outbox(fs, "/outbox", 64 * BLOCK_BYTES)
    box.begin_epoch(1)
    print("heap_new_bytes=%d" % (alive() - empty))
    day(box, channel, True)
    flash.progs = flash.prog_bytes = flash.erases = 0
    day(box, channel, True)
    print("day_erases=%d day_progs=%d day_prog_bytes=%d" % (flash.erases, flash.progs, flash.prog_bytes))
    first = alive()
    for _ in range(7):
        day(box, channel, True)
    print("heap_growth_week_bytes=%d" % (alive() - first))
    for _ in range(70):
        day(box, channel, False)
    print("heap_full_bytes=%d evicted=%d" % (alive() - empty, box.evicted))
    backlog = box.count(READINGS)
    flash.reads = 0
    alarm = box.next_unacked(EVENTS, 0)
    print("backlog=%d alarm_seq=%d alarm_read_bytes=%d" % (backlog, alarm.seq, flash.reads))
    flash.reads = 0
    box = None
    channel = None
    box = Outbox(VfsLfs2(flash), "/outbox", 64 * BLOCK_BYTES)
    print("start_read_bytes=%d same=%d" % (flash.reads, box.count(READINGS) == backlog))


main(sys.argv[2])
