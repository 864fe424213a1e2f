"""From the words of a person to the args of a command: `maintenance 30min`, `calibrate ph zero 6.86`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.errors import CommandError
from protocols.measurands import RegistryError, registry
from protocols.wire import codes

if TYPE_CHECKING:
    from protocols.wire.messages import Args

STEPS = {
    "zero": codes.CALIBRATE_ZERO,
    "span": codes.CALIBRATE_SPAN,
    "apply": codes.CALIBRATE_APPLY,
    "discard": codes.CALIBRATE_DISCARD,
}
_BARE = (codes.REBOOT, codes.READ_NOW, codes.REPORT_SETTINGS, codes.LEARN, codes.TEST_ALARM)
_SPANS = {"": 1, "s": 1, "min": 60, "h": 3600}
_CALIBRATE = (
    "calibrate takes a measurand, a step and a number: `calibrate ph zero 6.86` and `calibrate ph span 9.18` "
    "measure the two standard solutions, `calibrate ph apply 17` puts the result in force as number 17, "
    "`calibrate ph discard` forgets the two points."
)


def args_of(op: int, words: Sequence[str], node_type: str) -> Args:
    """The args of the operation; what the words can not mean is a CommandError, what they mean is checked later."""
    if op == codes.CALIBRATE:
        return _calibration(words, node_type)
    if op == codes.SET_RADIO:
        return _radio(words)
    if words and op in _BARE:
        raise CommandError(f"{words[0]!r:.40} is not allowed: this command takes no value.")
    if len(words) > 1:
        raise CommandError(
            f"{len(words)} values were given ({' '.join(words):.60}); this command takes one at most."
        )
    return _number(words[0]) if words else None


def _number(word: str) -> int:
    found = re.fullmatch(r"(\d{1,9})(s|min|h|)", word)
    if found is None:
        raise CommandError(
            f"{word!r:.40} is not allowed. Allowed is a whole number; of time also 90s, 30min or 2h."
        )
    return int(found[1]) * _SPANS[found[2]]


def _radio(words: Sequence[str]) -> Args:
    found = [re.fullmatch(r"-?\d{1,2}", word) for word in words]
    if len(words) != 2 or None in found:
        raise CommandError(
            "set-radio takes a spreading factor and a power in dBm: `set-radio 9 14`. What the plan of the node "
            "does not allow it refuses."
        )
    return [int(word) for word in words]


def _calibration(words: Sequence[str], node_type: str) -> Args:
    if len(words) not in (2, 3) or words[1] not in STEPS:
        raise CommandError(_CALIBRATE)
    name, step = words[0], STEPS[words[1]]
    try:
        series = registry().of_node_type(node_type)
    except RegistryError as exc:
        raise CommandError(f"a node of type {node_type!r:.40} has no probe to calibrate.") from exc
    index = next((i for i, measurand in enumerate(series) if measurand.name == name), None)
    if index is None:
        raise CommandError(
            f"a node of type {node_type} does not measure {name!r:.40}. It measures "
            f"{', '.join(measurand.name for measurand in series)}."
        )
    if step == codes.CALIBRATE_DISCARD:
        return [index, step, 0]
    if len(words) != 3:
        raise CommandError(_CALIBRATE)
    if step == codes.CALIBRATE_APPLY:
        return [index, step, _number(words[2])]
    if not re.fullmatch(r"-?\d{1,6}(\.\d{1,6})?", words[2]):
        raise CommandError(f"{words[2]!r:.40} is not a value in {series[index].unit}, such as 6.86.")
    return [index, step, series[index].scaled(float(words[2]))]
