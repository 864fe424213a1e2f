"""Who holds a wave up, for how long still, and what a person does about it: go on without that node."""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple

from gateway import campaign_rows as rows
from gateway.campaign_books import patience_s
from gateway.campaign_plan import Plan
from gateway.campaign_rows import Campaign, Member
from gateway.errors import CommandError

REASON = "skipped"
# So many are told, those that will have been waited for first; where more hold it up, the wave is simply at work.
TOLD_MAX = 3


class Holds(NamedTuple):
    """A node without which its wave is not through."""

    node: str
    wave: int
    state: str
    reason: str
    left_s: int  # of patience: then it is gone by itself


def holds_up(member: Member, campaign: Campaign) -> bool:
    return member.wave <= campaign.wave and member.state not in (*rows.FINAL, rows.GONE)


def who_holds(members: list[Member], campaign: Campaign) -> dict[str, Any]:
    """For `campaign.show`: how many, and the first of them."""
    plan = Plan.of(campaign.document)
    found = [
        Holds(
            f"{one.node:04x}", one.wave, one.state, one.reason,
            max(0, patience_s(one, plan) - (campaign.active_s - one.since_s)),
        )
        for one in members
        if campaign.state in rows.OPEN and holds_up(one, campaign)
    ]  # fmt: skip
    found.sort(key=lambda one: one.left_s)
    return {"count": len(found), "first": [one._asdict() for one in found[:TOLD_MAX]]}


def skip(connection: sqlite3.Connection, campaign: Campaign, node: int, now_ms: int) -> Member:
    """The campaign goes on without it; its row before. Raises CommandError."""
    name = f"{node:04x}"
    member = rows.member(connection, campaign.id, node)
    if member is None:
        raise CommandError(
            f"node {name} is not in campaign {campaign.id} ({campaign.name}). Who is: "
            f"tidegate campaign show {campaign.id} --nodes"
        )
    if campaign.state not in rows.OPEN:
        raise CommandError(f"campaign {campaign.id} ({campaign.name}) is over: {campaign.state}.")
    if member.state in rows.FINAL or member.state == rows.GONE:
        raise CommandError(f"node {name} is {member.state}: it holds nobody up.")
    if not holds_up(member, campaign):
        raise CommandError(
            f"node {name} is in wave {member.wave + 1}, which is not open yet: it holds nobody up."
        )
    after = member._replace(state=rows.GONE, reason=REASON, vanished=member.state, changed_ms=now_ms)
    rows.save_member(connection, after)
    return member
