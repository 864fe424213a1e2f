"""Which of the two slots of the `app` partition runs: one small record, replaced as a whole (STORAGE.md).

    record = running u8 | trial u8 | crashes u8 | starts u8 | tried u32        slots: 0 is /a, 1 is /b

`running` is the slot that is confirmed. While `trial` is a slot, that one is started in its place: `starts` counts its
starts, `crashes` those since one of them came to something, and too many of either end the trial. `tried` is the
release of the latest trial. No record, as on a partition that was just flashed: /a runs.
"""

from struct import pack, unpack

from firmware.durable import Document
from firmware.errors import StorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Folders of the slots, and of the two copies of the record: a slot holds its bundle and nothing else.
FOLDERS = ("/a", "/b")
COPIES = ("/1", "/2")
NONE = 255
RUNNING, TRIAL, CRASHES, STARTS, TRIED = 0, 1, 2, 3, 4
_RECORD = "<BBBBI"
_SIZE = 8
# What a slot is started by.
MAIN = "/main.py"
# Starts of a trial in a row that came to nothing; and starts of a trial in all, for what fails later than that.
CRASHES_MAX = 3
STARTS_MAX = 50


class Slots:
    """``fs``: the `app` file system. ``record``: a list, in the order above."""

    def __init__(self, fs: "Any") -> None:
        self._file = Document(fs, "slots", COPIES)
        data = self._file.load()
        self.record: "list[int]" = [0, NONE, 0, 0, 0]
        if data is not None and len(data) == _SIZE and data[RUNNING] < 2 and data[TRIAL] in (0, 1, NONE):
            self.record = list(unpack(_RECORD, data))

    @property
    def starts(self) -> int:
        """The slot that is to be started."""
        return self.record[RUNNING if self.record[TRIAL] == NONE else TRIAL]

    def save(self, running: int, trial: int, crashes: int, starts: int, tried: int) -> None:
        """Durable on return."""
        self._file.save(pack(_RECORD, running, trial, crashes, starts, tried))
        self.record = [running, trial, crashes, starts, tried]

    def count(self) -> None:
        """One more start of a trial begins, or, after too many, the trial is over."""
        running, trial, crashes, starts, tried = self.record
        if trial == NONE:
            return
        if crashes >= CRASHES_MAX or starts >= STARTS_MAX:
            self.save(running, NONE, crashes, starts, tried)
        else:
            self.save(running, trial, crashes + 1, starts + 1, tried)

    def came_to_something(self) -> None:
        """This start of the trial did."""
        running, trial, crashes, starts, tried = self.record
        if crashes:
            self.save(running, trial, 0, starts, tried)

    def confirm(self) -> None:
        """What was on trial runs from now on."""
        _, trial, _, starts, tried = self.record
        if trial == NONE:
            return
        self.save(trial, NONE, 0, starts, tried)

    def roll_back(self) -> None:
        """The trial is over; what ran before runs again from the next start on."""
        running, _, crashes, starts, tried = self.record
        self.save(running, NONE, crashes, starts, tried)


def counted(found: "Slots") -> int:
    """The slot to start, once this start of a trial is counted. One that can not be counted is not begun."""
    try:
        found.count()
        return found.starts
    except (OSError, StorageError):
        return found.record[RUNNING]


def choose(fs: "Any", slot: int) -> str:
    """The folder of that slot, or of the other one if there is no program in it."""
    for at in (slot, 1 - slot):
        try:
            fs.stat(FOLDERS[at] + MAIN)
            return FOLDERS[at]
        except OSError:
            pass
    return FOLDERS[slot]
