"""What a gateway may change on a node, as one versioned document: taken as a whole or refused as a whole."""

from firmware.errors import SettingsError
from firmware.modules import forget
from protocols.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Slot(Protocol):
        """One durable value: a firmware.durable.Document."""

        def load(self) -> "bytes | None": ...
        def save(self, data: bytes) -> None: ...


# Keys, SPEC.md section 2.4. Every node type has the first three, and some of the others.
INTERVAL_S = 0
REPORT_S = 1
STATUS_S = 2
ALARM_REPEAT_S = 3
TILT_DEG = 4
TILT_HOLD_S = 5
DISPLACED_DEG = 6
LEVEL_HIGH = 7
LEVEL_VERY_HIGH = 8
BATTERY_LOW_MV = 9
TRAPPED_S = 10
RATED_SPEED_MM_S = 11
LONG_STAY_S = 12
TARGET_CLASS = 13
RADIO_SF = 14
RADIO_DBM = 15


class Settings:
    """The document in force. A key that a document leaves out has the node type's default."""

    def __init__(self, slot: "Slot", defaults: "dict[int, int]") -> None:
        self._slot = slot
        self._defaults = defaults
        self.version = 0
        self._document: "dict[int, int]" = {}
        kept = slot.load()
        if kept:
            from firmware import restoring

            restoring.settings(self, kept)
            forget("firmware.restoring")

    def __getitem__(self, key: int) -> int:
        return self._document.get(key, self._defaults[key])

    def document(self) -> "dict[int, int]":
        """Every setting with the value in force."""
        return {key: self[key] for key in sorted(self._defaults)}

    def has(self, key: int) -> bool:
        """Whether a node of this type has that setting."""
        return key in self._defaults

    def replace(self, version: int, document: "dict[int, int]") -> None:
        """Take a document and make it durable; SettingsError, and nothing changed, if any of it may not be."""
        problem = self.problem(document)
        if problem:
            raise SettingsError("settings version %d refused: %s" % (version, problem))
        if version == self.version and document == self._document:
            return  # a repeat costs no flash
        self._slot.save(cbor.dumps([version, document]))
        self.version = version
        self._document = document

    def take(self, version: int, document: "dict[int, int]") -> None:
        """As it was kept: nothing is looked at or saved. (A private name means something else in each module.)"""
        self.version = version
        self._document = document

    def change(self, values: "dict[int, int]") -> None:
        """Change these in place, together; the version still names the document it came from."""
        document = dict(self._document)
        document.update(values)
        self.replace(self.version, document)

    def problem(self, document: "dict[int, int]") -> str:
        from protocols.wire import codes  # on the heap for this moment only

        problem = codes.settings_problem(document, self._defaults, self._document)
        forget("protocols.wire.codes")
        return problem
