"""What one answer of a node makes of its place in a campaign. Pure: a row in, a row out.

    waiting ─00─▶ asked ─02─▶ offered ─▶ receiving ─▶ received ─▶ trying ─▶ installed, rolled back
       └──────────┴───────────┴─────────────┴────────────┴──────────┴─────▶ refused, gone

An answer may come late, twice, or after a gateway was killed before it wrote down what it asked; so each is taken for
what it says, whatever was asked last. Nothing goes back except by what the node itself says.
"""

from __future__ import annotations

from gateway import campaign_reasons
from gateway.campaign_limits import ALONE_FROM_TRIES, TRIES_MAX
from gateway.campaign_rows import (
    ASKED,
    FINAL,
    GONE,
    INSTALLED,
    OFFERED,
    RECEIVED,
    RECEIVING,
    REFUSED,
    TRYING,
    WAITING,
    Member,
)
from protocols.wire import ota, update

WHO, CALL = update.WHO, update.COME
# Answers to a call.
COMES, NO_RADIO, NOT_NOW = update.COMES, update.NO_RADIO, update.NOT_NOW


def on_status(member: Member, release: int, session: int, answer: bytes) -> Member:
    """It runs `release`, and says `answer` of `session`."""
    if member.state in FINAL or not answer:
        return member
    if member.target is not None and release >= member.target:
        return _runs_it(member)
    if member.state == GONE and member.reason == "not-now" and answer == bytes((CALL, NOT_NOW)):
        return member  # as before
    member = _back(member)
    if member.ran is not None and release != member.ran and member.state in (ASKED, OFFERED, RECEIVING):
        # It runs something else than it did: what was chosen for it may start from the wrong base.
        member = _anew(member)
    member = member._replace(ran=release)
    kind, is_ours = answer[0], member.session is not None and session == member.session
    if kind == WHO:
        return _on_who(member, release)
    if not is_ours:
        return member
    member = member._replace(reason="")
    if kind == ota.SETUP and len(answer) == 2:
        return _on_setup(member, answer[1])
    if kind == ota.STATUS and len(answer) == 5:
        return _on_received(member, answer[3])
    if kind == CALL and len(answer) == 2 and member.state == RECEIVING:
        return _on_call(member, answer[1])
    if kind == ota.DELETE and len(answer) == 2:
        # After an abort nothing is said to it any more; one that was not asked to forget is offered it anew.
        return _next_try(member) if member.state in (OFFERED, RECEIVING) else member
    return member


def on_ending(member: Member, sequence: int, outcome: int) -> Member:
    """Its record says how an update that was whole has ended."""
    if sequence != member.target or member.state in FINAL:
        return member
    state, reason = campaign_reasons.ending(outcome)
    if reason == "base" and not member.tries:
        return _anew(_back(member))._replace(tries=1)  # what follows is the whole
    if reason == "payload" and member.tries < ALONE_FROM_TRIES:
        # Signed it was; so what arrived was not what was sent, and under a group key many can see to that.
        return _anew(_back(member))._replace(tries=ALONE_FROM_TRIES)
    return member._replace(state=state, reason=reason, vanished="", deficit=None)


def on_hello(member: Member) -> Member:
    """It has started: with all of an update there, that is a trial."""
    if member.state == RECEIVED:
        return member._replace(state=TRYING)
    return member


def on_silence(member: Member) -> Member:
    """There was no progress for longer than it was to be waited for. It may come back."""
    reason = member.reason or campaign_reasons.vanishing(member.state)
    return member._replace(state=GONE, reason=reason, vanished=member.state)


def offered(member: Member, payload: int, session: int, target: int) -> Member:
    """A setup goes out."""
    if session != member.session:
        member = member._replace(payload=payload, session=session, deficit=None, rows=0)
    return member._replace(state=OFFERED, target=target)


def _on_who(member: Member, release: int) -> Member:
    if not release and member.state in (WAITING, ASKED, OFFERED):
        return member._replace(state=REFUSED, reason="no-release")
    return member._replace(state=ASKED) if member.state == WAITING else member


def _on_setup(member: Member, refusal: int) -> Member:
    if not refusal:
        is_new = member.state in (WAITING, ASKED, OFFERED)
        return member._replace(state=RECEIVING) if is_new else member
    if member.state not in (WAITING, ASKED, OFFERED, RECEIVING):
        return member
    if refusal & ota.NO_ROOM:
        return member._replace(state=REFUSED, reason="no-room")
    after = _next_try(member)
    return after if after.state != REFUSED else after._replace(reason="not-wanted")


def _on_call(member: Member, code: int) -> Member:
    if code == update.NO_SESSION:
        return _next_try(member)
    return member._replace(reason="not-now") if code == NOT_NOW else member


def _on_received(member: Member, missing: int) -> Member:
    if member.state in (RECEIVED, TRYING):
        return member
    if not missing:
        return member._replace(state=RECEIVED, deficit=0)
    return member._replace(state=RECEIVING, deficit=missing)


def _next_try(member: Member) -> Member:
    """Another session, unless there were enough."""
    if member.tries + 1 >= TRIES_MAX:
        return member._replace(state=REFUSED, reason="unsteady-link", tries=member.tries + 1)
    return _anew(member)._replace(tries=member.tries + 1)


def _anew(member: Member) -> Member:
    return member._replace(state=ASKED, payload=None, session=None, deficit=None, rows=0)


def _back(member: Member) -> Member:
    """One that was gone goes on where it was."""
    if member.state != GONE:
        return member
    return member._replace(state=member.vanished or WAITING, reason="", vanished="")


def _runs_it(member: Member) -> Member:
    was = member.vanished if member.state == GONE else member.state
    if was in (WAITING, ASKED, OFFERED):
        return member._replace(state=INSTALLED, reason="had-it", vanished="")
    return member._replace(state=TRYING, reason="", vanished="")
