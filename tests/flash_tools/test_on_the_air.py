"""Minting for the air: a plan, channels and a spreading factor in the identity; and bridges, which are no nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from littlefs import LittleFS

from flash_tools.errors import MintError
from flash_tools.images import compile_tree
from flash_tools.mint import ROOT, mint
from flash_tools.needs import missing
from flash_tools.radio_plan import radio_of
from gateway import node_file
from gateway.errors import RegistryError
from protocols.wire import identity


def read_identity(image: Path) -> identity.Identity:
    data = image.read_bytes()
    fs = LittleFS(block_size=4096, block_count=len(data) // 4096, mount=False)
    fs.context.buffer = bytearray(data)
    fs.mount()
    with fs.open("/identity", "rb") as file:
        return identity.decode(file.read())


@pytest.mark.parametrize(
    ("arguments", "radio"),
    [
        ((None,), None),
        (("cn470", 0, None, 9), (0, 0, 1, 9)),
        (("cn470", 8), (0, 8, 8, 0)),
        (("cn470", 92), (0, 92, 4, 0)),
        (("eu868", 0, 3, 0), (1, 0, 3, 0)),
        (("eu868", 0, None, 12), (1, 0, 1, 12)),
    ],
)
def test_what_a_person_says_of_the_air_becomes_key_7(arguments: tuple[object, ...], radio: object) -> None:
    assert radio_of(*arguments) == radio  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cn480",), "'cn480': there are cn470, eu868. Did you mean cn470"),
        (("cn470", 96), "channels 0 to 95"),
        (("cn470", 90, 8), "1 to 6 from there"),
        (("cn470", 0, 1, 12), "SF7 to SF11, or 0"),
        ((None, 3), "name it with --plan"),
    ],
)
def test_what_the_plan_has_not_is_refused_with_what_it_has(arguments: tuple[object, ...], said: str) -> None:
    with pytest.raises(MintError, match=said):
        radio_of(*arguments)  # type: ignore[arg-type]


def test_a_bridge_is_minted_like_a_node_and_imported_by_nobody(tmp_path: Path) -> None:
    made = mint(out=tmp_path, node_type="bridge", radio=(0, 3, 1, 9))
    who = read_identity(made.state_image)
    assert (who.node_type, who.radio) == ("bridge", (0, 3, 1, 9))
    text = made.mint_file.read_text()
    with pytest.raises(RegistryError, match="holds no node; a bridge is none"):
        node_file.parse(text, "nodes.jsonl")
    mint(out=tmp_path, node_type="river", radio=(0, 3, 1, 9))
    assert [node.address for node in node_file.parse(made.mint_file.read_text(), "nodes.jsonl")] == [2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"node_type": "bridge"}, "name its plan with --plan"),
        ({"node_type": "bridge", "radio": (0, 0, 1, 9), "settings": {0: 60}}, "has no settings"),
        (
            {"node_type": "river", "board": "esp32c3_devkitm", "radio": (0, 0, 1, 9)},
            "esp32c3_devkitm has no radio",
        ),
    ],
)
def test_a_bridge_without_a_plan_and_a_plan_without_a_radio_are_refused(
    tmp_path: Path, arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(MintError, match=said):
        mint(out=tmp_path, **arguments)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*/state.img"))


def test_the_image_of_a_bridge_begins_there_and_has_nothing_of_a_node() -> None:
    files = compile_tree(ROOT, "virtual", "bridge")
    assert files["/a/main.py"].endswith(b"from firmware import bridge\n\nbridge.run()\n")
    names = {path.removeprefix("/a/") for path in files}
    assert "firmware/radios/sx126x.mpy" in names
    for absent in ("main", "node", "uplink", "session", "outbox", "sampling", "nodes/__init__"):
        assert f"firmware/{absent}.mpy" not in names
    assert "protocols/wire/envelope.mpy" not in names
    # With what chooses a slot at a start, 4 kB, which a bridge has as well.
    assert sum(map(len, files.values())) < 31_000
    assert missing(ROOT, "heltec_wifi_lora_32_v3", "bridge") == []
    assert "no radio" in missing(ROOT, "esp32c3_devkitm", "bridge")[0]
