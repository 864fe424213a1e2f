"""Every mistake in gateway.toml is told with file:line, key, value, what is allowed and what was meant; all
at once.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from gateway import config as configs
from gateway import limits
from gateway.config import Config
from gateway.errors import ConfigError
from gateway.sample import sample

KEYS = '[keys]\nmaster_key_file = "master.key"\n'
SERIAL = '[[serial]]\nname = "river-1"\npath = "/dev/ttyUSB0"\n'
MQTT = '[[mqtt]]\nname = "city"\nhost = "broker"\n'


def parse(text: str) -> Config:
    return configs.parse(text, "gateway.toml", Path("/etc/tidegate"))


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as info:
        parse(text)
    return info.value.problems


def told(text: str) -> list[str]:
    """Every problem of `text`, which may have none."""
    try:
        parse(text)
    except ConfigError as exc:
        return exc.problems
    return []


def test_the_least_config_is_a_master_key() -> None:
    config = parse(KEYS)
    assert config.keys.master_key_file == "/etc/tidegate/master.key"
    assert config.gateway.data_dir == "/etc/tidegate/data"
    assert (config.health.address, config.health.allow_remote) == ("127.0.0.1", False)
    assert (config.serial, config.mqtt) == ((), ())


def test_paths_count_from_the_folder_of_the_file_and_absolute_ones_stay() -> None:
    config = parse(KEYS + '[[serial]]\nname = "a"\npath = "ports/a"\n' + SERIAL)
    assert [port.path for port in config.serial] == ["/etc/tidegate/ports/a", "/dev/ttyUSB0"]


def test_nothing_of_a_loaded_config_can_be_changed() -> None:
    config = parse(KEYS)
    with pytest.raises(ValueError, match="frozen"):
        config.gateway.name = "other"  # type: ignore[misc]


def mistakes() -> list[tuple[str, str]]:
    """(what stands below KEYS, what must be told) of every case in config_mistakes.txt."""
    content = Path(__file__).with_name("config_mistakes.txt").read_text(encoding="utf-8")
    cases = []
    for block in content.split("\n\n")[1:]:
        text, _, told = block.strip("\n").rpartition("\n=> ")
        cases.append((text + "\n", told))
    return cases


@pytest.mark.parametrize(("text", "told"), mistakes())
def test_a_mistake_is_told_in_one_line(text: str, told: str) -> None:
    found = problems(KEYS + text)
    assert any(told in problem for problem in found), found
    assert all(problem.startswith("gateway.toml:") for problem in found)


def test_a_value_where_a_table_belongs_is_told_with_its_keys() -> None:
    assert problems("gateway = 3\n" + KEYS) == [
        (
            "gateway.toml:1: gateway = 3 is not allowed. Allowed is a table with the keys name, area, data_dir, "
            "trial_s, sender_id."
        )
    ]


def test_all_mistakes_of_a_file_are_told_at_once_in_the_order_of_its_lines() -> None:
    text = (
        KEYS
        + '[health]\nport = "1"\naddress = "0.0.0.0"\n[log]\nlevel = "loud"\n'
        + SERIAL
        + SERIAL
        + "[gatewy]\nx = 1\n"
    )
    found = problems(text)
    lines = [int(problem.split(":")[1]) for problem in found]
    assert lines == sorted(lines) == [4, 5, 7, 12, 13, 14]


def test_a_master_key_must_be_named_and_only_once() -> None:
    assert "keys.master_key_file: missing" in problems("")[0]
    both = '[keys]\nmaster_key_file = "a"\nmaster_key_credential = "b"\n'
    assert problems(both) == [
        (
            "gateway.toml:3: keys.master_key_credential: cannot stand beside keys.master_key_file: remove one of "
            "the two."
        )
    ]


def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    for key in ("password", "secret_key", "token"):
        found = problems(KEYS + MQTT + f'{key} = "hunter2"\n')
        assert "hunter2" not in "".join(found)
        assert f"mqtt[0].{key} = (hidden): unknown key" in found[0]


def test_a_key_in_the_wrong_place_is_not_repeated() -> None:
    key = "00112233445566778899aabbccddeeff" * 2
    for text in (f"{key}\n", f'[keys]\nmaster_key = "{key}"\n', KEYS + f'name = {{"secret": "{key}"\n'):
        found = "".join(problems(text))
        assert key[:16] not in found
        assert "(hidden)" in found


def test_a_remote_address_is_taken_when_it_is_asked_for_and_loopback_always() -> None:
    assert parse(KEYS + '[health]\naddress = "0.0.0.0"\nallow_remote = true\n').health.address == "0.0.0.0"
    for address in ("127.0.0.1", "127.9.9.9", "::1"):
        assert parse(KEYS + f'[health]\naddress = "{address}"\n').health.address == address


def test_too_many_ports_are_refused() -> None:
    ports = "".join(
        f'[[serial]]\nname = "p{index}"\npath = "/dev/p{index}"\n'
        for index in range(limits.SERIAL_PORTS_MAX + 1)
    )
    assert f"Allowed is at most {limits.SERIAL_PORTS_MAX} tables" in problems(KEYS + ports)[0]


# --- the file -----------------------------------------------------------------------------------


def test_broken_toml_is_told_with_line_column_and_text(tmp_path: Path) -> None:
    found = problems(KEYS + "[gateway]\nname = \n")
    assert len(found) == 1
    assert found[0].startswith("gateway.toml:4: not valid TOML, column ")
    assert "'name ='" in found[0]
    assert problems("a = 1\na = 2\n")[0].startswith("gateway.toml:2: not valid TOML")
    twice = problems(KEYS + '[gateway]\nname = "a"\nname = "b"\n')
    assert twice[0].startswith("gateway.toml:5: not valid TOML")
    assert not twice[0].endswith("..")


def test_a_broker_may_be_named_by_host_or_by_either_kind_of_address() -> None:
    for host in ("broker.example", "192.0.2.1", "::1", "fe80::1%eth0", "2001:db8::192.0.2.1"):
        text = f'{KEYS}[[mqtt]]\nname = "city"\nhost = "{host}"\n'
        assert parse(text).mqtt[0].host == host


def test_files_that_cannot_be_read_are_told_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    for content, told in (
        (None, "no such file. `tidegate gateway init"),
        (KEYS.encode() + b"# \xff\n", f"{file}:3: byte 0xff is not UTF-8"),
        (b"#" * (limits.CONFIG_BYTES_MAX + 1), "larger than"),
    ):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigError) as info:
            configs.load(file)
        assert told in str(info.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        configs.load(tmp_path)


def test_the_sample_is_valid_as_it_is_and_with_everything_uncommented() -> None:
    text = sample("master.key")
    assert parse(text) == parse(KEYS)
    shown = []
    for line in text.splitlines():
        bare = line.removeprefix("# ").removeprefix("# ")
        is_setting = bare.startswith("[") or (" = " in bare and '= ""' not in bare)
        shown.append(bare if is_setting else line)
    config = parse("\n".join(shown))
    assert (config.serial[0].baud, config.mqtt[0].host) == (115200, "broker.example")


@given(st.text(max_size=300))
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    assert all(problem.startswith("gateway.toml:") for problem in told(text))


values = st.one_of(
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=3),
)
tables = st.dictionaries(
    st.sampled_from(["name", "path", "baud", "port", "host", "topic", "tls", "address", "level", "other"]),
    values,
    max_size=5,
)


@given(
    st.dictionaries(
        st.sampled_from([*Config.model_fields, "other"]),
        st.one_of(values, tables, st.lists(tables, max_size=3)),
        max_size=5,
    )
)
def test_no_shape_of_tables_makes_the_parser_fail_otherwise(document: dict[str, object]) -> None:
    assert all(problem.startswith("gateway.toml:") for problem in told(tomlkit.dumps(document)))
