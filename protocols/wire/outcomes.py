"""How an update ended, in the numbers that travel (SPEC.md section 2.3): ours, LwM2M's and those of SUIT reports.

    OUTCOMES[n] = (name, result of LwM2M object 5, reason of a SUIT report)

The first is the one that one hopes for; up to the first of a trial, nothing of the node's program was touched.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

OUTCOMES: "Sequence[tuple[str, int, int]]" = (
    ("installed", 1, 0),
    ("cbor", 6, 1),
    ("cose", 6, 2),
    ("algorithm", 6, 3),
    ("unknown-key", 5, 4),
    ("revoked-key", 5, 4),
    ("signature", 5, 4),
    ("digest", 5, 4),
    ("command", 6, 5),
    ("component", 6, 6),
    ("parameter", 6, 8),
    ("vendor", 6, 10),
    ("class", 6, 10),
    ("downgrade", 8, 10),
    ("oversize", 2, 10),
    ("base", 8, 10),
    ("payload", 5, 10),
    ("image", 5, 10),
    ("bundle", 8, 11),
    ("space", 2, 11),
    ("memory", 3, 11),  # the heap
    ("flash", 8, 11),  # did not take or give what it should, again and again
    ("crashed", 8, 11),  # three starts of the trial in a row came to nothing
    ("unsteady", 8, 11),  # too many starts of the trial in all
    ("unhealthy", 8, 11),  # no measurement, no heap, or too slow
    ("silent", 8, 11),  # nobody acknowledged a frame
)
INSTALLED = 0
IMAGE = 17
MEMORY, FLASH, CRASHED, UNSTEADY, UNHEALTHY, SILENT = 20, 21, 22, 23, 24, 25


def number(name: str) -> int:
    """Of a reason that manifest.Refused or bundle.BundleError gave."""
    for at in range(len(OUTCOMES)):
        if OUTCOMES[at][0] == name:
            return at
    return FLASH
