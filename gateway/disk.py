"""Whether a folder can be written: asked by writing in it, for that is the only answer that counts."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

_NAME = ".writable"
# As much as opening a database takes: its log, the index of that, and the files beside it.
_BYTES = 256 * 1024
# A disk that says one of these may take writes again: when it has room, is mounted anew, or is plugged in. Anything
# else, such as a folder of another user, is a mistake that no waiting mends.
_PASSING = frozenset(
    (
        errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ENXIO, errno.ENODEV, errno.ESTALE,
        errno.ENOTCONN, errno.ETIMEDOUT, errno.EUCLEAN,
    )
)  # fmt: skip


def is_passing(error: OSError) -> bool:
    """Whether it may be over by itself."""
    return error.errno in _PASSING


def refusal(folder: Path) -> OSError | None:
    """Why nothing can be written in `folder` now; None when it can. Leaves nothing behind."""
    probe = folder / _NAME
    try:
        handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, os.urandom(_BYTES))  # no file system makes that smaller
            os.fsync(handle)
        finally:
            os.close(handle)
            with contextlib.suppress(OSError):
                probe.unlink()
    except OSError as error:
        return error
    return None
