"""From [[alarm]] and [[area]] tables to a running alarm engine."""

from __future__ import annotations

from collections.abc import Callable

from gateway import config_alarms
from gateway.alarms import Alarms
from gateway.areas import Areas
from gateway.clock import TrustedClock
from gateway.config import Config
from gateway.marks import Marks
from gateway.parts import Part
from gateway.registry import Registry
from gateway.store import Store


def build(
    config: Config,
    part: Callable[..., Part],
    store: Store,
    registry: Registry,
    marks: Marks,
    clock: TrustedClock,
) -> Alarms:
    """The engine, as a part of the daemon."""
    engine = Alarms(store, registry, marks, clock, config_alarms.rules(config.alarm), Areas(config.area))
    engine.on_progress = part("alarms", engine.run).beat
    return engine
