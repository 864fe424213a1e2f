"""Provisioning: the order of things, what is never done twice, and what a kill at any moment leaves."""

from __future__ import annotations

import json
import stat
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flash_tools import book, provisioning
from flash_tools.addresses import Station
from flash_tools.errors import KeyStoreError, ProvisionError
from flash_tools.journal import Journal
from flash_tools.key_store import KeyStore, load_master_key, make_master_key
from flash_tools.provisioning import LABELLED, MINTED, RETIRED, SCRAPPED, TRANSITIONS, Units
from flash_tools.station import Bench, StationRun
from tests.flash_tools.provision_world import MACS, MASTER, RANGE, RIVER, World, dying


def secret_of(world: World, mac: str) -> bytes:
    found = world.chips[mac].identity
    assert found is not None
    return found.master_secret


def assert_all_agree(world: World) -> None:
    """The chips, the book and the registry tell one story, and no key or address stands in it twice."""
    units = world.units()
    keys = KeyStore(MASTER)
    secrets, addresses = set(), set()
    for unit in units.all():
        opened = keys.open(unit.mac, unit.address, unit.sealed)
        secrets.add(opened.master_secret)
        addresses.add(unit.address)
        if unit.address in world.registry:
            assert world.registry[unit.address] == opened
    assert len(secrets) == len(addresses) == len(units.all())
    for mac, chip in world.chips.items():
        unit = units.of_mac(mac)
        assert unit is not None
        assert chip.identity is not None
        assert chip.identity.address == unit.address
        assert chip.identity.master_secret == keys.open(mac, unit.address, unit.sealed).master_secret
        assert unit.address in world.registry


def assert_no_key_is_lost(world: World) -> None:
    """What is on a chip or at the gateway opens with the book as the disk has it now."""
    units, keys = world.units(), KeyStore(MASTER)
    for mac, chip in world.chips.items():
        if chip.identity is not None:
            unit = units.of_mac(mac)
            assert unit is not None
            assert keys.open(mac, unit.address, unit.sealed).master_secret == chip.identity.master_secret
    for address, known in world.registry.items():
        unit = units.of_address(address)
        assert unit is not None
        assert keys.open(unit.mac, address, unit.sealed) == known


def test_boards_become_units_that_the_gateway_knows_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    done = world.run()
    assert [one.problem for one in done] == ["", ""]
    assert [one.did for one in done] == [("minted", "flashed", "verified", "labelled")] * 2
    assert_all_agree(world)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    sent = [chip.sent for chip in world.chips.values()]
    again = world.run()
    assert [(one.problem, one.did, one.data_bytes) for one in again] == [("", (), 0)] * 2
    assert [chip.sent for chip in world.chips.values()] == sent
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_new_firmware_goes_onto_a_unit_that_keeps_its_key(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()
    secret = secret_of(world, MACS[0])
    world.app = b"firmware 2"
    assert [one.did for one in world.run()] == [("flashed", "verified", "labelled")] * 2
    assert secret_of(world, MACS[0]) == secret
    assert_all_agree(world)


def test_a_board_that_fails_is_told_and_costs_the_others_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, broken={MACS[0]: "its flash is worn out"})
    first, second = world.run()
    assert (first.problem, first.unit) == ("its flash is worn out", "0100")
    assert (second.problem, second.unit) == ("", "0101")
    unit = world.units().of_mac(MACS[0])
    assert unit is not None
    assert (unit.state, unit.facts["failed"]["why"]) == (MINTED, "its flash is worn out")
    assert set(world.registry) == {0x101}
    world.broken = {}
    assert [one.problem for one in world.run()] == ["", ""]
    assert_all_agree(world)


@pytest.mark.parametrize("ending", [SCRAPPED, RETIRED])
def test_an_address_is_not_given_out_again_though_no_gateway_ever_knew_it(
    tmp_path: Path, ending: str
) -> None:
    world = World(tmp_path)
    world.run(at_gateway=False)
    with book.opened(world.book) as opened:
        Units(opened.entries, opened).advance(0x100, ending, why="x")
    assert [one.unit for one in world.run(again=True, at_gateway=False)] == ["0102", "0101"]


def test_an_identity_is_ordered_once_and_never_for_a_unit_that_was_flashed(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()
    bench = Bench(tmp_path, Station("bench-1", (RANGE,)), KeyStore(MASTER))
    run = StationRun(bench, world.units())
    assert [run.order(unit).state for unit in world.units().all()] == [None, None]
    young = replace(world.units().all()[0], state=MINTED)
    assert run.order(young).state is not None


def test_a_unit_that_fails_when_it_is_looked_at_again_is_no_longer_told_as_passed(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()

    def passed() -> bool:
        return bool(json.loads((tmp_path / "records/0100.json").read_text())["passed"])

    assert passed()
    world.broken = {MACS[0]: "another identity is on it"}
    world.run()
    unit = world.units().of_mac(MACS[0])
    assert unit is not None
    assert (unit.state, unit.problem, passed()) == (LABELLED, "another identity is on it", False)
    world.broken = {}
    for _ in range(2):
        assert [one.problem for one in world.run()] == ["", ""]
        unit = world.units().of_mac(MACS[0])
        assert unit is not None
        assert (unit.problem, unit.history[-1][1], passed()) == ("", "checked", True)
    assert [what for _, what in unit.history].count("checked") == 1


def test_an_address_on_a_board_is_not_given_out_again_when_the_end_of_the_book_was_lost(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "flash-journal.jsonl")
    for name in ("0100", "0101", "none", "10000"):
        journal.note("identity", MACS[0], node=name)
    world = World(tmp_path)
    assert [one.unit for one in world.run(at_gateway=False, flashed=sorted(journal.nodes()))] == [
        "0102",
        "0103",
    ]


def test_a_scrapped_unit_leaves_key_and_address_behind_for_ever(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()
    old = secret_of(world, MACS[0])
    with book.opened(world.book) as opened:
        Units(opened.entries, opened).advance(0x100, SCRAPPED, why="dropped")
    refused, _ = world.run()
    assert "was unit 0100, which is scrapped. If it is mended" in refused.problem
    mended, _ = world.run(again=True)
    assert (mended.problem, mended.unit) == ("", "0102")
    assert secret_of(world, MACS[0]) != old
    assert [unit.state for unit in world.units().all()] == [SCRAPPED, LABELLED, LABELLED]
    assert_all_agree(world)


def test_the_transitions_are_those_and_no_others(tmp_path: Path) -> None:
    states = list(TRANSITIONS)
    allowed = {(a, b) for a in states for b in states if b in TRANSITIONS[a]}
    assert {(a, b) for a, b in allowed if a in (RETIRED, SCRAPPED)} == set()
    assert all(b != MINTED for _, b in allowed)
    path_to = {MINTED: [], "flashed": ["flashed"], "verified": ["flashed", "verified"]}
    path_to[LABELLED] = [*path_to["verified"], LABELLED]
    path_to |= {RETIRED: [*path_to[LABELLED], RETIRED], SCRAPPED: [SCRAPPED]}
    for number, (a, b) in enumerate((a, b) for a in states for b in states):
        with book.opened(tmp_path / str(number)) as opened:
            units = Units([], opened)
            units.mint(MACS[0], RIVER, Station("s", (RANGE,)), KeyStore(MASTER))
            for state in path_to[a]:
                units.advance(0x100, state)
            if (a, b) in allowed:
                assert units.advance(0x100, b).state == b
            else:
                with pytest.raises(ProvisionError, match=f"unit 0100 is {a}; next can be .*, not {b}"):
                    units.advance(0x100, b)


def test_a_key_that_was_there_before_is_refused(tmp_path: Path) -> None:
    """A machine whose random numbers repeat, as one that was copied while it ran."""
    with book.opened(tmp_path / "units.jsonl") as opened:
        units = Units([], opened)
        keys = KeyStore(MASTER, lambda size: bytes(size))
        units.mint(MACS[0], RIVER, Station("s", (RANGE,)), keys)
        with pytest.raises(ProvisionError, match="random numbers repeat: the new key is that of unit 0100"):
            units.mint(MACS[1], RIVER, Station("s", (RANGE,)), keys)
    assert len(book.read(tmp_path / "units.jsonl")) == 1


def test_an_address_that_the_gateway_knows_is_not_given_out(tmp_path: Path) -> None:
    world = World(tmp_path, registry={0x100: (bytes(16), bytes(8))})
    assert [one.unit for one in world.run()] == ["0101", "0102"]
    world = World(tmp_path / "other", registry={0x100: (bytes(16), bytes(8))})
    world.folder.mkdir()
    world.run(at_gateway=False)  # nobody could tell
    first, second = world.run()
    assert "node 0100 is registered with another key" in first.problem
    assert second.problem == ""
    assert 0x101 in world.registry


def test_who_a_board_is_can_not_be_changed_by_asking_for_something_else(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()
    other = provisioning.Wanted("lift", "virtual", "330110001001")
    assert (
        "is unit 0100 already, with node type river, and lift is asked for"
        in world.run(MACS[:1], other)[0].problem
    )
    elsewhere = provisioning.Wanted("river", "virtual", "330110001001", address=0x105)
    assert "with address 0100, and 0105 is asked for" in world.run(MACS[:1], elsewhere)[0].problem


# ---- keys ----------------------------------------------------------------------------------------------------------


def shapes(key: bytes) -> Iterator[bytes]:
    """A key as it might stand somewhere."""
    yield key
    yield key.hex().encode()
    yield key.hex().upper().encode()
    yield from (b64encode(bytes(pad) + key)[4 if pad else 0 :].rstrip(b"=")[:-2] for pad in range(3))


def test_no_file_of_a_bench_shows_a_key_to_who_has_not_the_master_key(tmp_path: Path) -> None:
    world = World(tmp_path / "bench", broken={MACS[1]: "no answer"})
    world.folder.mkdir()
    outcomes = world.run()
    found = [world.chips[MACS[0]].identity]
    unit = world.units().of_mac(MACS[1])
    assert unit is not None
    opened = KeyStore(MASTER).open(unit.mac, unit.address, unit.sealed)
    secrets = [opened.master_secret, opened.master_salt]
    secrets += [key for one in found if one for key in (one.master_secret, one.master_salt)]
    texts = {str(path): path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}
    texts |= {
        "outcomes": repr(outcomes).encode(),
        "units": repr(world.units().all()).encode(),
        "keys": repr(opened).encode(),
    }
    assert len(texts) > 8
    for name, text in texts.items():
        for key in secrets:
            assert not [shape for shape in shapes(key) if shape in text], name
    assert stat.S_IMODE(world.book.stat().st_mode) == 0o600


def test_without_its_master_key_no_key_opens(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()
    unit = world.units().all()[0]
    with pytest.raises(KeyStoreError, match=r"sealed under bench key .*; the one given is"):
        KeyStore(bytes(32)).open(unit.mac, unit.address, unit.sealed)
    for mac, address in ((MACS[1], unit.address), (unit.mac, 0x101)):
        with pytest.raises(KeyStoreError, match="does not open for MAC"):
            KeyStore(MASTER).open(mac, address, unit.sealed)
    sealed = bytes.fromhex(unit.sealed)
    for index in range(len(sealed)):
        altered = sealed[:index] + bytes([sealed[index] ^ 1]) + sealed[index + 1 :]
        with pytest.raises(KeyStoreError):
            KeyStore(MASTER).open(unit.mac, unit.address, altered.hex())


def test_a_master_key_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "bench.key"
    make_master_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(load_master_key(path)) == 32
    with pytest.raises(KeyStoreError, match="never overwritten"):
        make_master_key(path)
    path.chmod(0o644)
    with pytest.raises(KeyStoreError, match=r"mode 0644 lets others read .* chmod 600"):
        load_master_key(path)
    path.chmod(0o600)
    path.write_text("hello")
    with pytest.raises(KeyStoreError, match="holds 5 bytes that are no master key"):
        load_master_key(path)


# ---- kills ---------------------------------------------------------------------------------------------------------


def steps_of_a_run(folder: Path) -> int:
    world = World(folder)
    folder.mkdir()
    with dying(world, -1, torn=0, is_power_cut=False):
        world.run()
        return world.steps.count


def play(folder: Path, at: int, torn: float, is_power_cut: bool) -> int:
    """A run that dies at step `at`; the same command again; then all agree. How many keys were ever on a chip."""
    folder.mkdir(exist_ok=True)
    world = World(folder)
    with dying(world, at, torn=torn, is_power_cut=is_power_cut):
        world.run()
    assert_no_key_is_lost(world)
    assert [one.problem for one in world.run()] == ["", ""], (at, torn, is_power_cut)
    assert_all_agree(world)
    assert all(unit.state == LABELLED for unit in world.units().all())
    assert not [
        path
        for path in folder.rglob("*.tmp")
        if path.stat().st_mode & 0o077 and b"sealed" in path.read_bytes()
    ]
    assert [one.did for one in world.run()] == [(), ()]
    return len(world.units().all())


def test_a_kill_at_a_sample_of_moments_leaves_all_in_agreement(tmp_path: Path) -> None:
    count = steps_of_a_run(tmp_path / "count")
    for at in range(1, count + 1, 7):
        play(tmp_path / str(at), at, 0.5, is_power_cut=at % 2 == 0)
    print(f"provision_steps={count}")


@pytest.mark.soak
def test_a_kill_or_power_cut_at_every_step_of_a_run_leaves_all_in_agreement(tmp_path: Path) -> None:
    """Every write, sync, rename and truncation of book, labels and records, each chip write and the registry."""
    count = steps_of_a_run(tmp_path / "count")
    cuts = 0
    for at in range(1, count + 1):
        for torn in (0.0, 0.5, 1.0):
            for is_power_cut in (False, True):
                play(tmp_path / f"{at}-{torn}-{is_power_cut}", at, torn, is_power_cut)
                cuts += 1
    print(f"provision_steps={count} provision_cuts={cuts} provision_disagreements=0")


def test_what_is_torn_at_the_end_of_a_book_was_never_acted_upon_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    with book.opened(path) as opened:
        opened.write({"a": 1})
        opened.write({"b": 2})
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        assert book.read(path) == [{"a": 1}]
        with book.opened(path) as opened:
            opened.write({"c": 3})
        assert book.read(path) == [{"a": 1}, {"c": 3}]


def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_guessed(tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    with book.opened(path) as opened:
        for number in range(3):
            opened.write({"n": number})
    data = bytearray(path.read_bytes())
    data[data.index(b"\n") + 12] ^= 1
    path.write_bytes(data)
    with pytest.raises(ProvisionError, match=r"units\.jsonl:2: this line is damaged, and others follow it"):
        book.read(path)


def test_a_line_that_is_missing_is_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()
    lines = world.book.read_bytes().splitlines(keepends=True)
    minted = next(at for at, line in enumerate(lines) if b'"0100"' in line)
    world.book.write_bytes(b"".join(lines[:minted] + lines[minted + 1 :]))
    with pytest.raises(ProvisionError, match="unit 0100, and not that it was minted"):
        world.units()


def test_only_one_run_works_with_a_book(tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    refused = pytest.raises(ProvisionError, match="another run works with this bench")
    with book.opened(path), refused, book.opened(path):
        pass


def test_a_full_disk_leaves_a_book_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "units.jsonl"
    with book.opened(path) as opened:
        opened.write({"a": 1})
        with monkeypatch.context() as patch:

            def full(path: Path, data: bytes) -> None:
                with path.open("ab") as file:
                    file.write(data[:5])
                raise OSError(28, "No space left on device")

            patch.setattr(book.files, "append", full)
            with pytest.raises(OSError, match="No space"):
                opened.write({"b": 2})
        opened.write({"c": 3})
    assert book.read(path) == [{"a": 1}, {"c": 3}]
    assert json.loads(path.read_text().splitlines()[1].partition(" ")[2]) == {"c": 3}
