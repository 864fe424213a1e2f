"""Real records played as water: the cells of the file, at the right time, and errors that name the line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from hil_tests.world.records import Record, RecordError

TEXT = """datetime,temp,temp_cor,temp_qual,cond,cond_cor,cond_qual,do,do_cor,do_qual,stage
2019-01-01 00:00,1.23,1.20,NULL,442.7,442.7,NULL,13.45,11.45,10,59.39
2019-01-01 00:15:00.000,1.19,NULL,NULL,-9999,442.8,NULL,,11.47,10,59.31
2019-01-01 00:30,1.10,1.10,NULL,443.0,443.0,NULL,NULL,11.50,10,-9999
"""
FIRST = {"water_temperature": 1.23, "conductivity": 442.7, "dissolved_oxygen": 13.45, "level": 59.39}


def _file(folder: Path, text: str = TEXT) -> Path:
    path = folder / "river.csv"
    path.write_text(text)
    return path


def test_a_sample_holds_until_the_next_one_and_missing_cells_are_absent(tmp_path: Path) -> None:
    record = Record(_file(tmp_path), start_s=1000.0)
    assert record.quantities(1000) == record.quantities(1899) == FIRST
    assert record.quantities(1900) == {"water_temperature": 1.19, "level": 59.31}
    assert record.quantities(2800) == {"water_temperature": 1.10, "conductivity": 443.0}


def test_plain_and_gzipped_files_are_the_same_record(tmp_path: Path) -> None:
    packed = tmp_path / "river.csv.gz"
    packed.write_bytes(gzip.compress(TEXT.encode()))
    times_s = [450.0 * n for n in range(8)]
    zipped, plain = Record(packed), Record(_file(tmp_path))
    assert [zipped.quantities(t_s) for t_s in times_s] == [plain.quantities(t_s) for t_s in times_s]


def test_speed_start_and_skip_move_through_the_record(tmp_path: Path) -> None:
    record = Record(_file(tmp_path), start_s=50.0, speed=900.0)
    assert record.quantities(51.0)["water_temperature"] == 1.19
    skipped = Record(_file(tmp_path), start_s=50.0, skip_s=1800.0)
    assert skipped.quantities(50.0)["water_temperature"] == 1.10


def test_the_record_starts_again_at_its_end_unless_told_not_to(tmp_path: Path) -> None:
    assert Record(_file(tmp_path)).quantities(2700) == FIRST
    once = Record(_file(tmp_path), loop=False)
    assert once.quantities(1800 + 3599) != {}
    assert once.quantities(1800 + 3600) == {}, "an hour after its last sample there is no water to show"


def test_the_corrected_values_are_the_technicians(tmp_path: Path) -> None:
    record = Record(_file(tmp_path), corrected=True)
    assert record.quantities(0) == {
        "water_temperature": 1.20,
        "conductivity": 442.7,
        "dissolved_oxygen": 11.45,
    }
    assert "water_temperature" not in record.quantities(900)


def test_a_repeated_time_keeps_the_first_sample(tmp_path: Path) -> None:
    text = TEXT + "2019-01-01 00:15,9.99,,,,,,,,,\n2019-01-01 00:45,1.05,,,,,,,,,\n"
    record = Record(_file(tmp_path, text))
    assert record.quantities(900)["water_temperature"] == 1.19
    assert record.quantities(2700) == {"water_temperature": 1.05}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"river\.csv:1: no column `datetime`; found nothing"),
        ("time,temp\n", r"river\.csv:1: no column `datetime`; found time, temp"),
        ("datetime,colour\n", r"river\.csv:1: none of the columns temp, cond"),
        ("datetime,temp\n", r"river\.csv: no samples"),
        ("datetime,temp\n2019-01-01 00:00,1.2\nyesterday,1.3\n", r"river\.csv:3: time 'yesterday'"),
        ("datetime,temp\n2019-01-01 00:00,warm\n", r"river\.csv:2: 'warm' is not a number"),
        ("datetime,ph,temp\n2019-01-01 00:00,7\n", r"river\.csv:2: 2 cells, fewer than the header"),
    ],
)
def test_a_file_that_is_no_record_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        Record(_file(tmp_path, text))


def test_a_missing_or_torn_file_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="No such file"):
        Record(tmp_path / "nothing.csv")
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(gzip.compress(TEXT.encode())[:-20])
    with pytest.raises(RecordError, match="can not be read"):
        Record(torn)
