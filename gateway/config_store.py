"""The table [store] of gateway.toml: what the database may hold, and for how long."""

from __future__ import annotations

from pydantic import Field

from gateway.config_types import Section


class StoreSection(Section):
    """The database: nodes are acknowledged out of it, northbounds read it at their own pace."""

    max_mib: int = Field(
        4096,
        ge=16,
        le=1_048_576,
        description="what it may hold; below that nothing is given up that was not delivered",
    )
    warn_hours: int = Field(
        24,
        ge=0,
        le=8760,
        description="told when what is not delivered would be given up in less than so many hours; 0: never",
    )
    keep_days: int = Field(30, ge=0, le=3650, description="delivered readings stay so long, if there is room")
    reserve_mib: int = Field(
        32, ge=1, le=4096, description="kept from the disk for events, for when it is full of other things"
    )
