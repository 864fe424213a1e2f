"""Which bytes are a flasher stub of the real esptool: what is uploaded is compared with what the package ships."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
from functools import cache
from pathlib import Path

from hil_tests.errors import RigError


@cache
def known_stubs(chip: str) -> dict[int, str]:
    """Entry address -> SHA-256 of the code that has to stand around it; of every generation that is shipped."""
    # Looked up and not imported: that takes longer than esptool waits for a stub, and beside the command that runs us
    # there may be a script esptool.py, which would be found first.
    try:
        folder = Path(
            str(importlib.metadata.distribution("esptool").locate_file("esptool/targets/stub_flasher"))
        )
    except importlib.metadata.PackageNotFoundError as error:
        raise RigError("a simulated ESP chip needs esptool: pip install 'tidegate[flash]'") from error
    found = {}
    for path in sorted(folder.glob(f"*/{chip}.json")):
        stub = json.loads(path.read_text(encoding="utf-8"))
        found[int(stub["entry"])] = hashlib.sha256(base64.b64decode(stub["text"])).hexdigest()
    return found
