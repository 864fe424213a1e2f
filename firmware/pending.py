"""What a node knows of an update that is under way: one document, from the last fragment to the news of how it ended.

update = phase u8 | slot u8 | flags u8 | outcome u8 | tries u8 | hours u8 | of which this start u8 | sent u16
         | of which this start u16 | sequence u32 | size u32 | payload size u32 | judge u32
         | SHA-256 of the bundle | SHA-256 of the payload
         | what was silent before it, u16, as long as it has not ended; then the event to be kept, which is longer
"""

from struct import calcsize, pack, unpack_from

from firmware.durable import Document, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.hal import Hal
    from firmware.node import Node

# Phases. VERIFIED: the manifest was signed by whom release JUDGE, which runs, trusts; what is below is out of it.
NOTHING, RECEIVED, VERIFIED, ON_TRIAL, ENDED, TOLD = 0, 1, 2, 3, 4, 5
# Of MicroPython: its manifest was signed and its image is awaited, from byte PAYLOAD_SIZE on; the image is all there.
FILLING, FILLED = 6, 7
# In the place of a slot, of MicroPython: this and which of its two places it comes into.
PLACES = 2
# Flags: a start of the trial was found healthy. And two of releases that did not say which series were silent: all, or
# it is not known which; some of them.
MUTE, HEALTHY, PARTLY = 1, 2, 4
NAME = "update"
# Where what is received is kept (pieces.py).
PIECES = "/update"
_FIELDS = "<BBBBBBBHHIIII32s32s"
PHASE, SLOT, FLAGS, OUTCOME, TRIES, HOURS, HOURS_NOW, SENT, SENT_NOW = 0, 1, 2, 3, 4, 5, 6, 7, 8
SEQUENCE, SIZE, PAYLOAD_SIZE, JUDGE, DIGEST, PAYLOAD_DIGEST = 9, 10, 11, 12, 13, 14
_SILENT_BYTES = 2


class Pending:
    """``f``: the fields, in the order above; ``silent``: series that had no reading before the update, as bits;
    ``intent``: the event to be kept, as in records.keep_once.
    """

    def __init__(self, fs: "Any") -> None:
        self._file = Document(fs, NAME)
        data = self._file.load() or bytes(calcsize(_FIELDS))
        self.f: "list[Any]" = list(unpack_from(_FIELDS, data))
        # A release that knows of no series here takes it for an event that is too short to be one.
        self.intent = data[calcsize(_FIELDS) :]
        self.silent = int.from_bytes(self.intent, "little") if len(self.intent) == _SILENT_BYTES else 0

    def save(self, intent: bytes = b"") -> None:
        self.intent = intent or self.silent.to_bytes(_SILENT_BYTES, "little")
        self._file.save(pack(_FIELDS, *self.f) + self.intent)

    def end(self, outcome: int) -> None:
        """It is known how it ended."""
        self.f[PHASE] = ENDED
        self.f[OUTCOME] = outcome
        self.save()


def received(hal: "Hal", silent: int) -> bool:
    """Make it durable that an update is whole; False while another one is on trial. ``silent``: as lacking() has it."""
    pending = Pending(hal.state_fs)
    if pending.f[PHASE] == ON_TRIAL:
        return False
    pending.f = [0] * DIGEST + [b"", b""]
    pending.f[PHASE] = RECEIVED
    pending.silent = silent
    pending.save()
    return True


def lacking(node: "Node") -> int:
    """The series that are fitted and had no reading in the latest measurement, as bits (of MAX_SERIES)."""
    values = node.sampler.values
    unfitted = node.sampler.unfitted()
    found = 0
    for series in range(len(values)):
        if values[series] is None and series not in unfitted:
            found |= 1 << series
    return found


def drop(hal: "Hal") -> None:
    """What was received is of no use any more. Its session is kept, so that nothing of it is taken for new."""
    head = read_file(hal.state_fs, PIECES, 5)
    if head is not None:
        try:
            with hal.state_fs.open(PIECES, "wb") as file:
                file.write(b"\0\0\2" + head[3:])
        except OSError as exc:
            hal.log("flash: %r" % exc)  # the next session clears it


def give_a_start(hal: "Hal") -> None:
    """Starts that failed (trials.py) were those of another program: this one begins with none."""
    file = Document(hal.state_fs, "trials")
    kept = file.load()
    if kept and kept[0]:
        file.save(bytes((0,)) + kept[1:])
