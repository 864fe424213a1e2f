"""Why a serial port can not be opened, and what to do: for links and pollers alike."""

from __future__ import annotations

import errno
import termios


def serial_problem(path: str, exc: BaseException, wanted: str = "") -> str:
    """What `exc`, from opening `path` with pyserial, means; ``wanted``: settings that the driver may not have."""
    number = getattr(exc, "errno", None)
    cause = exc.__context__  # pyserial leaves the number of a failed configuration there
    if number is None and isinstance(cause, termios.error):
        number = cause.args[0]
    if isinstance(exc, termios.error):
        number = exc.args[0]
    if number == errno.ENOENT:
        return f"{path}: no such port. Is the cable in? `ls /dev/serial/by-id` lists what is there."
    if number in (errno.EACCES, errno.EPERM):
        return f"{path}: permission denied. Add this user to the group that owns it (usually dialout)."
    if number in (errno.EBUSY, errno.EAGAIN):
        return f"{path}: in use by another program. Stop it: `fuser -v {path}` names it."
    if number in (errno.ENOTTY, errno.EINVAL):
        return f"{path}: not a serial port{f', or its driver cannot do {wanted}' if wanted else ''}."
    return f"{path}: cannot be opened: {exc}"
