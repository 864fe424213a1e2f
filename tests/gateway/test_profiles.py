"""Profiles of devices: every shipped one is in order, and every mistake is told with file:line and a way out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import config as configs
from gateway import limits, profile_library
from gateway.config import Config
from gateway.devices import quantities
from gateway.errors import ConfigError
from gateway.profile_library import SHIPPED, Library
from tests.gateway.mistakes import mistakes

KEYS = '[keys]\nmaster_key_file = "master.key"\n'
HEAD = 'title = "t"\nvendor = "v"\nmodel = "m"\nsources = ["s"]\nchecked = "c"\n'
POINT = '[[modbus.point]]\nmeasurand = "ph"\nunit = "[pH]"\nfunction = "holding"\naddress = 0\ntype = "u16"\n'


def config_of(text: str, base: Path = Path("/etc/tidegate")) -> Config:
    return configs.parse(KEYS + text, "gateway.toml", base)


@pytest.mark.parametrize("name", Library().names())
def test_a_shipped_profile_is_in_order_and_says_what_it_was_checked_against(name: str) -> None:
    profile = Library().get(name)
    assert profile.sources
    assert len(profile.checked) > 40
    assert quantities(profile).keys() == {point.key for point in profile.points}


def test_what_the_street_has_is_shipped() -> None:
    names = set(Library().names())
    assert len(names) >= 12
    assert {
        "yosemitech_y4000", "yosemitech_y511", "geolux_lx80", "sonbest_xm9505", "eastron_sdm630", "imp_nmtc",
        "honeywell_midas", "sonbest_sm7901", "waveshare_ai8", "shelly_blu_ht", "environmental_sensing", "ruuvitag",
    } <= names  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), mistakes("profile_mistakes.txt"))
def test_a_mistake_in_a_profile_is_told_with_its_line_and_a_way_out(text: str, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as info:
        profile_library.parse((HEAD + text).encode(), "mine.toml")
    for one in expected:
        assert any(one in line for line in info.value.problems), "\n".join([one, *info.value.problems])
    assert all(line.startswith("mine.toml:") for line in info.value.problems)


@pytest.mark.parametrize(("text", "expected"), mistakes("device_mistakes.txt"))
def test_a_mistake_in_the_tables_of_devices_is_told(text: str, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as info:
        config_of(text)
    for one in expected:
        assert any(one in line for line in info.value.problems), "\n".join([one, *info.value.problems])


def test_each_piece_of_the_files_of_mistakes_is_tried() -> None:
    assert len(mistakes("profile_mistakes.txt")) > 140
    assert len(mistakes("device_mistakes.txt")) > 80


BUS = '[[modbus]]\nname = "bus"\npath = "/dev/ttyUSB0"\n'
DEVICE = '[[device]]\nname = "probe"\nprofile = "mine"\nmodbus = "bus"\nunit = 1\n'


def test_a_contributor_adds_a_device_without_touching_python(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(HEAD + POINT)
    config = config_of(BUS + DEVICE + f'[devices]\nprofiles = "{tmp_path}"\n')
    assert config.profiles["mine"].points[0].key == "ph"


def test_a_profile_of_the_user_goes_before_ours_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "eastron_sdm630.toml").write_text(HEAD + POINT)
    assert Library(tmp_path).get("eastron_sdm630").vendor == "v"
    assert Library().get("eastron_sdm630").vendor == "Eastron"


def test_a_mistake_in_a_folder_of_profiles_is_told_with_that_file_s_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(HEAD + POINT.replace("u16", "u17"))
    (tmp_path / "unused.toml").write_text("title = ")
    with pytest.raises(ConfigError) as info:
        config_of(BUS + DEVICE + f'[devices]\nprofiles = "{tmp_path}"\n')
    told = info.value.problems
    assert any(line.startswith(f"{file}:11: modbus.point[0].type") for line in told), told
    assert any(line.startswith(f"{tmp_path}/unused.toml:1: not valid TOML") for line in told), told


@pytest.mark.parametrize(
    "data",
    [b"\xff\xfe", b"a = 1\na = 2", b"[" * 3000, b"x" * (1 << 18), b"", b"[modbus]\npoint = 1", b"modbus = 3"],
)
def test_no_file_is_more_than_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "mine.toml").write_bytes(data)
    with pytest.raises(ConfigError):
        Library(tmp_path).get("mine")


def test_addresses_count_from_the_base_that_the_profile_says() -> None:
    one = profile_library.parse(
        (HEAD + "[modbus]\nbase = 1\n" + POINT.replace("= 0", "= 1")).encode(), "a"
    ).modbus
    zero = profile_library.parse((HEAD + POINT).encode(), "b").modbus
    assert one is not None
    assert zero is not None
    assert one.wire_address(one.point[0]) == zero.wire_address(zero.point[0]) == 0


def test_every_shipped_profile_is_found_in_one_folder() -> None:
    assert {file.stem for file in SHIPPED.glob("*.toml")} == set(Library().names())


def _told(folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as info:
        config_of(BUS + DEVICE + f'[devices]\nprofiles = "{folder}"\n')
    return info.value.problems


def _zero(file: Path) -> None:
    file.symlink_to("/dev/zero")


def _loop(file: Path) -> None:
    file.symlink_to(file.name)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (Path.mkdir, "Is a directory"),
        (os.mkfifo, "no file with text in it"),
        (_zero, "no file with text in it"),
        (_loop, "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_file_is_told_at_once(tmp_path: Path, make: Callable[[Path], None], what: str) -> None:
    make(tmp_path / "mine.toml")
    assert any(line.startswith(f"{tmp_path}/mine.toml: ") and what in line for line in _told(tmp_path))


@pytest.mark.parametrize(
    ("name", "meant"), [("My Meter.toml", "my-meter"), ("Mine.TOML", "mine"), ("a.b.toml", "a-b")]
)
def test_a_profile_that_no_device_can_name_is_told(tmp_path: Path, name: str, meant: str) -> None:
    (tmp_path / name).write_text(HEAD + POINT)
    assert any(name in line and f"{meant}.toml, say" in line for line in _told(tmp_path))


def test_a_folder_with_thousands_of_profiles_is_another_one(tmp_path: Path) -> None:
    for number in range(limits.PROFILES_MAX + 1):
        (tmp_path / f"n{number}.toml").touch()
    assert any("1001 profiles are more than 1000" in line for line in _told(tmp_path))


def test_a_byte_order_mark_is_no_mistake() -> None:
    assert profile_library.parse(b"\xef\xbb\xbf" + (HEAD + POINT).encode(), "p").title


def test_a_number_of_thousands_of_digits_is_told() -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        profile_library.parse((HEAD + POINT + f"scale = {'9' * 5000}\n").encode(), "p")


def test_what_was_pasted_into_a_key_reaches_no_terminal() -> None:
    with pytest.raises(ConfigError) as info:
        profile_library.parse((HEAD + '"\\u001b[31m\\u202e" = 3\n' + POINT).encode(), "p")
    assert all(line.isprintable() for line in info.value.problems)


def test_points_that_all_overlap_are_told_once_each() -> None:
    many = "".join(POINT + f'name = "n{number}"\n' for number in range(256))
    with pytest.raises(ConfigError) as info:
        profile_library.parse((HEAD + many).encode(), "p")
    assert len(info.value.problems) == 255
