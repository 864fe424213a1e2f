"""`tidegate inspect`: from arguments, files and pipes; the exit code says whether all was good."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

import tidegate
from tests.northbound import test_hj212, test_sl651

GOOD = test_sl651.EXACT[2]
BAD = GOOD[:-2] + GOOD[:-3:-1]
HJ = test_hj212.EXACT[1].decode().strip()


def run(*args: str, stdin: bytes | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(tidegate.app, ["inspect", *args], input=stdin)
    return result.exit_code, result.output


def test_a_frame_on_the_command_line() -> None:
    code, told = run("sl651", GOOD.hex(" ").upper())
    assert code == 0
    assert "39 Z" in told
    assert told.rstrip().endswith("This is a good frame of SL 651-2014.")
    code, told = run("hj212", HJ)
    assert (code, "数据应答" in told) == (0, True)
    code, told = run("hj212", HJ + "\\r\\n")
    assert code == 0


def test_a_bad_frame_ends_with_1_and_the_reason() -> None:
    code, told = run("sl651", BAD.hex())
    assert code == 1
    assert "WRONG: check sum 21A4 found, A421 expected: the low byte comes first" in told
    code, told = run("hj212", HJ.replace("3240", "3241"))
    assert (code, "3240 expected" in told) == (1, True)


def test_files_and_pipes(tmp_path: Path) -> None:
    several = f"# a log\n{GOOD.hex()}\n\n0x{BAD.hex(':')}\n"
    (tmp_path / "frames").write_text(several)
    code, told = run("sl651", str(tmp_path / "frames"))
    assert code == 1
    assert told.rstrip().endswith("2 frames, 1 with something wrong.")
    assert run("sl651", "-", stdin=several.encode()) == (code, told)
    assert run("sl651", "-", stdin=GOOD)[0] == 0, "the bytes themselves"
    assert run("hj212", "-", stdin=b"".join(test_hj212.EXACT))[0] == 0


def test_a_frame_longer_than_any_name_of_a_file_is_a_frame() -> None:
    long = GOOD.hex() + "00" * 2000
    assert run("sl651", long)[1].count("WRONG: ") >= 1
    assert run("frame", "0a012c0012" + "ab" * 400)[0] == 0


def test_json_for_programs() -> None:
    code, text = run("sl651", "--json", GOOD.hex(), BAD.hex())
    said = json.loads(text)
    assert (code, said["good"]) == (1, False)
    assert [frame["good"] for frame in said["frames"]] == [True, False]
    fields = {line["field"]: line["value"] for line in said["frames"][0]["fields"]}
    assert fields["39 Z"] == "10.490 m"


def test_what_is_no_frame_at_all_is_told() -> None:
    for args, told in (
        (("sl651", "7E7"), "3 hexadecimal digits"),
        (("sl651", "no-such-file"), "neither hexadecimal digits"),
        (("hj212", "-"), "no frame in it"),
    ):
        code, text = run(*args, stdin=b"")
        assert code == 1
        assert told in text


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    text = HJ.replace("CP=&&&&", "CP=&&Info=\x1b[2J&&")
    assert "\x1b[2J" not in run("hj212", text)[1]
