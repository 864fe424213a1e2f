"""The folder of the database, and who holds it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from gateway import disk
from gateway.errors import AlreadyRunning, DiskError, GatewayError

LOCK_NAME = "lock"


class DataDir:
    """The data directory, held by one process at a time: the lock dies with the process, however it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def __enter__(self) -> DataDir:
        os.umask(0o077)  # everything in here is for this user alone
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            kind = DiskError if disk.is_passing(exc) else GatewayError
            raise kind(f"{self.path}: the data directory cannot be used: {exc.strerror}.") from exc
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(self._fd)
            raise AlreadyRunning(
                f"{self.path}: another tidegate process is using this data directory. Stop it first, or give "
                f"this "
                "one a data_dir of its own."
            ) from exc
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)
