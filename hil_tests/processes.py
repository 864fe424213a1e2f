"""The processes that a rig starts: they end when it says so, or when it is gone, and not before."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO


def spawn(command: Sequence[str], *, output: IO[bytes], cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """Start `command`, in a session of its own: Ctrl-C at our terminal is for us alone, who stop it when the books
    are closed. Where util-linux is installed, the kernel ends it with us even if we are killed with -9.
    """
    setpriv = shutil.which("setpriv")
    leash = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    return subprocess.Popen([*leash, *command], stdout=output, stderr=output, cwd=cwd, start_new_session=True)
