"""Keys of Bluetooth devices, each from a file that the configuration names: bind keys, identity resolving keys."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gateway.errors import KeyFileError

KEY_BYTES = 16
_FILE_BYTES_MAX = 128


BIND_KEY = "bind key"
IDENTITY_KEY = "identity resolving key"
_SHOWN_BY = {
    BIND_KEY: "as the app of the device shows them",
    IDENTITY_KEY: "as its maker or the tool that paired it shows them, in either order of bytes",
}


def load(file: str | Path, kind: str = BIND_KEY) -> bytes:
    """The key in `file`, which only its owner may read. Raises KeyFileError; what the file holds is never repeated."""
    try:
        with Path(file).open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            data = stream.read(_FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise KeyFileError(f"{file}: the {kind} cannot be read: {exc.strerror}.") from exc
    if mode & 0o077:
        raise KeyFileError(
            f"{file}: mode {mode:04o} lets others read the key. Allowed is 0600: chmod 600 {file}"
        )
    try:
        key = bytes.fromhex(data.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(
            f"{file}: holds no {kind}. Allowed are {2 * KEY_BYTES} hexadecimal digits, {_SHOWN_BY[kind]}."
        )
    return key
