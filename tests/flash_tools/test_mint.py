"""Minting: every node its own key, nobody else's address, and no key replaced by mistake."""

from __future__ import annotations

import json
import multiprocessing
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from firmware.durable import Document
from firmware.settings import Settings
from flash_tools import cli
from flash_tools.errors import FlashToolError, MintError
from flash_tools.mint import MINT_FILE, Minted, mint, parse_address, parse_range, parse_settings
from gateway import node_file
from hil_tests.world.flash import Flash, LittleFs
from protocols.wire import identity

RANGE = range(0x10, 0x20)


def make(out: Path, **changes: Any) -> Minted:
    """A river station with an address of RANGE, but for the changes."""
    wanted: dict[str, Any] = {
        "node_type": "river",
        "area": "330110001001",
        "site": "gudang-3",
        "addresses": RANGE,
    }
    return mint(out=out, **(wanted | changes))


def identity_of(made: Minted) -> identity.Identity:
    """What the node will read: its state partition mounted as a node mounts it."""
    fs = LittleFs(Flash(image=made.state_image.read_bytes()))
    with fs.open("/identity", "rb") as file:
        return identity.decode(file.read())


def test_node_and_gateway_get_the_same_key_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    made = make(tmp_path)
    (imported,) = node_file.parse(made.mint_file.read_text(), "nodes.jsonl")
    on_node = identity_of(made)
    assert imported.keys == (on_node.master_secret, on_node.master_salt)
    assert (imported.address, imported.area, imported.site) == (0x10, "330110001001", "gudang-3")
    assert (on_node.address, on_node.area) == (0x10, "330110001001")
    assert (on_node.node_type, on_node.board) == ("river", "virtual")
    for path in (made.mint_file, made.state_image):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_node_has_a_key_and_an_address_of_its_own(tmp_path: Path) -> None:
    made = [make(tmp_path, site=None) for _ in range(5)]
    assert [one.address for one in made] == [0x10, 0x11, 0x12, 0x13, 0x14]
    assert len({identity_of(one).master_secret for one in made}) == 5
    assert len(node_file.parse((tmp_path / MINT_FILE).read_text(), "nodes.jsonl")) == 5


def test_a_node_starts_with_the_settings_it_was_minted_with(tmp_path: Path) -> None:
    made = make(tmp_path, settings=parse_settings(["interval_s=5", "status_s=30"]))
    fs = LittleFs(Flash(image=made.state_image.read_bytes()))
    settings = Settings(Document(fs, "settings"), {0: 900, 1: 3600, 2: 86400})
    assert settings.document() == {0: 5, 1: 3600, 2: 30}
    assert settings.version == 0


@pytest.mark.parametrize("text", ["interval_s", "interval=5", "interval_s=+1", "interval_s=1.5"])
def test_a_setting_that_is_none_is_told_with_the_names_there_are(text: str) -> None:
    with pytest.raises(MintError, match="write NAME=NUMBER, with one of interval_s, report_s, status_s"):
        parse_settings([text])


def test_a_setting_is_checked_against_the_node_type(tmp_path: Path) -> None:
    with pytest.raises(
        MintError, match=r"'tilt_deg' is no setting of a river node.* It has interval_s \(1 to"
    ):
        make(tmp_path, settings=parse_settings(["tilt_deg=20"]))
    with pytest.raises(MintError, match=r"interval_s = -1 is not allowed\. Allowed are 1 to 86400"):
        make(tmp_path, settings=parse_settings(["interval_s=-1"]))
    with pytest.raises(MintError, match="Did you mean interval_s"):
        parse_settings(["intervall_s=5"])
    with pytest.raises(
        MintError,
        match=r"report_s, status_s, target_class, radio_sf, radio_dbm\. Did you mean target_class",
    ):
        parse_settings(["targetclass=2"], "river")
    with pytest.raises(MintError, match="interval_s is given twice"):
        parse_settings(["interval_s=5", "interval_s=6"])
    assert not (tmp_path / MINT_FILE).exists(), "no key was made"
    assert parse_settings(["level_high=-20"]) == {7: -20}


def test_a_taken_address_is_refused_and_its_key_untouched(tmp_path: Path) -> None:
    made = make(tmp_path, address=0x12)
    before = (made.mint_file.read_bytes(), made.state_image.read_bytes())
    with pytest.raises(MintError, match=r"address 0012 stands in .*nodes.jsonl already.*--force"):
        make(tmp_path, address=0x12)
    assert (made.mint_file.read_bytes(), made.state_image.read_bytes()) == before


def test_an_image_without_a_line_still_protects_its_key(tmp_path: Path) -> None:
    made = make(tmp_path, address=0x12)
    made.mint_file.unlink()
    with pytest.raises(MintError, match="exists and holds a key"):
        make(tmp_path, address=0x12)
    assert not made.mint_file.exists()


def test_force_replaces_line_and_image_together(tmp_path: Path) -> None:
    make(tmp_path, address=0x11)
    old = identity_of(make(tmp_path, address=0x12))
    made = make(tmp_path, address=0x12, force=True)
    rows = {node.address: node for node in node_file.parse(made.mint_file.read_text(), "nodes.jsonl")}
    assert rows[0x12].keys[0] == identity_of(made).master_secret != old.master_secret
    assert sorted(rows) == [0x11, 0x12]


def test_a_range_that_is_used_up_is_told(tmp_path: Path) -> None:
    for _ in range(2):
        make(tmp_path, addresses=range(1, 3))
    with pytest.raises(MintError, match="all 2 addresses 0001-0002 stand in"):
        make(tmp_path, addresses=range(1, 3))


def test_a_crash_after_the_key_was_stored_leaves_a_line_and_no_node_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", lambda self, **k: None if k.get("parents") else crash())
    with pytest.raises(OSError, match="No space"):
        make(tmp_path)
    assert json.loads((tmp_path / MINT_FILE).read_text())["address"] == "0010"
    assert not list(tmp_path.rglob("state.img"))


def test_a_damaged_mint_file_is_told_with_its_line_and_without_a_key(tmp_path: Path) -> None:
    made = make(tmp_path)
    secret = identity_of(made).master_secret.hex()
    with made.mint_file.open("a") as file:
        file.write(f'{{"master_secret": "{secret}"}}\n')
    with pytest.raises(MintError, match=r"nodes.jsonl:2: not a line") as caught:
        make(tmp_path)
    assert secret not in str(caught.value)


def _mint_some(folder: Path) -> list[int]:
    return [make(folder, addresses=range(1, 100)).address for _ in range(4)]


def test_two_stations_minting_into_one_file_never_give_out_one_address_twice(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(_mint_some, [tmp_path, tmp_path])
    assert Counter(found[0] + found[1]) == Counter(range(1, 9))
    assert len((tmp_path / MINT_FILE).read_text().splitlines()) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"node_type": "rivr"}, r"no node type 'rivr' in .*; there are: .*Did you mean 'river'\?"),
        ({"area": "a/b"}, "area 'a/b': allowed are"),
        ({"site": "two words"}, "site 'two words': allowed are"),
        ({"area": "x" * 30}, "area: must be text of 1 to 24 bytes"),
        ({"board": "arduino"}, "no board 'arduino'"),
        ({"settings": {0: 0}}, "settings: "),
    ],
)
def test_what_a_node_can_not_be_is_told_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(FlashToolError, match=message):
        make(tmp_path, **changes)
    assert [path for path in tmp_path.rglob("*") if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize("text", ["0", "ffff", "12345", "-1", "g", "", "0x", "1_2"])
def test_no_address_but_0001_to_fffe_is_taken(text: str) -> None:
    with pytest.raises(MintError, match="allowed is 0001 to FFFE"):
        parse_address(text)


def test_addresses_and_ranges_are_read_as_they_stand_on_labels() -> None:
    assert parse_address("0x0012") == parse_address("12") == 0x12
    assert parse_range("0010-00fF") == range(0x10, 0x100)
    for text in ("0010", "0020-0010"):
        with pytest.raises(MintError, match="address range"):
            parse_range(text)


def test_the_command_says_what_it_made_and_what_to_do_next(tmp_path: Path) -> None:
    words = ["mint", "--type", "river", "--area", "330110001001", "--out", str(tmp_path)]
    words += ["--address", "0x0012"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    assert f"0012  {tmp_path}/0012/state.img" in done.output
    assert "tidegate gateway node import" in done.output
    again = CliRunner().invoke(cli.app, words)
    assert isinstance(again.exception, MintError)


def test_the_app_image_has_the_firmware_and_no_key_and_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "app.img"
    words = ["image", "--board", "virtual", "--out", str(out), "--sizes"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    assert "/a/firmware/outbox.mpy" in done.output
    names = {entry[0] for entry in LittleFs(Flash(image=out.read_bytes())).ilistdir("/")}
    assert names == {"1", "2", "a", "b", "boot", "main.py"}
    assert isinstance(CliRunner().invoke(cli.app, words).exception, MintError)
    assert CliRunner().invoke(cli.app, [*words, "--force"]).exit_code == 0


def test_a_place_that_can_not_be_written_and_a_spoilt_mint_file_are_told_without_a_traceback(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / MINT_FILE).write_bytes(b"\xff\xfe\n")
    for arguments, told in (
        (["mint", "--type", "river", "--out", str(tmp_path / "file")], "exists"),
        (["image", "--out", str(tmp_path / "file" / "app.img")], "file"),
        (["mint", "--type", "river", "--out", str(tmp_path)], "not a line that minting wrote"),
    ):
        done = CliRunner().invoke(cli.app, arguments)
        assert isinstance(done.exception, FlashToolError)
        assert told in str(done.exception)
