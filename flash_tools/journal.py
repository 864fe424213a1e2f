"""What was done to which board: one JSON line per step, on disk before the next step begins. Never a key in it.

Several commands may write one journal at a time. A line that power or a kill cut short is closed by the next one and
left out when reading.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flash_tools.errors import FlashToolError

NAME = "flash-journal.jsonl"
_SECRET = ("secret", "salt", "key", "token", "password")
# Of one text in a line: a step that failed says why, and an image of a folder may have many reasons.
TEXT_MAX = 2000


class Journal:
    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._now = now

    def note(self, step: str, mac: str | None = None, **facts: Any) -> None:
        """Append one line; it is on the disk when this returns."""
        bad = [name for name in facts if any(word in name for word in _SECRET)]
        if bad:
            raise ValueError(f"{bad[0]} has no place in a journal")
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now()))
        short = {name: fact[:TEXT_MAX] if isinstance(fact, str) else fact for name, fact in facts.items()}
        data = json.dumps({"at": at, "step": step, "mac": mac, **short}, ensure_ascii=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._append(data)
        except OSError as error:
            raise FlashToolError(
                f"journal {self.path}: {error.strerror}. Name one that you can write, with --journal"
            ) from error

    def entries(self) -> list[dict[str, Any]]:
        """All whole lines, oldest first."""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return []
        found = []
        for line in text.split(b"\n"):
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # cut short, or none of ours
            if isinstance(entry, dict) and "step" in entry:
                found.append(entry)
        return found

    def latest(self, mac: str, *steps: str) -> dict[str, Any] | None:
        """The newest entry of this board, among these steps when some are named."""
        return next(
            (
                entry
                for entry in reversed(self.entries())
                if entry.get("mac") == mac and (not steps or entry["step"] in steps)
            ),
            None,
        )

    def nodes(self) -> set[int]:
        """The addresses of all identities that were written to boards."""
        names = [str(entry.get("node")) for entry in self.entries() if entry["step"] == "identity"]
        return {int(name, 16) for name in names if re.fullmatch("[0-9a-f]{4}", name)}

    def _append(self, data: bytes) -> None:
        is_new = not self.path.exists()
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                data = b"\n" + data
            while data:
                data = data[os.write(handle, data) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        if is_new:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
