"""Reading profiles from files: those that Tidegate brings, and a folder of the user's own, which go first.

library = Library(Path("my-profiles"))
library.get("eastron_sdm630")    -> Profile, checked; ConfigError with file:line where it cannot be
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError
from tomlkit.exceptions import TOMLKitError

from gateway import limits, profile_check
from gateway.config_errors import explain_all
from gateway.errors import ConfigError
from gateway.profiles import Profile
from gateway.toml_lines import key_lines, line_of
from protocols import measurands

SHIPPED = Path(measurands.__file__).parent / "devices"


class Library:
    """Profiles by name: the name of a file without .toml. Read when asked for, once."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._loaded: dict[str, Profile] = {}

    def names(self) -> list[str]:
        """Every profile there is, the user's own and ours."""
        return sorted({file.stem for file in self._files()})

    def file_of(self, name: str) -> Path | None:
        """Where that profile is."""
        found = [file for file in self._files() if file.stem == name]
        return found[0] if found else None

    def get(self, name: str) -> Profile:
        """A checked profile. Raises ConfigError."""
        if name not in self._loaded:
            file = self.file_of(name)
            if file is None:
                raise ConfigError([self.unknown(name)])
            self._loaded[name] = load(file)
        return self._loaded[name]

    def unknown(self, name: str) -> str:
        """What to say of a profile that is not there."""
        names = self.names()
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f' Did you mean "{near[0]}"?' if near else ""
        return f'there is no profile "{name}". There are: {", ".join(names)}.{hint}'

    def problems(self) -> Iterator[str]:
        """What is wrong with the user's own profiles, used or not."""
        for file in self._files():
            if file.parent != SHIPPED:
                try:
                    self.get(file.stem)
                except ConfigError as exc:
                    yield from exc.problems

    def _files(self) -> list[Path]:
        own = [] if self.folder is None else sorted(self.folder.glob("*.toml"))[: limits.PROFILES_MAX]
        return own + sorted(SHIPPED.glob("*.toml"))


def load(file: Path) -> Profile:
    """Read and check one profile. Raises ConfigError with every problem found."""
    try:
        data = file.read_bytes() if file.stat().st_size <= limits.PROFILE_BYTES_MAX else None
    except OSError as exc:
        raise ConfigError([f"{file}: cannot be read: {exc.strerror}."]) from exc
    if data is None:
        raise ConfigError([f"{file}: larger than {limits.PROFILE_BYTES_MAX} bytes; is this a profile?"])
    return parse(data, str(file))


def parse(data: bytes, name: str) -> Profile:
    """Check the TOML of a profile, called `name` in messages."""
    try:
        text = data.decode()
        raw: dict[str, Any] = tomlkit.parse(text).unwrap()
    except UnicodeDecodeError as exc:
        raise ConfigError([f"{name}: byte {exc.start} is not UTF-8; save it as UTF-8."]) from exc
    except TOMLKitError as exc:
        raise ConfigError([f"{name}:{_line_of(text)}: not valid TOML: {str(exc).rstrip('.')}."]) from exc
    problems = []
    profile: Profile | None = None
    try:
        profile = Profile.model_validate(raw)
    except ValidationError as exc:
        schema = Profile.model_json_schema()
        problems = explain_all(exc.errors(include_url=False), schema, raw)
    else:
        problems = list(profile_check.problems(profile))
    if problems or profile is None:
        lines = key_lines(text)
        found = sorted({(line_of(lines, problem.path), str(problem)) for problem in problems})
        raise ConfigError([f"{name}:{line}: {message}" for line, message in found])
    return profile


def _line_of(text: str) -> int:
    """tomlkit does not always say where."""
    try:
        tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        before = str(exc).rpartition("at line ")[2]
        digits = before.partition(",")[0]
        return int(digits) if digits.isdecimal() else 1
    return 1
