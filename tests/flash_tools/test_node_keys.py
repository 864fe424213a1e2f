"""A bench's keys: of a mint file, of a provisioning folder; where they are looked for, and what is never shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flash_tools import book, node_keys
from flash_tools.addresses import Station
from flash_tools.errors import BenchError, FlashToolError
from flash_tools.key_store import MASTER_KEY_FILE, KeyStore, load_master_key, make_master_key
from flash_tools.mint import MINT_FILE, mint
from flash_tools.provisioning import SCRAPPED, Unit, Units
from tests.flash_tools.provision_world import MACS, RANGE, RIVER


def test_keys_of_a_mint_file_and_numbers_beside_it(tmp_path: Path) -> None:
    made = mint(out=tmp_path, node_type="river", address=0x42)
    row = json.loads(made.mint_file.read_text())
    found = node_keys.find(made.mint_file)
    assert found.secrets[0x42].secret.hex() == row["master_secret"]
    assert row["master_secret"] not in repr(found)
    assert found.numbers_file(0x42) == tmp_path / "bench-numbers.json"


def provisioned(folder: Path) -> list[Unit]:
    """A bench's folder with two units, the second of which is scrapped."""
    folder.mkdir(exist_ok=True)
    make_master_key(folder / MASTER_KEY_FILE)
    keys = KeyStore(load_master_key(folder / MASTER_KEY_FILE))
    with book.opened(folder / "units.jsonl") as opened:
        units = Units(opened.entries, opened)
        made = [units.mint(mac, RIVER, Station("bench-1", (RANGE,)), keys) for mac in MACS[:2]]
        units.advance(made[1].address, SCRAPPED, why="test")
    return made


def test_keys_of_a_provisioning_folder_open_with_its_master_key_but_for_the_dead(tmp_path: Path) -> None:
    alive, _ = provisioned(tmp_path)
    keys = KeyStore(load_master_key(tmp_path / MASTER_KEY_FILE))
    found = node_keys.find(tmp_path)
    assert set(found.secrets) == {alive.address}
    opened = keys.open(alive.mac, alive.address, alive.sealed)
    assert found.secrets[alive.address].secret == opened.master_secret
    assert found.numbers_file(alive.address) == tmp_path / "bench-numbers.json"


def test_where_keys_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BenchError, match="--gateway"):
        node_keys.find(None)
    with pytest.raises(BenchError, match="is not there"):
        node_keys.find(Path("nowhere"))
    mint(out=tmp_path / "minted", node_type="river", address=0x42)
    assert set(node_keys.find(None).secrets) == {0x42}
    unit = provisioned(tmp_path / "provisioning")[0]
    both = node_keys.find(None)
    assert set(both.secrets) == {0x42, unit.address}
    assert both.numbers_file(0x42) == Path("minted/bench-numbers.json")
    assert both.numbers_file(unit.address) == Path("provisioning/bench-numbers.json")


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"address": "0001"}', '{"address": "0001", "master_secret": "ab"}']
)
def test_a_damaged_line_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    (tmp_path / MINT_FILE).write_text(f"\n{line}\n")
    with pytest.raises(BenchError, match=rf"{MINT_FILE}:2: is no line") as refused:
        node_keys.secrets_of(tmp_path / MINT_FILE)
    assert "ab" not in str(refused.value).replace(str(tmp_path), "")
    assert isinstance(refused.value, FlashToolError)
    with pytest.raises(BenchError, match=r"holds no units\.jsonl"):
        node_keys.secrets_of(tmp_path)
