"""Reading profiles from files: those that Tidegate brings, and a folder of the user's own, which go first.

library = Library(Path("my-profiles"))
library.get("eastron_sdm630")    -> Profile, checked; ConfigError with file:line where it cannot be
"""

from __future__ import annotations

import difflib
import os
import re
import stat
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
from gateway.log import printable
from gateway.profiles import Profile
from gateway.toml_lines import key_lines, line_of
from protocols import measurands

NAME = r"[a-z0-9][a-z0-9_-]{0,63}\.toml"
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
        if self.folder is None:
            return
        try:
            own = [file for file in self.folder.iterdir() if file.suffix.lower() == ".toml"]
        except OSError as exc:
            yield f"{self.folder}: cannot be read: {exc.strerror}."
            return
        if len(own) > limits.PROFILES_MAX:
            yield f"{self.folder}: {len(own)} profiles are more than {limits.PROFILES_MAX}. Is this the right folder?"
            return
        for file in sorted(own):
            if not re.fullmatch(NAME, file.name):
                yield (
                    f"{printable(str(file))}: no device can name this profile. Allowed are a-z, 0-9, '_' and '-', then "
                    f".toml, all in lower case: {file.stem.lower().replace(' ', '-').replace('.', '-')}.toml, say."
                )
                continue
            try:
                self.get(file.stem)
            except ConfigError as exc:
                yield from exc.problems

    def _files(self) -> list[Path]:
        there = [] if self.folder is None else sorted(self.folder.glob("*.toml"))[: limits.PROFILES_MAX]
        own = [file for file in there if re.fullmatch(NAME, file.name)]
        return own + sorted(SHIPPED.glob("*.toml"))


def load(file: Path) -> Profile:
    """Read and check one profile. Raises ConfigError with every problem found."""
    try:
        with open(file, "rb", opener=_without_waiting) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ConfigError([f"{file}: is no file with text in it."])
            data = stream.read(limits.PROFILE_BYTES_MAX + 1)
    except OSError as exc:
        raise ConfigError([f"{file}: cannot be read: {exc.strerror}."]) from exc
    if len(data) > limits.PROFILE_BYTES_MAX:
        raise ConfigError([f"{file}: larger than {limits.PROFILE_BYTES_MAX} bytes; is this a profile?"])
    return parse(data, str(file))


def _without_waiting(path: str, flags: int) -> int:
    """A pipe is opened at once, though nobody writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)


def parse(data: bytes, name: str) -> Profile:
    """Check the TOML of a profile, called `name` in messages."""
    try:
        text = data.decode().removeprefix("\ufeff")  # as some editors begin a file
    except UnicodeDecodeError as exc:
        line, byte = data.count(b"\n", 0, exc.start) + 1, data[exc.start]
        raise ConfigError([f"{name}:{line}: byte 0x{byte:02x} is not UTF-8; save it as UTF-8."]) from exc
    try:
        raw: dict[str, Any] = tomlkit.parse(text).unwrap()
    except TOMLKitError as exc:
        raise ConfigError([f"{name}:{_line_of(text)}: not valid TOML: {_reason(exc)}."]) from exc
    except ValueError as exc:  # a number of thousands of digits
        raise ConfigError([f"{name}:1: not valid TOML: {str(exc).partition(';')[0]}."]) from exc
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


def _reason(exc: TOMLKitError) -> str:
    """Without the place: the one that is told stands in front, and tomlkit's own is that of a later line."""
    return re.sub(r"\.? at line \d+ col \d+$", "", str(exc)).rstrip(".")


def _line_of(text: str) -> int:
    """tomlkit does not always say where."""
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        before = str(exc).rpartition("at line ")[2]
        digits = before.partition(",")[0]
        return int(digits) if digits.isdecimal() else 1
    return 1
