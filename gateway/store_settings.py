"""How the store commits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StoreSettings:
    """What an integrator may turn; the defaults suit an SD card."""

    # How long the first frame of a batch waits for company. More costs latency, less costs syncs: an SD card wears by
    # the sync, and no node minds when its ack comes 20 ms later.
    linger_ms: int = 20
    # A batch this large is committed at once.
    batch_frames: int = 512
    # The log is folded into the database file when it has grown to this; it is also the longest stall of a commit.
    wal_mib: int = 16
    cache_kib: int = 8192
    # How long a northbound's progress may wait for a commit to travel with; after kill -9 that much is sent again.
    progress_linger_ms: int = 5000
