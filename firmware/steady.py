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
# The unit that flash programs at most at once (NOR page), and the alignment of what is read and written here.
PAGE_BYTES = 256
# A cell on the edge escapes notice with a chance of 2**-15 when it reads 0 and 1 equally often.
READS = 16


def steady(device: "Any") -> int:
    """Finish unsteady pages of a block device; return how many there were."""
    blocks: int = device.ioctl(_BLOCK_COUNT, 0)
    size: int = device.ioctl(_BLOCK_SIZE, 0)
    page = bytearray(PAGE_BYTES)
    first = bytearray(PAGE_BYTES)
    erased = b"\xff" * PAGE_BYTES
    finished = 0
    for block in range(blocks):
        end = _programmed_end(device, block, size, page, erased)
        # The last operation began at most a page before the last programmed byte, and may have reached beyond it.
        for at in range(max(end - 2 * PAGE_BYTES, 0), min(end + PAGE_BYTES, size), PAGE_BYTES):
            finished += _finish(device, block, at, first, page)
    return finished


def _programmed_end(device: "Any", block: int, size: int, page: bytearray, erased: bytes) -> int:
    """Where the erased rest of a block begins."""
    at = size
    while at > 0:
        device.readblocks(block, page, at - PAGE_BYTES)
        if page != erased:
            break
        at -= PAGE_BYTES
    return at


def _finish(device: "Any", block: int, at: int, first: bytearray, page: bytearray) -> bool:
    """Whether a page read differently; if so, everything that read 0 once is programmed to 0."""
    device.readblocks(block, first, at)
    unsteady = False
    for _ in range(READS - 1):
        device.readblocks(block, page, at)
        if page != first:
            unsteady = True
            for k in range(len(page)):
                first[k] &= page[k]
    if unsteady:
        device.writeblocks(block, first, at)
    return unsteady
