"""The last configuration that is known to work: kept in the data directory, for when the file does not."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tomllib
from pathlib import Path

from gateway import config as configs
from gateway.config import Config
from gateway.errors import ConfigError
from gateway.limits import CONFIG_BYTES_MAX

NAME = "config.good"


def save(file: Path, config: Config) -> bool:
    """Keep the text of `file` when it is what `config` was made from; whether that could be done."""
    target = Path(config.gateway.data_dir, NAME)
    base = file.absolute().parent
    new = target.with_name(NAME + ".new")
    try:
        text = file.read_text(encoding="utf-8")
        if configs.parse(text, str(file), base) != config:
            return False  # edited since, and nobody knows how that does
        kept = json.dumps({"file": str(file), "base": str(base), "text": text})
        if target.exists() and target.read_text(encoding="utf-8") == kept:
            return True
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(kept)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(new, target)
    except (OSError, ValueError, ConfigError):
        return False
    return True


def load(data_dir: Path) -> Config | None:
    """What was kept; None when there is nothing, or nothing that this version takes."""
    try:
        kept = json.loads((data_dir / NAME).read_text(encoding="utf-8"))
        return configs.parse(kept["text"], f"{data_dir / NAME} of {kept['file']}", Path(kept["base"]))
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        return None


def data_dir_of(file: Path) -> Path:
    """Where the data of a configuration is that may be broken: as well as that can be told."""
    base = file.absolute().parent
    text = ""
    with contextlib.suppress(OSError):
        text = file.read_bytes()[:CONFIG_BYTES_MAX].decode("utf-8", errors="replace")
    try:
        named = tomllib.loads(text).get("gateway", {}).get("data_dir")
    except (tomllib.TOMLDecodeError, AttributeError, RecursionError):
        found = re.search(r'^\s*data_dir\s*=\s*["\']([^"\']+)["\']', text, re.MULTILINE)
        named = found[1] if found else None
    return base / (named if isinstance(named, str) else "data")
