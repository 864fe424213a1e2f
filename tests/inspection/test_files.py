"""What is told of images, tables, programs and outboxes; what is damaged in them is named; no key is ever told."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tidegate
from boards.virtual import board
from firmware.reports import FIRMWARE
from flash_tools import inspect_image, inspect_manifest, inspect_program
from flash_tools.images import build_state_image, compile_module
from flash_tools.mint import ROOT
from protocols.northbound.told import Told
from tests.inspection import files
from tests.inspection.test_own_bytes import cases


def typed(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(tidegate.app, ["inspect", *words])
    return result.exit_code, result.output


def value(told: Told, field: str) -> str:
    return next(line.value for line in told.lines if line.field == field)


def test_a_file_by_itself_is_asked_what_it_may_be(tmp_path: Path) -> None:
    image, _, _ = files.minted(tmp_path / "minted")
    path = tmp_path / "state.img"
    path.write_bytes(image)
    assert typed(str(path)) == typed("what", str(path))
    assert "tidegate inspect image" in typed(str(path))[1]


def test_a_file_of_a_key_with_a_slip_in_it_is_told_by_its_line_and_not_shown(tmp_path: Path) -> None:
    digits = bytes(range(0x10, 0x30)).hex()
    for slip in (digits[:-1], "!" + digits):
        path = tmp_path / "bench.key"
        path.write_text(f"# a key\n{slip}\n")
        for word in ("what", "frame", "message", "lora"):
            result = CliRunner().invoke(tidegate.app, ["inspect", word, str(path)])
            assert result.exit_code == 1
            assert f"{path}:2 " in result.output or f"{path}:2\n" in result.output
            assert digits[:8] not in result.output


def test_a_state_image_says_whose_it_is_and_never_its_key(tmp_path: Path) -> None:
    image, secret, salt = files.minted(tmp_path / "minted")
    (tmp_path / "state.img").write_bytes(image)
    for words in (["image"], ["image", "--json"], ["outbox"], ["outbox", "--records"], ["what"]):
        _, said = typed(*words, str(tmp_path / "state.img"))
        for key in (secret, salt):
            plain = bytes.fromhex(key)
            assert key not in said.lower().replace(" ", "")
            assert base64.b64encode(plain).decode() not in said
    code, said = typed("image", str(tmp_path / "state.img"))
    assert code == 0
    assert "node 0042" in said
    assert "river on virtual, area 330110001001" in said
    assert "interval_s=60" in said


def test_an_app_image_says_its_version_and_what_micropython_it_needs() -> None:
    source = (ROOT / "firmware/reports.py").read_text()
    path = "/a/firmware/reports.mpy"
    image = build_state_image(
        {path: compile_module(source, "firmware.reports"), "/a/main.py": b"from firmware import main\n"}
    )
    (told,) = inspect_image.tell(image, "app.img")
    assert value(told, "firmware") == FIRMWARE
    assert value(told, ".mpy") == "version 6, small integers of 31 bits"
    assert value(told, "littlefs") == f"{board.PARTITIONS['state'][1] // 4096} blocks of 4096"
    assert path in {line.field for line in told.lines}
    assert told.problems == []


def test_damage_to_a_file_system_is_named_and_the_rest_is_told(tmp_path: Path) -> None:
    image = bytearray(files.outbox_image())
    (told,) = inspect_image.tell(bytes(image[:-100]), "cut")
    assert "behind the last whole block" in told.problems[0]
    spoilt = bytearray(image)
    spoilt[:8192] = b"\xff" * 8192
    (told,) = inspect_image.tell(bytes(spoilt), "blank")
    assert "neither littlefs" in told.problems[0]
    spoilt[8:16] = b"littlefs"
    (told,) = inspect_image.tell(bytes(spoilt), "torn")
    assert told.problems
    (told,) = inspect_image.tell(b"\xff" * 4096, "erased")
    assert "erased flash" in told.problems[0]


def test_an_outbox_is_told_as_the_node_that_wrote_it_knows_it(tmp_path: Path) -> None:
    (tmp_path / "state.img").write_bytes(files.outbox_image(sets=30, acked=20))
    code, said = typed("outbox", str(tmp_path / "state.img"), "--json", "--records")
    things = json.loads(said)["things"]
    assert code == 0
    summary = {line["field"]: (line["value"], line["meaning"]) for line in things[0]["fields"]}
    # Of seqs 1 to 33 every eleventh is an event; what is acknowledged is known up to seq 20.
    assert summary["readings"] == ("30 records", "11 not acknowledged")
    assert summary["events"] == ("3 records", "2 not acknowledged")
    seqs = sorted(
        int(line["value"]) for thing in things for line in thing["fields"] if line["field"] == "seq"
    )
    assert seqs == list(range(1, 34))
    waiting = [
        int(line["value"]) for thing in things for line in thing["fields"]
        if line["field"] == "seq" and line["meaning"] == "waiting"
    ]  # fmt: skip
    assert sorted(waiting) == list(range(21, 34))


def test_a_spoilt_segment_is_named_and_costs_only_what_was_hit(tmp_path: Path) -> None:
    found, _ = inspect_image.read_littlefs(files.outbox_image())
    path, content = next((path, data) for path, data in found.items() if path.startswith("/outbox/r"))
    spoilt = bytearray(content)
    spoilt[300] ^= 1
    name = path.rsplit("/", 1)[1]
    summary, segment = inspect_image.tell_outbox(bytes(spoilt), name, False)
    assert value(segment, "records") == "29"
    assert any("are no record" in problem for problem in segment.problems)
    assert "1 damaged" in next(line.meaning for line in summary.lines if line.field == "segments")
    spoilt = bytearray(content)
    spoilt[3] ^= 1
    _, segment = inspect_image.tell_outbox(bytes(spoilt), name, False)
    assert "the CRC of its header" in segment.problems[0]
    _, segment = inspect_image.tell_outbox(content, "r000000ff", False)
    assert segment.problems == ["its header says that it is r00000001"]
    _, segment = inspect_image.tell_outbox(b"", name, False)
    assert "a power cut leaves behind" in segment.notes[0]


def test_a_table_is_told_and_each_mistake_in_it_named() -> None:
    told = inspect_program.tell_table(files.TABLE, "table")
    assert told.problems == []
    assert value(told, "state") == "0x300000 +0x080000"
    changed = bytearray(files.TABLE)
    changed[8] ^= 1
    assert "MD5" in " ".join(inspect_program.tell_table(bytes(changed), "table").problems)
    bad = files.table(
        ("a", 0, 0, 0x11000, 0x2000), ("a", 1, 0x81, 0x12000, 0x800), ("b", 1, 0x81, 0x20000, 0)
    )
    said = " ".join(inspect_program.tell_table(bad, "table").problems)
    for mistake in ("overlaps a", "multiple of 0x10000", "whole sectors", "'a' stands there more than once"):
        assert mistake in said


def test_a_program_is_told_and_each_mistake_in_it_named() -> None:
    good = files.program(chip=9)
    told = inspect_program.tell_program(good, "firmware")
    assert told.problems == []
    assert value(told, "chip") == "ESP32-S3"
    spoilt = bytearray(good)
    spoilt[60] ^= 1
    said = inspect_program.tell_program(bytes(spoilt), "firmware").problems
    assert said[0].startswith("checksum")
    assert said[1].startswith("SHA-256")
    assert "it is cut" in inspect_program.tell_program(good[:80], "firmware").problems[0]
    assert "chip id 7" in inspect_program.tell_program(files.program(chip=7), "firmware").problems[0]


def test_a_whole_flash_is_told_part_by_part(tmp_path: Path) -> None:
    flash = bytearray(b"\xff" * 0x400000)
    for at, data in ((0x1000, files.program()), (0x8000, files.TABLE), (0x10000, files.program())):
        flash[at : at + len(data)] = data
    state = files.minted(tmp_path / "minted")[0]
    flash[0x300000 : 0x300000 + len(state)] = state
    (tmp_path / "flash.bin").write_bytes(flash)
    code, said = typed("image", str(tmp_path / "flash.bin"))
    assert code == 0, said
    for part in ("bootloader", "partition table", "factory", "state"):
        assert f"flash.bin: {part}" in said
    assert "node 0042" in said


@pytest.mark.parametrize(
    "case", [c for c in cases("updates") if c["check"] == "manifest"], ids=lambda c: str(c["name"])
)
def test_an_envelope_of_an_update_is_told_and_what_every_node_would_refuse(case: dict[str, Any]) -> None:
    """Of the golden cases: what depends on the node or its keys is not a mistake of the envelope."""
    told = inspect_manifest.tell(bytes.fromhex(case["envelope"]))
    of_the_node = {"downgrade", "vendor", "class", "unknown-key", "revoked-key", "signature"}
    if case.get("reason") in of_the_node or "reason" not in case:
        assert told.problems == []
        assert value(told, "sequence").isdecimal()
    elif case["reason"] != "oversize":  # by what a node has room for
        assert told.problems[0].startswith(case["reason"])


def test_an_envelope_in_a_file_or_in_digits(tmp_path: Path) -> None:
    case = cases("updates")[0]
    (tmp_path / "release.suit").write_bytes(bytes.fromhex(case["envelope"]))
    code, said = typed("manifest", str(tmp_path / "release.suit"))
    assert (code, "the template is right" in said) == (0, True)
    assert typed("manifest", case["envelope"]) == (code, said)
    assert typed("what", case["envelope"])[1].count("tidegate inspect manifest") == 1
    assert typed("manifest", case["envelope"][:-2])[0] == 1
    assert typed("manifest", "zz")[0] == 1


@pytest.mark.parametrize("words", [["image", "nowhere.img"], ["outbox", "."], ["image", "-"]])
def test_what_can_not_be_read_is_said_in_a_sentence(words: list[str]) -> None:
    code, said = typed(*words)
    assert code == 1
    assert said.startswith("tidegate: ")
