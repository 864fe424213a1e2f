"""Before the state partition is mounted: finish what a power cut left half programmed.

A cell that was caught half-way reads 0 now and 1 a moment later. littlefs checks a commit by its CRC when it reads it;
one that checks out today and not tomorrow takes every later commit of its metadata block along, so whatever was kept
since is gone. No layer above can mend that, but the flash can: programming a cell to 0 again finishes it. So the last
pages that were programmed in each block are read several times, and where two reads differ, what was 0 in any of them
is programmed to 0: the commit becomes what it was going to be. A cut in that leaves the same for the next start.

A block caught half-way through an erase is only garbage with or without this: nothing refers to it, and littlefs erases
a block before it uses it.

Cost: four reads of the partition (512 KB: about 0.2 s on an ESP32), so it runs after every start but those from deep
sleep, which no cut precedes. Nothing is written unless something is unsteady.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BLOCK_COUNT = 4
_BLOCK_SIZE = 5
# The unit that flash programs at most at once (NOR page).
PAGE_BYTES = 256
# The last operation began at most a page before the last programmed byte, and may have reached a page beyond it.
WINDOW_BYTES = 3 * PAGE_BYTES
# One cell on the edge escapes notice with a chance of 2**-15 when it reads 0 and 1 equally often.
READS = 16
# A page may hold a thousand of them: once one is noticed, so many reads in a row must find no further one.
READS_QUIET = 32


def steady(device: "Any") -> int:
    """Finish what is unsteady on a block device; return in how many blocks."""
    blocks: int = device.ioctl(_BLOCK_COUNT, 0)
    size: int = device.ioctl(_BLOCK_SIZE, 0)
    whole = memoryview(bytearray(size))
    again = bytearray(WINDOW_BYTES)
    erased = memoryview(b"\xff" * PAGE_BYTES)
    finished = 0
    for block in range(blocks):
        device.readblocks(block, whole, 0)
        end = size
        while end and whole[end - PAGE_BYTES : end] == erased:
            end -= PAGE_BYTES
        start = min(max(end - 2 * PAGE_BYTES, 0), size - WINDOW_BYTES)
        finished += _finish(device, block, start, whole[start : start + WINDOW_BYTES], again)
    return finished


def _finish(device: "Any", block: int, start: int, zeros: memoryview, again: bytearray) -> bool:
    """Whether a window read differently; if so, everything that read 0 once is programmed to 0."""
    unsteady = False
    left = READS - 1
    while left:
        left -= 1
        device.readblocks(block, again, start)
        if again == zeros:
            continue
        if not unsteady:
            unsteady = True
            left = READS_QUIET
        for k in range(len(again)):
            if zeros[k] & ~again[k]:
                zeros[k] &= again[k]
                left = READS_QUIET
    if unsteady:
        device.writeblocks(block, zeros, start)
    return unsteady
