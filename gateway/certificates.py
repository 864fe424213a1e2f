"""How long the certificate that this gateway shows is still good for: told before it ends, not after."""

from __future__ import annotations

import logging
from pathlib import Path

from cryptography import x509

log = logging.getLogger(__name__)
DAY_MS = 86_400_000
# Told once at each, by its log line; within the last, the gateway says that it is not ready.
WARN_DAYS = (30, 7, 1)


class Expiry:
    """Of one PEM file, which may be renewed at any time."""

    def __init__(self, name: str, file: Path) -> None:
        self._name = name
        self._file = file
        self._read: tuple[int, int] | None = None  # mtime in ns, unix ms of the end
        self._told: tuple[int, int] | None = None  # of which certificate, at how many days

    def days_left(self, now_ms: int) -> float | None:
        """Days until it ends, negative behind that; None when it can not be read, which its use tells."""
        try:
            changed = self._file.stat().st_mtime_ns
            if self._read is None or self._read[0] != changed:
                found = x509.load_pem_x509_certificate(self._file.read_bytes())
                self._read = changed, int(found.not_valid_after_utc.timestamp() * 1000)
        except (OSError, ValueError):
            return None
        left = (self._read[1] - now_ms) / DAY_MS
        self._warn(left)
        return left

    def _warn(self, left: float) -> None:
        assert self._read is not None
        limit = min((days for days in WARN_DAYS if left <= days), default=None)
        if limit is None or self._told == (self._read[1], limit):
            return
        self._told = self._read[1], limit
        when = f"ends in {left:.1f} days" if left > 0 else f"ended {-left:.1f} days ago"
        log.warning(
            "%s: certificate %s %s; put a new one in its place, it is read at once",
            self._name,
            self._file,
            when,
        )
