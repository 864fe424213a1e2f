"""The last configuration that is known to work: kept in the data directory, for when the file does not.

Beside it stands what is thought of the file that was tried after it, so that a kill during its trial, or after it,
changes nothing: it is on trial again, or it is left alone until somebody asks for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tomllib
from pathlib import Path

from gateway import config as configs
from gateway.config import Config
from gateway.errors import ConfigError
from gateway.incarnation import sync_folder
from gateway.limits import CONFIG_BYTES_MAX

NAME = "config.good"
TRIAL_NAME = "config.trial"
# What may stand in there.
ON_TRIAL, FAILED = "on trial", "failed"


def save(file: Path, config: Config) -> bool:
    """Keep the text of `file` when it is what `config` was made from; whether that could be done."""
    target = Path(config.gateway.data_dir, NAME)
    base = file.absolute().parent
    try:
        text = file.read_text(encoding="utf-8")
        if configs.parse(text, str(file), base) != config:
            return False  # edited since, and nobody knows how that does
        kept = json.dumps({"file": str(file), "base": str(base), "text": text})
        if target.exists() and target.read_text(encoding="utf-8") == kept:
            return True
        _write(target, kept)
    except (OSError, ValueError, ConfigError):
        return False
    return True


def _write(target: Path, text: str) -> None:
    """A kill leaves what was there, or this."""
    new = target.with_name(target.name + ".new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(new, target)
    sync_folder(target.parent)


def note(config: Config, file: Path, verdict: str) -> None:
    """What is thought of `file` as it is now, which `config` was made from; "" when it is as good as any."""
    target = Path(config.gateway.data_dir, TRIAL_NAME)
    with contextlib.suppress(OSError):  # then a kill makes it be tried once more
        if verdict:
            _write(target, json.dumps([verdict, _digest(file)]))
        else:
            target.unlink(missing_ok=True)


def verdict(config: Config, file: Path) -> str:
    """What was noted of `file`; "" when nothing was, or it has been edited since."""
    try:
        noted, digest = json.loads(Path(config.gateway.data_dir, TRIAL_NAME).read_text(encoding="utf-8"))
        return str(noted) if digest == _digest(file) else ""
    except (OSError, ValueError, TypeError):
        return ""


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()[:CONFIG_BYTES_MAX]).hexdigest()


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
