"""The registry keeps keys sealed, sites apart from devices, and who changed what."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import keys, limits, node_file
from gateway.errors import KeyFileError, RegistryError
from gateway.keys import NodeKeys, Vault
from gateway.node_file import MintedNode
from gateway.registry import Place
from tests.gateway.desk import BY, KEYS, MASTER_KEY, HandClock, desk, minted

OTHER_KEYS = NodeKeys(bytes(16), bytes(8))


# --- the vault ----------------------------------------------------------------------------------


@given(st.integers(1, 0xFFFE), st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8))
def test_sealed_keys_open_to_what_was_sealed_and_show_none_of_it(
    address: int, secret: bytes, salt: bytes
) -> None:
    vault = Vault(MASTER_KEY)
    sealed = vault.seal(address, NodeKeys(secret, salt))
    assert vault.open(address, sealed) == (secret, salt)
    assert secret not in sealed
    assert secret.hex() not in repr(vault.open(address, sealed))


def test_every_altered_byte_of_sealed_keys_is_noticed() -> None:
    vault = Vault(MASTER_KEY)
    sealed = vault.seal(0x12, KEYS)
    for index in range(len(sealed)):
        altered = bytearray(sealed)
        altered[index] ^= 1
        with pytest.raises(KeyFileError):
            vault.open(0x12, bytes(altered))
    for end in range(len(sealed)):
        with pytest.raises(KeyFileError):
            vault.open(0x12, sealed[:end])


def test_sealed_keys_cannot_be_moved_to_another_node() -> None:
    vault = Vault(MASTER_KEY)
    with pytest.raises(KeyFileError, match="altered"):
        vault.open(0x13, vault.seal(0x12, KEYS))


def test_another_master_key_is_named_as_such() -> None:
    sealed = Vault(MASTER_KEY).seal(0x12, KEYS)
    other = Vault(bytes([1]) * 32)
    with pytest.raises(KeyFileError, match=f"the one given is {other.key_id.hex()}"):
        other.open(0x12, sealed)


# --- the master key's file ----------------------------------------------------------------------


def test_a_new_master_key_file_is_private_and_read_back(tmp_path: Path) -> None:
    keys.write_file(tmp_path / "master.key")
    assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600
    assert len(keys.load_file(tmp_path / "master.key")) == 32
    with pytest.raises(KeyFileError, match="never overwritten"):
        keys.write_file(tmp_path / "master.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777, 0o620])
def test_a_master_key_that_others_can_touch_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "master.key"
    keys.write_file(file)
    file.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}.*Allowed is 0600: chmod 600"):
        keys.load_file(file)


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"zz" * 32, b"00" * 31, b"00" * 33, bytes(33), b"\xff" * 64]
)
def test_a_file_that_holds_no_master_key_is_refused_without_showing_it(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "master.key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(
        KeyFileError, match=f"holds {min(len(content), 129)} bytes that are no master key"
    ) as info:
        keys.load_file(file)
    assert not content or content.decode("latin-1") not in str(info.value)


def test_a_missing_master_key_or_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no such file"):
        keys.load_file(tmp_path / "master.key")
    with pytest.raises(KeyFileError, match="cannot be read"):
        keys.load_file(tmp_path)


def test_the_master_key_comes_from_a_systemd_credential(tmp_path: Path) -> None:
    (tmp_path / "tidegate").write_bytes(bytes(range(32)))
    assert keys.load_credential("tidegate", str(tmp_path)) == bytes(range(32))
    with pytest.raises(KeyFileError, match="CREDENTIALS_DIRECTORY is not set"):
        keys.load_credential("tidegate", None)
    with pytest.raises(KeyFileError, match="'other' cannot be read"):
        keys.load_credential("other", str(tmp_path))


# --- nodes --------------------------------------------------------------------------------------


def test_imported_nodes_survive_a_restart_and_their_keys_are_not_in_the_database(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as first:
            done = await first.registry.import_nodes([minted(0x12), minted(0x13)], BY)
            assert (done.added, done.replaced, done.unchanged) == ([0x12, 0x13], [], [])
            assert first.registry.keys_of(0x12) == KEYS
        with desk(tmp_path) as again:
            assert [node.address for node in again.registry.nodes()] == [0x12, 0x13]
            assert again.registry.keys_of(0x13) == KEYS
            assert again.registry.keys_of(0x14) is None

    asyncio.run(scenario())
    content = b"".join(file.read_bytes() for file in tmp_path.glob("tidegate.db*"))
    assert KEYS.master_secret not in content
    assert KEYS.master_secret.hex().encode() not in content


def test_importing_again_changes_nothing_and_other_keys_need_replace(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            changed: list[int] = []
            office.registry.on_changed = changed.append
            await office.registry.import_nodes([minted(0x12)], BY)
            assert (await office.registry.import_nodes([minted(0x12)], BY)).unchanged == [0x12]
            new = [minted(0x12, keys=OTHER_KEYS), minted(0x13)]
            with pytest.raises(RegistryError, match=r"registered with other keys \(0012\).*--replace"):
                await office.registry.import_nodes(new, BY)
            assert office.registry.keys_of(0x13) is None
            assert office.registry.keys_of(0x12) == KEYS
            done = await office.registry.import_nodes(new, BY, replace=True)
            assert (done.added, done.replaced) == ([0x13], [0x12])
            assert office.registry.keys_of(0x12) == OTHER_KEYS
            assert changed == [0x12, 0x12, 0x13]

    asyncio.run(scenario())


def test_a_whole_city_of_nodes_is_imported_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            count = 3 * limits.NODE_IMPORT_BATCH + 7
            nodes = [minted(address, site=f"s{address % 5}") for address in range(1, count + 1)]
            assert len((await office.registry.import_nodes(nodes, BY)).added) == count
        with desk(tmp_path) as office:
            assert len(office.registry.nodes()) == count
            assert [site.site for site in office.registry.sites()] == ["s0", "s1", "s2", "s3", "s4"]
            assert office.registry.place_of(count, 5).site == f"s{count % 5}"

    asyncio.run(scenario())


def test_a_removed_node_has_no_keys_and_can_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HandClock()
        with desk(tmp_path, clock) as office:
            await office.enrol(0x12, site="yuhang-3")
            clock.pass_s(100)
            removed_ms = clock.now_ms
            await office.registry.remove_node(0x12, BY)
            with pytest.raises(RegistryError, match="is not registered"):
                await office.registry.remove_node(0x12, BY)
        with desk(tmp_path, clock) as office:
            assert office.registry.keys_of(0x12) is None
            assert office.registry.nodes() == []
            assert office.registry.place_of(0x12, removed_ms - 1).site == "yuhang-3"
            assert office.registry.place_of(0x12, removed_ms).site == "unassigned"
            clock.pass_s(100)
            await office.enrol(0x12, site="yuhang-3")
            assert office.registry.place_of(0x12, clock.now_ms).site == "yuhang-3"
            assert office.registry.place_of(0x12, removed_ms + 1).site == "unassigned"

    asyncio.run(scenario())


def test_the_wrong_master_key_is_told_at_the_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(0x12)
        with (
            pytest.raises(KeyFileError, match="Give the master key this database was made with"),
            desk(tmp_path, master_key=bytes([7]) * 32),
        ):
            pass

    asyncio.run(scenario())


# --- sites --------------------------------------------------------------------------------------


def test_a_swapped_node_breaks_no_history(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HandClock()
        with desk(tmp_path, clock) as office:
            await office.enrol(0x12, 0x13)
            await office.registry.add_site("yuhang-3", "330110", "Yuhang weir", BY)
            await office.registry.assign("yuhang-3", 0x12, BY)
            clock.pass_s(1000)
            swap_ms = clock.now_ms
            await office.registry.assign("yuhang-3", 0x13, BY, swap_ms)
            await office.registry.add_site("store-room", None, None, BY)
            await office.registry.assign("store-room", 0x12, BY)
        with desk(tmp_path, clock) as office:
            place_of = office.registry.place_of
            assert place_of(0x12, 5) == Place("yuhang-3", "330110")
            assert place_of(0x12, swap_ms - 1) == Place("yuhang-3", "330110")
            assert place_of(0x12, swap_ms) == Place("store-room", "330106")
            assert place_of(0x13, clock.now_ms) == Place("yuhang-3", "330110")
            assert place_of(0x99, clock.now_ms) == Place("unassigned", "330106")

    asyncio.run(scenario())


def test_a_site_outlives_the_node_that_serves_it(tmp_path: Path) -> None:
    """`site replace`: one change, from one moment on, and the keys of the old node only go when that is wanted."""

    async def scenario() -> None:
        clock = HandClock()
        with desk(tmp_path, clock) as office:
            await office.enrol(0x12, 0x13, 0x14)
            await office.registry.add_site("yuhang-3", "330110", "Yuhang weir", BY)
            await office.registry.assign("yuhang-3", 0x12, BY)
            clock.pass_s(1000)
            assert await office.registry.replace("yuhang-3", 0x13, BY) == 0x12
            swap_ms = clock.now_ms
            assert office.registry.keys_of(0x12) == KEYS
            clock.pass_s(1000)
            assert await office.registry.replace("yuhang-3", 0x14, BY, forget=True) == 0x13
            assert office.registry.keys_of(0x13) is None
        with desk(tmp_path, clock) as office:
            place_of, now_ms = office.registry.place_of, clock.now_ms
            assert place_of(0x12, swap_ms - 1) == place_of(0x13, swap_ms) == place_of(0x14, now_ms)
            assert place_of(0x14, now_ms) == Place("yuhang-3", "330110")
            assert [place_of(address, now_ms).site for address in (0x12, 0x13)] == ["unassigned"] * 2
            # A node that was swapped out may come back, in the same millisecond, too.
            assert await office.registry.replace("yuhang-3", 0x12, BY) == 0x14
            assert place_of(0x12, now_ms + 1).site == "yuhang-3"

    asyncio.run(scenario())


def test_a_swap_that_is_not_clear_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(0x12, 0x13, 0x14)
            cover = MintedNode(0x20, "cover", None, None, KEYS)
            await office.registry.import_nodes([cover], BY)
            await office.registry.add_site("yuhang-3", None, None, BY)
            await office.registry.add_site("empty", None, None, BY)
            await office.registry.assign("yuhang-3", 0x12, BY)
            replace = office.registry.replace
            for site, new, old, told in (
                ("yuhang-4", 0x13, None, "Did you mean yuhang-3"),
                ("empty", 0x13, None, "served by none: use `site assign`"),
                ("yuhang-3", 0x99, None, "not registered"),
                ("yuhang-3", 0x12, None, "serves this site already"),
                ("yuhang-3", 0x20, None, "is of type cover"),
                ("yuhang-3", 0x13, 0x14, "0014 does not serve site yuhang-3 now. Serving: 0012"),
            ):
                with pytest.raises(RegistryError, match=told):
                    await replace(site, new, BY, old)
            await office.registry.assign("yuhang-3", 0x14, BY)
            with pytest.raises(RegistryError, match="served by 0012, 0014: name the one"):
                await replace("yuhang-3", 0x13, BY)
            assert await replace("yuhang-3", 0x13, BY, 0x14) == 0x14

    asyncio.run(scenario())


def test_an_assignment_cannot_begin_before_the_one_it_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HandClock()
        with desk(tmp_path, clock) as office:
            await office.enrol(0x12)
            await office.registry.add_site("a", None, None, BY)
            await office.registry.assign("a", 0x12, BY, 1000)
            with pytest.raises(RegistryError, match="has served a since 1000 ms already"):
                await office.registry.assign("a", 0x12, BY, 1000)

    asyncio.run(scenario())


def test_unknown_and_unusable_names_are_refused_with_what_is_known(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(0x12)
            await office.registry.add_site("yuhang-3", None, None, BY)
            with pytest.raises(RegistryError, match="Known: yuhang-3"):
                await office.registry.assign("yuhang-4", 0x12, BY)
            with pytest.raises(RegistryError, match="node 0099 is not registered"):
                await office.registry.assign("yuhang-3", 0x99, BY)
            with pytest.raises(RegistryError, match="is there already"):
                await office.registry.add_site("yuhang-3", None, None, BY)
            for name in ("a/b", "a+", "#", "a b", "", "x" * 65):
                with pytest.raises(RegistryError, match="is not allowed"):
                    await office.registry.add_site(name, None, None, BY)

    asyncio.run(scenario())


def test_two_changes_at_once_do_not_both_make_the_same_site(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            results = await asyncio.gather(
                *(office.registry.add_site("yuhang-3", None, None, BY) for _ in range(5)),
                return_exceptions=True,
            )
            assert sum(isinstance(result, RegistryError) for result in results) == 4

    asyncio.run(scenario())


def test_every_change_leaves_who_and_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(0x12)
            await office.registry.add_site("yuhang-3", None, None, BY)
            await office.registry.assign("yuhang-3", 0x12, BY)
            await office.registry.remove_node(0x12, BY)
            rows = office.store.read(
                lambda db: db.execute("SELECT who, why, action, target FROM audit ORDER BY id").fetchall()
            )
            assert rows == [
                ("wang", "test", "node.import", "0012"),
                ("wang", "test", "site.add", "yuhang-3"),
                ("wang", "test", "site.assign", "yuhang-3"),
                ("wang", "test", "node.remove", "0012"),
            ]

    asyncio.run(scenario())


# --- the import file ----------------------------------------------------------------------------

ROW = {
    "address": "0012",
    "node_type": "river",
    "area": "330106",
    "site": "yuhang-3",
    "master_secret": KEYS.master_secret.hex(),
    "master_salt": KEYS.master_salt.hex(),
}


def test_json_lines_and_toml_say_the_same() -> None:
    toml = "# minted\n[[node]]\n" + "".join(f'{key} = "{value}"\n' for key, value in ROW.items())
    from_json = node_file.parse(json.dumps(ROW) + "\n\n", "nodes.jsonl")
    assert from_json == node_file.parse(toml, "nodes.toml")
    assert from_json == [node_file.MintedNode(0x12, "river", "330106", "yuhang-3", KEYS)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"address": "0000"}, "address = '0000' is not allowed. Allowed is 0001 to FFFE"),
        ({"address": "ffff"}, "address = 'ffff' is not allowed"),
        ({"address": True}, "address = True is not allowed"),
        ({"address": None}, "address is missing"),
        ({"node_type": ""}, "node_type = '' is not allowed"),
        ({"node_type": "x" * 25}, "Allowed is a text of 1 to 24 bytes"),
        ({"site": "a/b"}, "site = 'a/b' is not allowed"),
        (
            {"master_secret": "00"},
            "master_secret is not allowed (its value is not shown). Allowed are 32 hex",
        ),
        ({"master_salt": "g" * 16}, "master_salt is not allowed (its value is not shown)"),
        ({"master_salz": "00"}, 'unknown key "master_salz".'),
        ({"master_salz": "00"}, 'Did you mean "master_salt"?'),
    ],
)
def test_what_is_wrong_in_an_import_file_is_said_with_its_line(change: dict[str, object], told: str) -> None:
    text = json.dumps({**ROW, "address": "0001"}) + "\n" + json.dumps({**ROW, **change}) + "\n"
    with pytest.raises(RegistryError) as info:
        node_file.parse(text, "nodes.jsonl")
    assert "nodes.jsonl:2: " in str(info.value)
    assert told in str(info.value)


def test_no_message_about_an_import_file_holds_a_key() -> None:
    secret = "5ec2e75ec2e75ec2e75ec2e75ec2e7XX"
    text = json.dumps({**ROW, "master_secret": secret, "address": "zz"}) + "\nnot json " + secret
    with pytest.raises(RegistryError) as info:
        node_file.parse(text, "nodes.jsonl")
    assert "5ec2e7" not in str(info.value)
    assert str(info.value).count("nodes.jsonl:") == 3


def test_the_same_address_twice_in_a_file_is_refused() -> None:
    with pytest.raises(RegistryError, match=r"nodes.jsonl:2: address 0012 stands in line 1 already"):
        node_file.parse((json.dumps(ROW) + "\n") * 2, "nodes.jsonl")


@given(st.text(max_size=200))
def test_no_text_makes_the_import_parser_fail_otherwise(text: str) -> None:
    try:
        node_file.parse(text, "x")
    except RegistryError:
        pass


@given(
    st.dictionaries(
        st.sampled_from([*ROW, "other"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())),
    )
)
def test_no_json_object_makes_the_import_parser_fail_otherwise(row: dict[str, object]) -> None:
    try:
        node_file.parse(json.dumps(row), "x")
    except RegistryError:
        pass
