"""Whether starts come to something: after three in a row that did not, the node starts in safe mode.

A start has come to something when the first measurement of that life has come to its end. Good starts write nothing: a
failure is counted where it shows, by who catches the exception that ended a start or at the start after a watchdog
reset, and the first good start after one takes the count back. A power cut counts as nothing. (A watchdog reset after
weeks of good life counts one too many until the next start is good; then it is taken back as well.)

Safe mode ends with a try of the ordinary start: when a reboot is asked for, after an hour, or when somebody switches
the node off and on. Another failure, and it is in safe mode again.
"""

from firmware import records
from firmware.durable import Document
from firmware.errors import StorageError
from firmware.hal import CAUSE_POWER_ON, CAUSE_WATCHDOG
from protocols.wire import codes, messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal
    from firmware.node import Node
    from firmware.outbox import Outbox

FAILED_MAX = 3
# Longest time in safe mode before the ordinary start is tried again: so long a cover may be stolen unseen.
SAFE_S = 3600

# trials = failed u8 | told u8 | the event to be kept, as in records.keep_once
_HEAD = 2
# Phases of an update beyond this one: it has ended (pending.py).
_ON_TRIAL = 3


class Trials:
    """``failed``: starts in a row that came to nothing. Made at a start, let go of once it has come to something."""

    def __init__(self, hal: "Hal") -> None:
        self._file = Document(hal.state_fs, "trials")
        self._hal = hal
        kept = self._file.load() or bytes(_HEAD)
        self.failed = kept[0]
        self._told = kept[1]  # whether the gateway heard of a safe mode that it has not heard the end of
        self._intent = kept[_HEAD:]
        self._has_news = False  # of an update that has ended
        data = Document(hal.state_fs, "update").load()
        if data and data[0] > _ON_TRIAL:
            self._has_news = True
        if hal.reset_cause == CAUSE_WATCHDOG:
            self.failed_again()
        elif hal.reset_cause == CAUSE_POWER_ON:
            self.try_again()

    @property
    def is_safe(self) -> bool:
        return self.failed >= FAILED_MAX

    def failed_again(self) -> None:
        """A start came to nothing. In safe mode nothing is counted: that would wear the flash."""
        if not self.is_safe:
            self._set(self.failed + 1)

    def try_again(self) -> None:
        """The next start is an ordinary one; if it fails, the one after it is safe again."""
        if self.is_safe:
            self._set(FAILED_MAX - 1)

    def recover(self, outbox: "Outbox") -> None:
        """Keep the event that the last life meant to keep, if it did not come to that."""
        records.finish(outbox, self._intent)
        self._intent = b""
        if self._has_news:
            from firmware import news

            news.recover(self._hal, outbox)
            news.close()

    def started(self, node: "Node") -> None:
        """There is a node: it tells of safe mode, once, and of how an update ended."""
        if self._has_news:
            from firmware import news

            news.tell(node)
            news.close()
        if self.is_safe and not self._told:
            self._told = 1
            self._tell(node, messages.RAISED)

    def succeeded(self, node: "Node") -> None:
        """This start has come to something."""
        if not self.failed and not self._told:
            return
        self.failed = 0
        if self._told:
            self._told = 0
            self._tell(node, messages.CLEARED)
        else:
            self._save()

    def _set(self, failed: int) -> None:
        self.failed = failed
        try:
            self._save()
        except (StorageError, OSError) as exc:
            self._hal.log("flash: %r" % exc)  # then it is counted in this life only

    def _tell(self, node: "Node", state: int) -> None:
        time, tq = node.record_time()
        payload = records.pack_event(time, tq, codes.SAFE_MODE, state, self.failed)
        records.keep_once(node.outbox, self._save, records.EVENT, payload)
        node.uplink.hurry()

    def _save(self, intent: bytes = b"") -> None:
        self._file.save(bytes((self.failed, self._told)) + (intent or self._intent))
