"""What each node type may be set to, on the host: node_types.toml, and what is wrong with names that a person typed.

settings_problem("river", {"intervall_s": 60})
-> "'intervall_s' is no setting of a river node; did you mean interval_s? It has interval_s (1 to 86400), …"
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from protocols.wire.codes import SETTING_NAMES, SETTING_RANGES

# Those that a node on the air has beside the ones of its type.
ON_AIR = ("radio_sf", "radio_dbm")
_FILE = Path(__file__).with_name("node_types.toml")


@functools.cache
def settings_of(node_type: str, on_air: bool = True) -> tuple[str, ...]:
    """Names of the settings that nodes of this type have; every setting there is, of a type not known here.

    ``on_air``: whether it is, or may be, one that speaks over LoRa.
    """
    entry = _types().get(node_type)
    if entry is None:
        return SETTING_NAMES
    return (*entry["settings"], *ON_AIR) if on_air else tuple(entry["settings"])


def settings_problem(node_type: str, wanted: Mapping[str, int], on_air: bool = True) -> str:
    """Why a node of this type would refuse these settings, for a person; "" when it would not."""
    has = settings_of(node_type, on_air)
    for name, value in wanted.items():
        if name not in has:
            near = get_close_matches(name, has, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else "."
            return f"{name!r:.40} is no setting of a {node_type} node{hint} It has {allowed(has)}"
        low, high = SETTING_RANGES[SETTING_NAMES.index(name)]
        if not low <= value <= high:
            return f"{name} = {value} is not allowed. Allowed are {low} to {high}"
    return ""


def allowed(names: Sequence[str]) -> str:
    """The settings with their ranges."""
    ranges = (SETTING_RANGES[SETTING_NAMES.index(name)] for name in names)
    return ", ".join(f"{name} ({low} to {high})" for name, (low, high) in zip(names, ranges, strict=True))


@functools.cache
def _types() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
