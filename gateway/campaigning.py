"""The parts of a gateway that campaigns are made of: the engine, what asks it on the links, and the broadcaster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.broadcast import Broadcaster, reach_of
from gateway.campaign_operations import CampaignOperations
from gateway.campaign_talk import Frame
from gateway.campaigns import Campaigns
from gateway.downlink import Channel
from gateway.parts import Part
from gateway.updating import Updating
from protocols.wire import group

if TYPE_CHECKING:
    from gateway.daemon import Gateway


class Campaigning(NamedTuple):
    engine: Campaigns
    updating: Updating
    broadcaster: Broadcaster | None  # None: there is no radio


def build(
    gateway: Gateway,
    part: Callable[[str, Callable[[], Awaitable[None]]], Part],
    current_channel: Callable[[int], Channel | None],
    random_bytes: Callable[[int], bytes],
) -> Campaigning:
    """All of it, with its parts; the downlink hears of it."""
    air = gateway.air
    engine = Campaigns(
        gateway.store, gateway.registry, gateway.clock, random_bytes, gateway.silence.heartbeat_s,
        may_broadcast=air is not None,
    )  # fmt: skip
    updating = Updating(engine, gateway.routes, current_channel, gateway.log)
    updating.on_progress = part("campaigns", updating.run).beat
    gateway.downlink.updates = updating
    if air is None:
        return Campaigning(engine, updating, None)
    updating.most = air.link.broadcasts.size_max
    broadcaster = Broadcaster(
        engine,
        air.link.broadcasts,
        [radio.name for radio in air.radios],
        reach_of(gateway.routes),
        seal,
        gateway.log,
        now_s=gateway.clock.monotonic,
    )
    broadcaster.on_progress = part("broadcasts", broadcaster.run).beat
    return Campaigning(engine, updating, broadcaster)


def serve(gateway: Gateway) -> None:
    """What people may ask of it."""
    engine = gateway.campaigns.engine
    CampaignOperations(
        gateway.store, gateway.registry, gateway.clock, engine.reload, engine.passes.told_of
    ).serve(gateway.operations)


def picture(gateway: Gateway) -> dict[str, Any]:
    """For /metrics."""
    engine, updating, broadcaster = gateway.campaigns
    found = engine.picture()
    sent = {f"down_{name}": count for name, count in updating.counters.items()}
    cast = {} if broadcaster is None else {f"pass_{name}": at for name, at in broadcaster.picture().items()}
    return {**found, "counters": {**found["counters"], **sent, **cast}}


def seal(frame: Frame) -> bytes:
    """The packet of a row for everybody."""
    return group.seal(group.key_of(frame.key, frame.session), frame.piv, frame.command)
