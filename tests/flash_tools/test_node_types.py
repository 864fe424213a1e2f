"""An image for one node type holds what that type needs, and its tables hold nothing of the others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from flash_tools.errors import ImageError
from flash_tools.images import build_app_image, compile_tree, node_sources
from flash_tools.naming import Names
from flash_tools.node_types import choose, keep_entries, modules, narrow

ROOT = Path(__file__).resolve().parents[2]
NODE_TYPES = sorted(modules(ROOT))


def tables(sources: dict[Path, str], path: str, names: Names) -> dict[str, dict[object, object]]:
    """By the names that they have in the sources."""
    was = {new: old for old, new in names.publics.items()}
    return {
        was.get(statement.targets[0].id, statement.targets[0].id): ast.literal_eval(statement.value)
        for statement in ast.parse(sources[Path(path)]).body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Dict)
    }


@pytest.mark.parametrize("node_type", NODE_TYPES)
def test_the_tables_of_an_image_are_those_of_its_node_type(node_type: str) -> None:
    names = Names()
    sources = node_sources(ROOT, "virtual", node_type, names)
    assert tables(sources, "firmware/nodes/__init__.py", names)["MODULES"].keys() == {node_type}
    registry = tables(sources, "protocols/wire/registry_table.py", names)
    ((_, measurands),) = registry["SCHEMAS"].values()  # type: ignore[misc]
    assert set(measurands) == set(registry["MEASURANDS"])


def test_what_only_another_node_type_needs_is_left_out() -> None:
    everything = set(compile_tree(ROOT))
    river = set(compile_tree(ROOT, node_type="river"))
    assert everything - river >= {"/a/firmware/nodes/river_solar.mpy", "/a/firmware/sensors/supply.mpy"}
    assert river < everything


def test_what_the_hal_asks_of_a_board_keeps_its_name_in_the_image() -> None:
    text = node_sources(ROOT, "virtual", "river")[Path("boards/virtual/board.py")]
    constants = {line.partition(" = ")[0] for line in text.splitlines() if " = " in line}
    assert constants >= {"RS485_UART", "RS485_TX_PIN", "RS485_RX_PIN", "LED_PIN"}


def test_the_same_node_type_gives_the_same_bytes() -> None:
    assert build_app_image(ROOT, "virtual", "river") == build_app_image(ROOT, "virtual", "river")


def test_entries_are_taken_out_of_tables_without_moving_a_line() -> None:
    text = 'A = {\n    1: ("one",\n        1),\n    2: ("two", 2),\n}\nB = {1: 2}\nafter = 7\n'
    kept = keep_entries(text, {"A": {2}})
    assert kept == 'A = {\n\n\n    2: ("two", 2),\n}\nB = {1: 2}\nafter = 7\n'


def test_a_name_that_is_not_there_is_refused_with_the_likely_one() -> None:
    assert choose("node type", "river", ["river"], ROOT) == "river"
    with pytest.raises(
        ImageError, match=r"no node type 'rivr' in .*; there are: lift, river\. Did you mean 'river'\?"
    ):
        choose("node type", "rivr", ["river", "lift"], ROOT)
    with pytest.raises(ImageError, match=r"no node type 'submarine'"):
        compile_tree(ROOT, node_type="submarine")


@pytest.mark.parametrize(
    ("node_type", "problem"),
    [
        ("NODE_TYPE = NodeType(name='x', schema_id=OTHER)\n", "must name a whole number"),
        (
            "SCHEMA_ID = 99\nNODE_TYPE = NodeType(name='x', schema_id=SCHEMA_ID)\n",
            "schema 99 is not in the registry",
        ),
    ],
)
def test_a_node_type_without_a_schema_makes_no_image(node_type: str, problem: str) -> None:
    sources = {
        "firmware.nodes": "MODULES = {'x': 'x'}\n",
        "firmware.nodes.x": node_type,
        "protocols.wire.registry_table": "MEASURANDS = {1: ('a', 0, 0, 1)}\nSCHEMAS = {1: ('s', (1,))}\n",
    }
    with pytest.raises(ImageError, match=problem):
        narrow(sources, "x", "firmware.nodes.x")
