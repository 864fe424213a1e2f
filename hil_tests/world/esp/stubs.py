"""Which bytes are a flasher stub of the real esptool: what is uploaded is compared with what the package ships."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
from functools import cache
from pathlib import Path

from hil_tests.errors import RigError


@cache
def known_stubs(chip: str) -> dict[int, str]:
    """Entry address -> SHA-256 of the code that has to stand around it; of every generation that is shipped."""
    # Not "esptool": beside the command that runs us there may be a script esptool.py, which is found first.
    spec = importlib.util.find_spec("esptool.targets")
    if spec is None or spec.origin is None:
        raise RigError("a simulated ESP chip needs esptool: pip install 'tidegate[flash]'")
    found = {}
    for path in sorted(Path(spec.origin).parent.glob(f"stub_flasher/*/{chip}.json")):
        stub = json.loads(path.read_text(encoding="utf-8"))
        found[int(stub["entry"])] = hashlib.sha256(base64.b64decode(stub["text"])).hexdigest()
    return found
