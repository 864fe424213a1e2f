"""Write ``wire/registry_table.py``, the node's share of the registry, from measurands.toml and schemas.toml.

    python -m protocols.build_registry          # after every change of the two files

A node cannot afford a TOML parser; what it needs to encode is a few integers per measurand. A test compares the
committed table with what this script would write.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TABLE = HERE / "wire" / "registry_table.py"

HEAD = '''"""The registry as a node needs it. Generated from measurands.toml and schemas.toml by build_registry.py: do not edit."""

# id: (name, decimals, centre, order). SPEC-readings.md says what centre and order are.
MEASURANDS = {
'''
MIDDLE = """}

# id: (name, ids of the measurands of a set, in order)
SCHEMAS = {
"""


def load(name: str) -> dict[str, dict[str, Any]]:
    return tomllib.loads((HERE / name).read_text(encoding="utf-8"))


def render() -> str:
    """The text of registry_table.py."""
    measurands = load("measurands.toml")
    lines = [HEAD]
    for name, entry in measurands.items():
        code = entry["code"]
        lines.append(f'    {entry["id"]}: ("{name}", {entry["decimals"]}, {code["centre"]}, {code["order"]}),\n')
    lines.append(MIDDLE)
    for name, entry in load("schemas.toml").items():
        ids = ", ".join(str(measurands[series]["id"]) for series in entry["series"])
        lines.append(f'    {entry["id"]}: ("{name}", ({ids})),\n')
    lines.append("}\n")
    return "".join(lines)


def main() -> None:
    TABLE.write_text(render(), encoding="utf-8")
    print(f"wrote {TABLE}")


if __name__ == "__main__":
    main()
