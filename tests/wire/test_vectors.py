"""The golden cases on CPython, and whole on each MicroPython."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.wire import vector_checks

VECTORS = Path(__file__).parents[2] / "protocols" / "vectors"


def cases() -> list[Any]:
    found = []
    for name in sorted(vector_checks.CHECKS):
        data = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
        found += [pytest.param(name, case, id=f"{name}: {case['name'][:60]}") for case in data["cases"]]
    return found


@pytest.mark.parametrize(("name", "case"), cases())
def test_golden_case_holds(name: str, case: dict[str, Any]) -> None:
    vector_checks.run(name, {"cases": [case]})
