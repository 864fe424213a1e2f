"""What minting says about the air: a plan, channels and a spreading factor, as a person names them (SPEC.md 7.1)."""

from __future__ import annotations

from difflib import get_close_matches

from flash_tools.errors import MintError
from protocols.wire.law import Law
from protocols.wire.plans_table import PLANS

Radio = tuple[int, int, int, int]
# Of a node whose spreading factor is left to its gateway: what a concentrator hears at once.
_CHANNELS = 8
SF_MIN = 7


def radio_of(plan: str | None, channel: int = 0, channels: int | None = None, sf: int = 0) -> Radio | None:
    """Key 7 of the identity; None without a plan: a node on a serial line. MintError for what the plan has not.

    ``sf`` 0: the gateway says. ``channels`` None: one where ``sf`` is fixed, for a bridge hears one, and else eight.
    """
    if plan is None:
        if channel or channels is not None or sf:
            raise MintError("--channel, --channels and --sf are of a plan: name it with --plan")
        return None
    law = Law(_plan_id(plan))
    count = channels if channels is not None else 1 if sf else min(_CHANNELS, law.channels - channel)
    if not 0 <= channel < law.channels:
        raise MintError(f"channel {channel}: plan {plan} has channels 0 to {law.channels - 1}")
    if not 1 <= count <= law.channels - channel:
        raise MintError(
            f"{count} channels from {channel} on: plan {plan} has 1 to {law.channels - channel} from there"
        )
    if sf and not SF_MIN <= sf <= law.sf_max:
        raise MintError(
            f"SF{sf}: plan {plan} has SF{SF_MIN} to SF{law.sf_max}, or 0, which leaves it to the gateway"
        )
    return law.plan_id, channel, count, sf


def _plan_id(name: str) -> int:
    names = {row[0]: plan_id for plan_id, row in PLANS.items()}
    if name not in names:
        near = get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f". Did you mean {near[0]}?" if near else ""
        raise MintError(f"plan {name!r}: there are {', '.join(names)}{hint}")
    return names[name]
