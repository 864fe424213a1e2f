"""Where a node stands, as a person types it: an area code, a position. Pure; "" where nothing is wrong.

An area code is a level of MQTT topics and stands in a node's identity. One of digits alone is an administrative code:
6 to the county (GB/T 2260), 9 to the township or street, 12 to the community or village (the statistics bureau's code).
"""

from __future__ import annotations

import re
from difflib import get_close_matches

from protocols.wire.limits import MAX_NAME

_CODE = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*\Z")
_LENGTHS = (6, 9, 12)
# The first two digits of GB/T 2260.
_PROVINCES = (
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82"
)
LATITUDE_MAX = 90.0
LONGITUDE_MAX = 180.0


def area_problem(code: str) -> str:
    """Why this is no area code for a label and a node."""
    if not _CODE.match(code) or len(code) > MAX_NAME:
        return f"area {code!r:.40}: allowed are 1 to {MAX_NAME} letters, digits, '.', '_' and '-', as 330110001001"
    if not code.isdigit():
        return ""
    if len(code) not in _LENGTHS:
        return (
            f"area {code!r}: has {len(code)} digits. An administrative code has 6 (county), 9 (street) or "
            "12 (community)"
        )
    provinces = _PROVINCES.split()
    if code[:2] not in provinces:
        near = get_close_matches(code[:2], provinces, n=1, cutoff=0.5)
        hint = f". Did you mean {near[0]}{code[2:]}?" if near else ""
        return f"area {code!r}: no province has the code {code[:2]}{hint}"
    return ""


def position_problem(latitude: float, longitude: float) -> str:
    """Why this is no position in WGS-84 degrees."""
    if not -LONGITUDE_MAX <= longitude <= LONGITUDE_MAX:
        return f"longitude {longitude:g}: allowed are −180 to 180 degrees (WGS-84, east is positive)"
    if not -LATITUDE_MAX <= latitude <= LATITUDE_MAX:
        swapped = abs(longitude) <= LATITUDE_MAX and abs(latitude) <= LONGITUDE_MAX
        hint = ". Are latitude and longitude swapped?" if swapped else ""
        return f"latitude {latitude:g}: allowed are −90 to 90 degrees (WGS-84, north is positive){hint}"
    if latitude == 0 and longitude == 0:
        return "position 0, 0: that is in the Gulf of Guinea, where a receiver without a fix says it is"
    return ""
