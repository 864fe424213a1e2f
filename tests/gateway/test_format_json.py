"""The JSON format against its golden cases, and against a JSON library for everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.measurands import registry
from protocols.northbound import format_json
from protocols.wire.limits import MAX_VALUE

VECTORS = Path(format_json.__file__).parents[1] / "vectors" / "host" / "northbound_json.json"
CASES = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_golden_cases(case: dict[str, Any]) -> None:
    record = case["record"]
    head = format_json.head(record["node"], record["site"], record["epoch"])
    if case["kind"] == "reading":
        flags = record["flags"]
        made = format_json.reading(
            head, record["seq"], record["backlog"], record["resent"], record["time"], record["tq"],
            record["received_ms"], record["schema"], tuple(record["values"]), None if flags is None else tuple(flags),
            dict(record.get("cal", ())), record.get("maintenance", False),
        )  # fmt: skip
    else:
        make = format_json.event if case["kind"] == "event" else format_json.result
        made = make(
            head, record["seq"], record["resent"], record["time"], record["tq"], record["received_ms"],
            record["code"], record["state"], record["detail"],
        )  # fmt: skip
    assert made.decode() == case["json"]
    json.loads(made)


@given(
    st.text(max_size=20),
    st.sampled_from(sorted(registry().schemas)),
    st.data(),
)
def test_any_record_is_json_that_says_the_same(site: str, schema: int, data: st.DataObject) -> None:
    measurands = registry().of_schema(schema)
    values = tuple(data.draw(st.integers(-MAX_VALUE, MAX_VALUE)) for _ in measurands)
    flags = data.draw(st.one_of(st.none(), st.tuples(*(st.sampled_from((1, 2, 3, 4)) for _ in measurands))))
    made = format_json.reading(format_json.head(7, site, 9), 1, 0, True, 2, 3, 4, schema, values, flags)
    record = json.loads(made)
    assert record["site"] == site
    assert record["readings"] == {
        one.name: {"v": one.value_of(value), "u": one.unit, "q": 1 if flags is None else flags[i]}
        for i, (one, value) in enumerate(zip(measurands, values, strict=True))
    }


def test_the_memory_of_pieces_is_bounded() -> None:
    pieces = format_json._series(1)[0]
    for value in range(3 * format_json._PIECES_MAX):
        assert f"{value / 100:.2f}" in pieces[value]
        assert len(pieces) <= format_json._PIECES_MAX
