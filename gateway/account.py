"""What a gateway says of itself: why it is not ready, everything that can be counted, and how each node is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway import bluetooth, buses, campaigning, damage, radios

if TYPE_CHECKING:
    from gateway.daemon import Gateway


def reasons(gateway: Gateway) -> list[str]:
    """Why the gateway is not ready; empty when it is."""
    found = [f"{part.name}: {part.last_error}" for part in gateway.parts if part.state == "failed"]
    found += [f"{part.name}: stalled" for part in gateway.parts if part.stalled]
    if gateway.store.failing is not None:
        found.append(f"store: {gateway.store.failing}")
    found += gateway.upkeep.reasons()
    found += damage.reasons(gateway.store)
    if gateway.reload is not None and gateway.reload.reason:
        found.append(gateway.reload.reason)
    found += [
        f"serial:{link.name}: {link.last_error or 'closed'}" for link in gateway.links if not link.is_open
    ]
    if gateway.air is not None:
        found += [
            f"radio:{radio.name}: {radio.problem}" for radio in gateway.air.radios if not radio.is_ready
        ]
    found += bluetooth.reasons(gateway.bluetooth)
    found += buses.reasons(gateway.buses)
    kinds = {section.name: kind for kind, section in gateway.config.northbounds}
    problems = {name: northbound.problem() for name, northbound in gateway.northbounds.items()}
    return found + [f"{kinds[name]}:{name}: {problem}" for name, problem in problems.items() if problem]


def picture(gateway: Gateway) -> dict[str, Any]:
    """Everything countable, for /metrics and status."""
    return {
        "parts": {
            part.name: {
                "up": float(part.state == "running" and not part.stalled),
                "idle_seconds": part.idle_s(),
                "failures": part.failures,
            }
            for part in gateway.parts
        },
        "store": {
            **gateway.store.counters,
            **gateway.restamp.counters,
            "depth_frames": gateway.store.depth(),
            "failing": float(gateway.store.failing is not None),
            "disk_free_bytes": gateway.free_bytes(gateway.store.path.parent),
            **gateway.upkeep.picture(),
        },
        "refused": dict(gateway.ingest.refused),
        "links": _links_picture(gateway),
        "radios": {} if gateway.air is None else radios.picture(gateway.air),
        "northbounds": {name: northbound.picture() for name, northbound in gateway.northbounds.items()},
        "downlinks": dict(gateway.downlink.counters),
        "adr": dict(gateway.hearing.counters) if gateway.hearing else {},
        "commands": dict(gateway.commands.counters),
        "alarms": dict(gateway.alarms.counters),
        "campaigns": campaigning.picture(gateway),
        "http": dict(gateway.health.counters) if gateway.health else {},
        "api": dict(gateway.api.counters) if gateway.api else {},
        "devices": gateway.devices.picture(),
        **bluetooth.picture(gateway.bluetooth),
        **buses.picture(gateway.buses),
        "nodes": len(gateway.registry.nodes()),
        "nodes_heard_1h": gateway.presence.count(3600),
        "nodes_silent": sum(gateway.silence.is_silent(node.address) for node in gateway.registry.nodes()),
        "clock": float(gateway.clock.synchronised()),
    }


def _links_picture(gateway: Gateway) -> dict[str, dict[str, float]]:
    links = {link.name: link.picture() for link in gateway.links}
    if gateway.air is not None:
        links[gateway.air.link.name] = gateway.air.link.picture()
    return links


def status(gateway: Gateway) -> dict[str, Any]:
    """What `tidegate gateway status` shows."""
    return {
        "name": gateway.config.gateway.name,
        "running_s": gateway.clock.monotonic() - gateway.started_s,
        "reasons": reasons(gateway),
        "health_port": gateway.health.port if gateway.health else None,
        **picture(gateway),
        "rows": [node_status(gateway, node.address) for node in gateway.registry.nodes()],
    }


def node_status(gateway: Gateway, address: int) -> dict[str, Any]:
    """The row of one node."""
    place = gateway.registry.place_of(address, gateway.clock.unix_ms())
    seen = gateway.presence.of(address)
    node = gateway.registry.node(address)
    row: dict[str, Any] = {
        "node": f"{address:04x}",
        "type": node.node_type if node else "",
        "site": place.site,
        "area": place.area,
        "silent": gateway.silence.is_silent(address),
        "heartbeat_s": gateway.silence.heartbeat_s(address),
        "waited_s": gateway.silence.waited_s(address),
    }
    if seen is not None:
        row |= {
            "link": seen.link,
            "seen_s": gateway.clock.monotonic() - seen.heard_s,
            "backlog_hours": seen.backlog_hours(),
            "firmware": seen.firmware,
            "health": seen.health,
        }
    air = None if gateway.hearing is None else gateway.hearing.of(address)
    if air is not None:
        row["air"] = air
    return row
