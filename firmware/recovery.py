"""What a start finds of the outbox on flash; also what is found after an operation that the flash refused.

Files are listed, headers read, and the segments that no later header describes walked record by record. Runs once in a
life if all goes well, so it is on the heap only then.
"""

from firmware.durable import ensure_folder
from firmware.lane import LANES
from firmware.segment import HEADER_BYTES, RECORDS_MAX, SEGMENT_BYTES
from firmware.shelf import PREFIX
from protocols.wire.document import FOLDERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.shelf import Shelf


def recover(shelf: "Shelf") -> "list[tuple[int, int]]":
    """Fill the lanes of an empty shelf. Returns (first seq, epoch) of each segment whose header is whole, by seq."""
    # All folders now: on a full partition, giving up a segment must not need a new one.
    for folder in FOLDERS + (shelf.path,):
        ensure_folder(shelf.fs, folder)
    _list(shelf)
    epochs: "list[tuple[int, int]]" = []
    for lane in LANES:
        _read_headers(shelf, lane, epochs)
    for lane in LANES:
        one = shelf.lanes[lane]
        for at in range(len(one)):
            if not one.count[at]:
                _walk(shelf, lane, at)
        if len(one):
            shelf.mark.next_seq = max(shelf.mark.next_seq, one.last[len(one) - 1] + 1)
    epochs.sort()
    return epochs


def _list(shelf: "Shelf") -> None:
    """Find the files; finish a removal that was begun, and one of a segment that was never begun."""
    firsts: "tuple[list[int], list[int]]" = ([], [])
    remove = []
    for entry in shelf.fs.ilistdir(shelf.path):
        found = _parse(entry[0])
        if found is None:
            continue
        # littlefs creates a file before it fills it: an empty one is a segment whose first record was never kept.
        if found == shelf.mark.condemned or not entry[3]:
            remove.append(entry[0])
        else:
            firsts[found[0]].append(found[1])
    for name in remove:
        shelf.fs.remove(shelf.path + "/" + name)
    for lane in LANES:
        for first in sorted(firsts[lane]):
            shelf.lanes[lane].append(first, first, 0)


def _read_headers(shelf: "Shelf", lane: int, epochs: "list[tuple[int, int]]") -> None:
    """What each header says of its epoch, and of the segment before it."""
    one = shelf.lanes[lane]
    for at in range(len(one)):
        head = shelf.read(lane, at, HEADER_BYTES)
        if head is None:
            continue
        epochs.append((one.first[at], head.epoch))
        if at and head.prev_first == one.first[at - 1]:
            one.last[at - 1] = head.prev_last
            one.count[at - 1] = head.prev_count


def _walk(shelf: "Shelf", lane: int, at: int) -> None:
    """Count a segment that no later header describes: the newest of its lane, mostly."""
    one = shelf.lanes[lane]
    damage = shelf.load(lane, at)
    one.count[at] = shelf.count
    if shelf.count:
        one.last[at] = shelf.seq(shelf.count - 1)
    if at < len(one) - 1:
        if damage:
            one.last[at] = one.first[at + 1] - 1
            shelf.lose_below(one.first[at + 1])
        return
    one.size = shelf.length
    if damage:
        # What can not be read may have been sent: its seqs are not used again, and count as lost.
        one.size = SEGMENT_BYTES
        shelf.mark.next_seq = max(shelf.mark.next_seq, one.last[at] + RECORDS_MAX)
        shelf.lose_below(shelf.mark.next_seq)


def _parse(name: str) -> "tuple[int, int] | None":
    """(lane, first seq) of a segment's file name, or None for any other name."""
    lane = PREFIX.find(name[:1])
    if len(name) != 9 or lane < 0:
        return None
    try:
        return lane, int(name[1:], 16)
    except ValueError:
        return None
