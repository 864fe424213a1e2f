"""Why a node is where it is in a campaign: for people, for LwM2M (object 5), and for SUIT reports.

Most names are outcomes of the node's own (protocols/wire/outcomes.py); the others are said by the gateway.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.campaign_rows import (
    GONE,
    INSTALLED,
    OFFERED,
    RECEIVED,
    RECEIVING,
    REFUSED,
    ROLLED_BACK,
    TRYING,
)
from protocols.wire import outcomes

# Refusals of a setup, and what else the gateway says by itself: name → (result of LwM2M object 5, reason of SUIT).
OWN = {
    "had-it": (1, 0),
    "no-room": (2, 11),
    "not-wanted": (8, 10),
    "other-class": (6, 10),
    "no-release": (6, 10),
    "not-now": (0, 0),
    "unsteady-link": (4, 11),
    "never-heard": (0, 0),
    "lost": (4, 0),
    "lost-on-trial": (0, 0),
    "skipped": (0, 0),
}
_THERE = {name: (result, reason) for name, result, reason in outcomes.OUTCOMES}
# Of LwM2M object 5, resource 3: 0 idle, 1 downloading, 2 downloaded, 3 updating.
_LWM2M_STATE = {RECEIVING: 1, RECEIVED: 2, TRYING: 3}

# What each means and what to do, in a line each.
ADVICE = {
    "had-it": "It ran this release, or a newer one, already. Nothing to do.",
    "no-room": "The update does not fit its flash. Make the release smaller, or a delta for what it runs.",
    "not-wanted": "It says that this release is not above its own. Look at it: tidegate gateway status.",
    "other-class": "There is no release for its board. Build one for this node type and board, and begin a campaign.",
    "no-release": "It was flashed with a program that is no release, so it trusts nobody. Flash it over USB.",
    "not-now": "It has an event to tell, or is busy, and is asked again.",
    "unsteady-link": "Again and again it gave the transfer up. Look at its link and its flash, then begin a campaign.",
    "never-heard": "It was not heard. Has it power? While the campaign runs it gets the update when it returns.",
    "lost": "It went silent while it received. While the campaign runs it goes on when it returns.",
    "lost-on-trial": "It went silent on trial of the new release. It goes back by itself; go and look if it does not.",
    "skipped": "Somebody went on without it: the audit log says who. When it returns it goes on where it was.",
    "cbor": "Bytes of the envelope are wrong. Build and sign the release again.",
    "cose": "The signature's form is wrong. Sign the release again: tidegate release sign.",
    "algorithm": "It does not know this kind of signature. Sign with a key of ES256 or HSS/LMS.",
    "unknown-key": "Its release does not trust the key. Sign with one that it trusts, or go there in two steps.",
    "revoked-key": "The key is revoked. Sign the release with another one.",
    "signature": "The signature is not right: a file was altered. Build and sign the release again.",
    "digest": "The manifest is not the one that was signed. Sign the release again.",
    "command": "The manifest has another template. Build with this version of tidegate.",
    "component": "The manifest has another template. Build with this version of tidegate.",
    "parameter": "The manifest has another template. Build with this version of tidegate.",
    "vendor": "It is another vendor's node.",
    "class": "The release is for another node type or board.",
    "downgrade": "It runs this release or a newer one. Nodes never go back; ship the old code as a new release.",
    "oversize": "Bundle or payload is larger than it takes. Make the release smaller.",
    "base": "It runs something else than the delta starts from. The whole release is sent instead.",
    "payload": "What arrived twice is not the payload that was signed, once sent to it alone. Build it again.",
    "image": "The files that came out are not those that were signed. Check the release: tidegate release inspect.",
    "bundle": "The release has files that must not be. Build it again.",
    "space": "No room in its spare slot. Make the release smaller.",
    "memory": "No heap left to install. Reboot it, or ship a smaller delta.",
    "flash": "Its flash does not take what is written. Replace the board.",
    "crashed": "The new release crashed three times in a row. Mend the release; the node runs the old one.",
    "unsteady": "The new release restarted too often. Mend the release; the node runs the old one.",
    "unhealthy": "Under the new release a sensor was silent, or heap was short. Mend the release; it runs the old one.",
    "silent": "Under the new release nobody acknowledged it for 72 h. Look at the gateway and the release's radio.",
}


# Refusals that say nothing of the release.
OF_THE_NODE = ("other-class", "no-release")


class Code(NamedTuple):
    """A state in numbers."""

    lwm2m_state: int
    lwm2m_result: int
    suit_reason: int


def code(state: str, reason: str) -> Code:
    """Of a node's state and its reason ("": none)."""
    if state == INSTALLED and not reason:
        return Code(0, 1, 0)
    result, suit = _THERE.get(reason) or OWN.get(reason) or (0, 0)
    return Code(_LWM2M_STATE.get(state, 0), result, suit)


def ending(outcome: int) -> tuple[str, str]:
    """(state, reason) of a node that said how its update ended: the number of an outcome."""
    if outcome == outcomes.INSTALLED:
        return INSTALLED, ""
    if not 0 < outcome < len(outcomes.OUTCOMES):
        return REFUSED, f"outcome-{outcome}"  # of a newer node than this gateway
    name = outcomes.OUTCOMES[outcome][0]
    return (ROLLED_BACK if outcome >= outcomes.CRASHED else REFUSED), name


def vanishing(state: str) -> str:
    """Why a node is gone, by the state that it was in."""
    if state in (RECEIVED, TRYING):
        return "lost-on-trial"
    return "lost" if state in (OFFERED, RECEIVING) else "never-heard"


def is_failure(state: str, reason: str, vanished: str) -> bool:
    """Whether it speaks against the release: refused or rolled back by the node, or silent since it was on trial.

    One that a person goes on without does not: he knows more of it.
    """
    if state == GONE:
        return reason != "skipped" and vanished in (RECEIVED, TRYING)
    return state == ROLLED_BACK or (state == REFUSED and reason not in OF_THE_NODE)
