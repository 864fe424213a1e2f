"""From [lora], [[semtech]] and [[bridge]] to radios and the link over them, wired into the daemon."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gateway.config import BridgeSection, Config, LoraSection, SemtechSection, split_bind
from gateway.config_lora import PLAN_IDS
from gateway.links.bridge import Bridge, Wanted
from gateway.links.lora import LoraLink
from gateway.links.radio import Radio
from gateway.links.semtech import SemtechServer
from gateway.log import Logger
from protocols.wire.law import Law
from protocols.wire.plans_table import PLANS


class Beats(Protocol):
    """A supervised part, as far as it is used here."""

    run: Callable[[], Awaitable[None]]

    def beat(self) -> None: ...


class SpentFile:
    """What of an hour's duty cycle a radio may have used, over a restart of the gateway (wire/law.py)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> bytes | None:
        """None: there is something and it can not be read."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError:
            return None

    def save(self, data: bytes) -> bool:
        """Whether `data` is durable. A dozen times an hour at most, and only where a plan has a duty cycle."""
        partial = self._path.with_suffix(".new")
        try:
            with partial.open("wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(self._path)
        except OSError:
            return False
        return True


class Air(NamedTuple):
    """All of LoRa at a gateway."""

    link: LoraLink
    servers: list[SemtechServer]
    radios: list[Radio]
    law: Law
    section: LoraSection


def build(
    config: Config,
    part: Callable[[str], Beats],
    on_frame: Callable[[Any, bytes], None],
    is_known: Callable[[int], bool],
    now_s: Callable[[], float],
    log: Logger,
    bridge: Callable[..., Bridge] = Bridge,
) -> Air | None:
    """Make and wire what the config names; None without [lora]. ``bridge``: makes one of what Bridge takes."""
    if config.lora is None:
        return None
    servers = [_server(section, part, now_s, log) for section in config.semtech]
    radios: list[Radio] = [forwarder for server in servers for forwarder in server.radios]
    radios += [_bridge(section, config.lora, part, now_s, log, bridge) for section in config.bridge]
    return wire(config, config.lora, servers, radios, part, on_frame, is_known, now_s)


def wire(
    config: Config,
    section: LoraSection,
    servers: list[SemtechServer],
    radios: list[Radio],
    part: Callable[[str], Beats],
    on_frame: Callable[[Any, bytes], None],
    is_known: Callable[[int], bool],
    now_s: Callable[[], float],
) -> Air:
    """The link over `radios`."""
    plan_id, antenna_cdbi = PLAN_IDS[section.plan], round(section.antenna_dbi * 100)
    folder = Path(config.gateway.data_dir)

    def law_of(name: str) -> Law:
        return Law(plan_id, SpentFile(folder / f"airtime-{name.replace('/', '-')}"), antenna_cdbi)

    law = Law(plan_id, None, antenna_cdbi)
    dbm = law.dbm_max if section.dbm is None else min(section.dbm, law.dbm_max)
    its = part("lora")
    channels = range(section.channel, section.channel + section.channels)
    link = LoraLink(
        radios,
        law_of,
        tuple(law.freq_hz(channel) for channel in channels),
        law.size_max,
        dbm,
        on_frame,
        is_known,
        now_s=now_s,
        hour_s=_hour_s(plan_id),
        on_progress=its.beat,
    )
    its.run = link.run
    return Air(link, servers, radios, law, section)


def _hour_s(plan_id: int) -> float:
    """What the plan allows a radio in an hour on any of its channels; 0 for no limit."""
    return min(allowed_ms for _, _, allowed_ms in PLANS[plan_id][2]) / 1000


def _server(
    section: SemtechSection, part: Callable[[str], Beats], now_s: Callable[[], float], log: Logger
) -> SemtechServer:
    its = part(f"semtech:{section.name}")
    server = SemtechServer(
        section.name, split_bind(section.bind), section.gateways, log, now_s=now_s, on_progress=its.beat
    )
    its.run = server.run
    return server


def _bridge(
    section: BridgeSection,
    air: LoraSection,
    part: Callable[[str], Beats],
    now_s: Callable[[], float],
    log: Logger,
    make: Callable[..., Bridge],
) -> Bridge:
    its = part(f"bridge:{section.name}")
    plan_id = PLAN_IDS[air.plan]
    # The config check sees to it that there is an sf.
    wanted = Wanted(plan_id, air.channel, Law(plan_id).freq_hz(air.channel), air.sf or 0)
    bridge = make(
        section.name, section.path, section.baud, wanted, log, on_progress=its.beat, monotonic=now_s
    )
    its.run = bridge.run
    return bridge


def picture(air: Air) -> dict[str, dict[str, float]]:
    """Counters of each radio."""
    return {one.name: one.picture() for one in air.radios}
