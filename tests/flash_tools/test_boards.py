"""Every board file is complete and possible: pins are the chip's, partitions fit, images build, sources are named."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flash_tools.images import SLOT, board_constants, compile_tree
from flash_tools.needs import asked_for, missing
from flash_tools.node_types import boards, modules
from flash_tools.partitions import FIRMWARE_END, csv, table

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
BOARDS = boards(ROOT)
NODE_TYPES = sorted(modules(ROOT))
REAL = [name for name in BOARDS if name != "virtual"]

Optional = (int, type(None))
REQUIRED: dict[str, Any] = {
    "NAME": str,
    "CHIP": str,
    "MICROPYTHON_BUILD": str,
    "MICROPYTHON_MIN": tuple,
    "BLOCK_SIZE": int,
    "FLASH_SIZE": int,
    "PARTITIONS": dict,
    "APP_LABEL": str,
    "SPARE_MICROPYTHON": (tuple, type(None)),
    "CONSOLE": str,
    "CONSOLE_BAUD": int,
    "RS485_UART": int,
    "RS485_TX_PIN": int,
    "RS485_RX_PIN": int,
    "RS485_DE_PIN": type(None),  # the hal drives no direction: the transceiver must do it by itself
    "ULTRASONIC_UART": Optional,
    "ULTRASONIC_TX_PIN": Optional,
    "ULTRASONIC_RX_PIN": Optional,
    "SENSORS_I2C": int,
    "SENSORS_SCL_PIN": int,
    "SENSORS_SDA_PIN": int,
    "SENSORS_POWER_PIN": Optional,
    "SENSORS_POWER_ON": int,
    "INPUT_PINS": dict,
    "LOOP_ADC_PIN": int,
    "LOOP_SHUNT_OHM": int,
    "SUPPLY_ADC_PIN": int,
    "SUPPLY_DIVIDER_MILLI": int,
    "SUPPLY_SWITCH_PIN": Optional,
    "SUPPLY_SWITCH_ON": int,
    "WAKE_PINS": tuple,
    "LED_PIN": Optional,
    "LED_ON": int,
    "RADIO_CHIP": (str, type(None)),
    "STRAPPING": dict,
    "UNCONFIRMED": tuple,
    "ACTIVE_MA": int,
    "DEEP_SLEEP_UA": Optional,
}
REQUIRED_OF_A_RADIO: dict[str, Any] = {
    "RADIO_SPI": int,
    "RADIO_SCK_PIN": int,
    "RADIO_MOSI_PIN": int,
    "RADIO_MISO_PIN": int,
    "RADIO_NSS_PIN": int,
    "RADIO_RST_PIN": int,
    "RADIO_BUSY_PIN": int,
    "RADIO_DIO1_PIN": int,
    "RADIO_RXEN_PIN": Optional,
    "RADIO_TCXO_MV": Optional,  # None: a crystal
    "RADIO_DIO2_RF_SWITCH": bool,
    "RADIO_TX_DBM_MAX": int,
    "RADIO_TX_MA": int,
    "RADIO_RX_MA": int,
    "RADIO_SLEEP_UA": int,
}
CURRENTS_OF_A_RADIO = (
    "RADIO_TX_MA",
    "RADIO_RX_MA",
    "RADIO_SLEEP_UA",
)  # the virtual board has them without a radio


class Chip:
    """Espressif's datasheets. ``taken``: by flash and PSRAM in the package or module, and by the console's UART."""

    def __init__(
        self,
        pins: set[int],
        rtc: set[int],
        strapping: set[int],
        taken: set[int],
        inputs: set[int],
        adc: set[int],
    ) -> None:
        self.pins, self.rtc, self.strapping = pins, rtc, strapping
        self.taken, self.inputs, self.adc = taken, inputs, adc


ESP32 = Chip(
    pins={*range(20), 21, 22, 23, 25, 26, 27, *range(32, 40)},
    rtc={0, 2, 4, 12, 13, 14, 15, 25, 26, 27, *range(32, 40)},
    strapping={0, 2, 5, 12, 15},
    taken={1, 3, *range(6, 12)},
    inputs={34, 35, 36, 37, 38, 39},
    adc={*range(32, 40)},
)
CHIPS = {
    "virtual": ESP32,
    "esp32": ESP32,
    "esp32s3": Chip(
        pins={*range(22), *range(26, 49)},
        rtc={*range(22)},
        strapping={0, 3, 45, 46},
        taken={*range(26, 33)},
        inputs=set(),
        adc={*range(1, 21)},
    ),
    "esp32c3": Chip(
        pins={*range(22)},
        rtc={*range(6)},
        strapping={2, 8, 9},
        taken={*range(11, 18), 20, 21},
        inputs=set(),
        adc={*range(5)},
    ),
    "esp32c6": Chip(
        pins={*range(24)},
        rtc={*range(8)},
        strapping={4, 5, 8, 9, 15},
        taken={14, 16, 17},
        inputs=set(),
        adc={*range(7)},
    ),
}
DRIVEN = tuple(
    f"{name}_PIN"
    for name in ("TX", "SCL", "SDA", "POWER", "SWITCH", "LED", "SCK", "MOSI", "NSS", "RST", "RXEN")
)
# Pins of UART0, which a console behind a bridge takes.
UART0 = {"esp32": {1, 3}, "esp32s3": {43, 44}, "esp32c3": {20, 21}, "esp32c6": {16, 17}}


def pins_of(board: ModuleType) -> dict[str, int]:
    """Every pin that a board file names, by the name it has there."""
    found = {
        name: value for name, value in vars(board).items() if name.endswith("_PIN") and value is not None
    }
    return {**found, **{f"INPUT_PINS {name}": pin for name, pin in board.INPUT_PINS.items()}}


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> ModuleType:
    return board_constants(request.param)


@pytest.fixture
def chip(board: ModuleType) -> Chip:
    return CHIPS[board.CHIP]


def test_the_six_boards_and_the_virtual_one_are_there() -> None:
    assert BOARDS == [
        "esp32_devkitc_sx1262",
        "esp32c3_devkitm",
        "esp32c6_devkitc",
        "heltec_wifi_lora_32_v3",
        "lilygo_t3s3_sx1262",
        "virtual",
        "xiao_esp32s3_wio_sx1262",
    ]


def test_everything_is_stated_and_of_its_type(board: ModuleType) -> None:
    wanted = dict(REQUIRED)
    if board.RADIO_CHIP is not None:
        wanted |= REQUIRED_OF_A_RADIO
    for name, kind in wanted.items():
        assert isinstance(getattr(board, name, "missing"), kind), name
    stated = {name for name in vars(board) if name.isupper()}
    assert stated - set(wanted) - set(CURRENTS_OF_A_RADIO) == set(), "a constant that nothing asks for"
    assert board.__name__ == f"boards.{board.NAME}.board"


def test_no_pin_serves_twice(board: ModuleType) -> None:
    pins = pins_of(board)
    twice = {name: pin for name, pin in pins.items() if list(pins.values()).count(pin) > 1}
    assert twice == {}


def test_pins_are_the_chips_and_free_and_can_do_what_they_do(board: ModuleType, chip: Chip) -> None:
    taken = chip.taken | (UART0[board.CHIP] if board.CONSOLE == "uart0" else set())
    for name, pin in pins_of(board).items():
        assert pin in chip.pins - taken, name
        assert not (name.endswith(DRIVEN) and pin in chip.inputs), f"{name}: an input cannot be driven"
    assert {board.LOOP_ADC_PIN, board.SUPPLY_ADC_PIN} <= chip.adc


def test_inputs_that_are_read_with_a_pull_have_one(board: ModuleType, chip: Chip) -> None:
    assert not set(board.INPUT_PINS.values()) & chip.inputs


def test_what_may_end_a_deep_sleep_can(board: ModuleType, chip: Chip) -> None:
    assert set(board.WAKE_PINS) <= chip.rtc
    assert {board.INPUT_PINS["motion"], board.INPUT_PINS["float"]} <= set(board.WAKE_PINS)


def test_a_strapping_pin_is_used_for_a_reason(board: ModuleType, chip: Chip) -> None:
    assert set(board.STRAPPING) == chip.strapping & set(pins_of(board).values())
    assert all(len(reason) > 20 for reason in board.STRAPPING.values())


def test_partitions_fit_the_flash_behind_micropython(board: ModuleType) -> None:
    assert set(board.PARTITIONS) == {"app", "state"}
    rows = table(board)
    assert rows[-1].offset + rows[-1].size <= board.FLASH_SIZE
    for before, after in itertools.pairwise(rows):
        assert before.offset + before.size <= after.offset, (before, after)
    for label, (offset, size) in board.PARTITIONS.items():
        assert offset % board.BLOCK_SIZE == size % board.BLOCK_SIZE == 0, label
        assert FIRMWARE_END <= offset < offset + size <= board.FLASH_SIZE, label


@pytest.mark.parametrize("name", REAL)
def test_the_partition_table_mounts_our_image_as_micropythons_file_system(name: str) -> None:
    text = csv(board_constants(name))
    if board_constants(name).SPARE_MICROPYTHON is None:
        assert "factory, app, factory, 0x10000, 0x1f0000" in text
        assert board_constants(name).FLASH_SIZE == 4 << 20
    else:  # as MicroPython's own tables for updates begin, with the places where flash is free
        assert "nvs, data, nvs, 0x9000, 0x4000\notadata, data, ota, 0xd000, 0x2000" in text
        assert "ota_0, app, ota_0, 0x10000, 0x1f0000" in text
        assert "ota_1, app, ota_1, 0x400000, 0x1f0000" in text
    assert "vfs, data, fat, 0x200000, 0x180000" in text
    assert "state, data, fat, 0x380000, 0x80000" in text


def test_micropython_is_new_enough_for_what_the_chip_needs(board: ModuleType) -> None:
    assert board.MICROPYTHON_MIN >= (1, 25, 0)
    if board.CHIP == "esp32c3":
        assert board.MICROPYTHON_MIN >= (1, 27, 0), "the first with esp32.wake_on_gpio"
    if board.CHIP == "esp32c6":
        assert board.MICROPYTHON_MIN >= (1, 28, 0), "the first that knows which of its pins can wake it"


@pytest.mark.parametrize("name", REAL)
def test_every_fact_has_a_source_and_what_has_none_says_so(name: str) -> None:
    text = (ROOT / "boards" / name / "board.py").read_text(encoding="utf-8")
    head, _, body = text.partition('"""\n')
    sources = set(re.findall(r"^  \[(\w+)\]", head, re.MULTILINE))
    comments = "\n".join(line for line in body.splitlines() if line.startswith("#"))
    cited = {tag for tags in re.findall(r"\[([a-z0-9, ]+)\]", comments) for tag in tags.split(", ")}
    assert sources == cited, "named at the head and cited below"
    constants = board_constants(name)
    for unconfirmed in constants.UNCONFIRMED:
        assert hasattr(constants, unconfirmed)
    assert constants.DEEP_SLEEP_UA is not None or "DEEP_SLEEP_UA" in constants.UNCONFIRMED


def check_build(name: str, node_type: str) -> None:
    files = compile_tree(ROOT, name, node_type)
    assert f"{SLOT}/boards/{name}/board.mpy" in files
    assert sum(map(len, files.values())) < 0.4 * board_constants(name).PARTITIONS["app"][1], (
        "room for two slots"
    )
    for path, content in files.items():
        if path.endswith(".mpy"):
            # Version 6 without native code, so for every chip; small integers of 31 bits.
            assert content[:4] == b"M\x06\x00\x1f", path


@pytest.mark.parametrize("node_type", NODE_TYPES)
def test_every_node_type_builds_for_a_board_and_what_the_board_lacks_for_it_is_told(node_type: str) -> None:
    """A board for each type in turn; test_images.py builds all types together for each board."""
    name = REAL[NODE_TYPES.index(node_type) % len(REAL)]
    check_build(name, node_type)
    asked = asked_for(ROOT, name, node_type)
    assert asked, "a node without a sensor?"
    assert len(missing(ROOT, name, node_type)) <= len(asked)


def test_a_lift_monitor_on_a_board_with_too_few_pins_is_told_which() -> None:
    assert missing(ROOT, "xiao_esp32s3_wio_sx1262", "lift") == [
        f"board xiao_esp32s3_wio_sx1262 has no {name} for hal.read_pin(), which firmware/lift_watch.py may ask for"
        for name in ("door", "presence")
    ]


@pytest.mark.soak
@pytest.mark.parametrize("node_type", NODE_TYPES)
@pytest.mark.parametrize("name", BOARDS)
def test_every_node_type_builds_for_every_board(name: str, node_type: str) -> None:
    check_build(name, node_type)
    lacking = missing(ROOT, name, node_type)
    print(f"board={name} node_type={node_type} lacking={len(lacking)}")
    assert lacking == [] or name not in ("virtual", "esp32_devkitc_sx1262"), "these two have everything"
