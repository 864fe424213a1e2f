"""`tidegate provision`: what a person types when the boards are done, against a real registry; and how a board is taken
that was flashed by a run that did not live to say so.
"""

from __future__ import annotations

import json
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from littlefs import LittleFS
from typer.testing import CliRunner

from flash_tools import book, flash_cli, provision_cli
from flash_tools.errors import FlashToolError, ProvisionError, RegistryError, StateInUse, WrongChip
from flash_tools.flashing import ChipFacts, Content
from flash_tools.plan import identity_in
from flash_tools.provisioning import LABELLED, RETIRED, SCRAPPED, Units
from gateway import keys as gateway_keys
from gateway import node_file
from tests.flash_tools.flash_rig import Bench, board_of, content_of, identity_of, state_of
from tests.flash_tools.provision_world import MACS, MASTER, World


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A station with two units that no gateway knows yet, and a gateway that never ran."""
    world = World(tmp_path / "provisioning")
    assert ok(tmp_path, "init", "--name", "bench-1", "--addresses", "0100-011f", "--config", "gateway.toml")
    key = world.folder / "bench.key"
    key.write_text(MASTER.hex())
    assert [one.problem for one in world.run(at_gateway=False)] == ["", ""]
    gateway_keys.write_file(tmp_path / "master.key")
    (tmp_path / "gateway.toml").write_text('[gateway]\nname = "g"\n[keys]\nmaster_key_file = "master.key"\n')
    return world.folder


def run(folder: Path, *words: str) -> tuple[int, str, BaseException | None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = CliRunner().invoke(provision_cli.app, words)
    return done.exit_code, done.output, done.exception


def ok(folder: Path, *words: str) -> str:
    code, output, exception = run(folder, *words)
    assert code == 0, (output, exception)
    return output


def refused(folder: Path, *words: str) -> str:
    error = run(folder, *words)[2]
    assert isinstance(error, FlashToolError), error
    return str(error)


def test_units_go_to_a_gateway_and_one_that_ends_is_forgotten_there(bench: Path, tmp_path: Path) -> None:
    listed = ok(tmp_path, "list")
    assert listed.splitlines() == [
        f"0100* labelled  {MACS[0]}  river       330110001001/bridge-1",
        f"0101* labelled  {MACS[1]}  river       330110001001/bridge-1",
        "2 units. * 2 were given to no gateway yet.",
    ]
    assert "gateway.toml: knows 2 of 2 units." in ok(tmp_path, "import")
    # Without the line in bench.toml: the book knows which gateway it was.
    table = (bench / "bench.toml").read_text()
    (bench / "bench.toml").write_text(re.sub("gateway = .*", "", table))
    assert "*" not in ok(tmp_path, "list")
    assert f"known to gateway {tmp_path}/gateway.toml" in (bench / "records/0100.html").read_text()
    assert "unit 0100: retired" in ok(tmp_path, "retire", "0100", "--why", "river dry")
    # Another bench, or nobody, may have minted what the gateway knows: it says so, and gives the unit no other key.
    from flash_tools.registry_door import GatewayRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        door = GatewayRegistry(Path("gateway.toml"))
        assert door.known() == {0x101}
        row = {"address": "0101", "node_type": "river", "master_secret": "00" * 16, "master_salt": "00" * 8}
        with pytest.raises(RegistryError, match=r"gateway\.toml refuses: .*0101"):
            door.add([json.dumps(row)])
    shown = ok(tmp_path, "show", "0100")
    assert "retired: river dry" in shown
    assert "unit 0100 is retired: its key is given to nobody any more" in refused(
        tmp_path, "export", "--out", "x", "0100"
    )


def test_an_export_is_private_and_is_what_a_gateway_imports(bench: Path, tmp_path: Path) -> None:
    assert "2 units with their keys, readable by you alone" in ok(
        tmp_path, "export", "--out", "out/units.jsonl"
    )
    path = tmp_path / "out/units.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [node.address for node in node_file.parse(path.read_text(), "x")] == [0x100, 0x101]
    assert "is there already. Delete it when it was imported" in refused(
        tmp_path, "export", "--out", str(path)
    )


def test_labels_and_records_are_made_again(bench: Path, tmp_path: Path) -> None:
    assert "2 labels of 50 × 25 mm" in ok(tmp_path, "label")
    assert (bench / "labels/all.pdf").read_bytes().count(b"/Type /Page ") == 2
    assert "1 labels" in ok(tmp_path, "label", MACS[0], "--out", "one.svg")
    assert "write a .pdf, or a .svg of one unit" in refused(tmp_path, "label", "--out", "all.svg")
    (tmp_path / "acceptance").mkdir()
    lid = {"node": "0100", "began": "2026-05-01T08:00:00Z", "who": "li", "accepted": True, "steps": []}
    (tmp_path / "acceptance/0100-20260501T080000Z.json").write_text(json.dumps(lid))
    assert ok(tmp_path, "record", "0100").strip() == "provisioning/records/0100.html"
    assert "2026-05-01T08:00:00Z by li" in (bench / "records/0100.html").read_text()


def test_a_unit_ends_once_and_what_is_asked_of_none_is_told(bench: Path, tmp_path: Path) -> None:
    ok(tmp_path, "scrap", "0100", "--why", "dropped")
    assert "unit 0100 is scrapped; next can be nothing: its life is over" in refused(
        tmp_path, "retire", "0100", "--why", "x"
    )
    assert "NOT PASSED: scrapped" in (bench / "records/0100.html").read_text()
    ok(tmp_path, "scrap", "0100", "--why", "dropped")  # again: nothing new
    rows = json.loads(ok(tmp_path, "list", "--json"))
    assert [row["state"] for row in rows] == [SCRAPPED, LABELLED]
    for unit in Units(book.read(bench / "units.jsonl")).all():
        assert unit.sealed not in json.dumps(rows)
    assert "there is no unit 0177 here" in refused(tmp_path, "show", "0177")
    assert "is no bench. Name its folder with --bench" in refused(tmp_path, "list", "--bench", "nowhere")
    assert RETIRED not in json.dumps(rows)


def test_a_bench_is_made_once_and_its_table_is_checked_first(tmp_path: Path) -> None:
    assert "is empty: its first address is above its last" in refused(
        tmp_path, "init", "--name", "b", "--addresses", "2-1"
    )
    assert not (tmp_path / "provisioning/bench.key").exists()
    ok(tmp_path, "init", "--name", "b", "--addresses", "1-2")
    assert "is there already" in refused(tmp_path, "init", "--name", "b", "--addresses", "1-2")
    assert "bench.key: mode 0644 lets others read" in _with_open_key(tmp_path)


def _with_open_key(folder: Path) -> str:
    (folder / "provisioning/bench.key").chmod(0o644)
    return refused(folder, "record")


def test_a_run_says_what_is_missing_before_it_touches_a_board(tmp_path: Path) -> None:
    assert "--type is missing" in refused(tmp_path, "--port", "a", "--board", "virtual")
    what = ("--type", "river", "--board", "virtual", "--area", "330106")
    assert "--position is of one board, and there are 2" in refused(
        tmp_path, "--port", "a,b", *what, "--position", "30,120"
    )
    assert "write LATITUDE,LONGITUDE" in refused(tmp_path, "--port", "a", *what, "--position", "30")
    assert "Did you mean 'river'?" in refused(
        tmp_path, "--port", "a", "--type", "rivr", "--board", "virtual", "--area", "330106"
    )
    assert (
        "bench.toml: no such file. `tidegate provision init --name bench-1 --addresses 0100-01ff` makes a bench"
        in refused(tmp_path, "--port", "a", *what)
    )
    (tmp_path / "u.csv").write_text("type,board,area,site\nriver,virtual,330106,a\nriver,virtual,330106,b\n")
    assert "u.csv: 2 units, no mistake" in ok(tmp_path, "--batch", "u.csv", "--check")


# ---- between the name of a chip and its first byte -------------------------------------------------------------------


def lived(bench: Bench) -> bytes:
    """The node has written something of its own to its `state`."""
    offset, size = bench.board.PARTITIONS["state"]
    flash = LittleFS(block_size=4096, block_count=size // 4096, mount=False, disk_version=0x20000)
    flash.context.buffer = bytearray(bench.partition("state"))
    flash.mount()
    with flash.open("/outbox", "wb") as file:
        file.write(bytes(range(256)) * 8)
    bench.flash[offset : offset + size] = flash.context.buffer
    return bytes(flash.context.buffer)


def test_a_node_that_lives_already_keeps_its_records_when_its_first_run_is_finished(tmp_path: Path) -> None:
    """The run was killed after the flash, before its line was in the book: it is asked to write the key again."""
    bench = Bench(board_of())
    who = identity_of(bench.board)
    content = content_of(bench.board, state=state_of(who, bench.board), identity=who)
    bench.flash_it(content)
    before = lived(bench)
    with pytest.raises(StateInUse, match="with this very key, which has lived"):
        bench.flash_it(replace(content, erase_state=True))
    done = bench.flash_it(replace(content, may_live=True, erase_state=True))
    assert (done.blocks_sent, done.state_written) == (0, False)
    assert bench.partition("state") == before
    other = identity_of(bench.board, 0x13, seed=2)
    with pytest.raises(StateInUse, match="node 0012"):
        bench.flash_it(replace(content, state=state_of(other, bench.board), identity=other, may_live=True))
    assert identity_in(bench.partition("state"), 4096) == who


def test_what_a_board_becomes_is_asked_when_it_has_said_who_it_is_and_nothing_is_written_yet() -> None:
    bench = Bench(board_of())
    asked: list[ChipFacts] = []

    def content(facts: ChipFacts) -> Content:
        asked.append(facts)
        assert bench.chip.flash.programmed == 0
        return content_of(bench.board)

    bench.flash_it(content)
    assert [(facts.mac, facts.flash_size) for facts in asked] == [(bench.mac, bench.board.FLASH_SIZE)]
    other = Bench(board_of("esp32c3_devkitm"), seed=2)

    def nothing(_facts: ChipFacts) -> Content:
        raise ProvisionError("in no line of the table")

    for wanted, error in ((nothing, ProvisionError), (lambda _facts: content_of(bench.board), WrongChip)):
        with pytest.raises(error):
            other.flash_it(wanted)
        assert other.chip.flash.programmed == 0


def test_a_board_of_another_kind_costs_no_address_and_no_key(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.chips[MACS[0]].chip = "esp32c3"
    first, second = world.run()
    assert "is an esp32c3 with 8192 KiB of flash; board virtual has an virtual" in first.problem
    assert second.unit == "0100"
    assert [entry["mac"] for entry in book.read(world.book) if entry.get("to") == "minted"] == [MACS[1]]


def test_an_option_before_a_word_is_refused_and_not_left_out(tmp_path: Path, bench: Path) -> None:
    other = tmp_path / "other"
    ok(tmp_path, "init", "--name", "bench-2", "--addresses", "0200-02ff", "--bench", str(other))
    before = (bench / "units.jsonl").read_bytes()
    code, _, exception = run(tmp_path, "--bench", str(other), "scrap", "0100", "--why", "broken")
    assert code != 0
    assert isinstance(exception, FlashToolError)
    assert "provision scrap --bench" in str(exception)
    assert (bench / "units.jsonl").read_bytes() == before


def test_flash_does_not_leave_out_an_option_before_a_word_either() -> None:
    done = CliRunner().invoke(flash_cli.app, ["--port", "nowhere", "doctor"])
    assert isinstance(done.exception, FlashToolError)
    assert "flash doctor --port" in str(done.exception)


def test_init_without_options_says_what_can_be_typed(tmp_path: Path) -> None:
    _, _, exception = run(tmp_path, "init")
    assert isinstance(exception, ProvisionError)
    words = str(exception).rpartition("tidegate provision ")[2].split()
    ok(tmp_path, *words)


def test_a_reason_that_is_no_text_is_refused_and_nothing_is_done(tmp_path: Path, bench: Path) -> None:
    before = (bench / "units.jsonl").read_bytes()
    for why in ("\udcc7\udcc5", "\x1b[2J"):
        _, _, exception = run(tmp_path, "scrap", "0100", "--why", why)
        assert isinstance(exception, ProvisionError)
        assert "no text" in str(exception)
    assert (bench / "units.jsonl").read_bytes() == before
