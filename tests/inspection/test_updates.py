"""What of updates a maintainer may be sent as a file is recognised and told: written here by the node's own code."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

import tidegate
from firmware import pending, pieces, slots
from firmware.durable import Document
from flash_tools import inspect_image, release_show
from flash_tools.errors import ReleaseError
from hil_tests.world.flash import Flash, LittleFs
from protocols import delta as making
from protocols.inspection import updates
from protocols.inspection.guess import guesses
from protocols.wire import ota, outcomes, release
from tests.wire.fuzz import mutate
from tests.wire.release_cases import CLASS, KEY, VENDOR, public

if TYPE_CHECKING:
    from pathlib import Path

RELEASE = release.encode(12, VENDOR.bytes, CLASS.bytes, [(KEY.algorithm, public())], [bytes(8)])
FILES = {
    "firmware/main.mpy": b"M\6\0\37" * 20,
    "main.py": b"from firmware import main\n",
    release.FILE: RELEASE,
}


def written() -> tuple[bytes, LittleFs]:
    """A state partition of a node in the middle of an update, and its file system."""
    flash = Flash()
    LittleFs.mkfs(flash)
    fs = LittleFs(flash)
    receiver = ota.OtaReceiver(pieces.Pieces(fs), 10_000)
    receiver.hear(5, ota.Setup(4, 50, 10, 13, 0).encode())
    for number in (1, 3, 6):
        receiver.hear(5, ota.data_fragment(number, bytes(50)))
    doc = pending.Pending(fs)
    f = doc.f
    f[pending.PHASE], f[pending.SLOT], f[pending.OUTCOME] = pending.ENDED, 1, outcomes.CRASHED
    f[pending.SEQUENCE], f[pending.JUDGE], f[pending.SIZE], f[pending.FLAGS] = 13, 12, 190, pending.HEALTHY
    doc.save(b"\1\2")
    return bytes(flash.image), fs


def read(fs: LittleFs, path: str) -> bytes:
    with fs.open(path, "rb") as file:
        return bytes(file.read())


def fields(told: updates.Told) -> dict[str, str]:
    return {line.field: f"{line.value} {line.meaning}".strip() for line in told.lines}


def kinds() -> dict[str, bytes]:
    _, fs = written()
    app = Flash()
    LittleFs.mkfs(app)
    slots.Slots(LittleFs(app)).save(0, 1, 2, 3, 13)
    return {
        "release.cbor": RELEASE,
        "update": read(fs, "/a/update"),
        "slots": read(LittleFs(app), "/1/slots"),
        "pieces": read(fs, pieces.PATH),
        "payload": making.make(None, FILES),
        "bundle": making.pack(FILES),
    }


@pytest.mark.parametrize("name", ["release.cbor", "update", "slots", "pieces", "payload", "bundle"])
def test_what_knows_it_and_update_tells_it(name: str, tmp_path: Path) -> None:
    data = kinds()[name]
    assert "update" in [guess.command for guess in guesses(data)]
    (tmp_path / name).write_bytes(data)
    done = CliRunner().invoke(tidegate.app, ["inspect", "update", str(tmp_path / name)])
    assert done.exit_code == 0, done.output
    assert all(len(line) <= 120 for line in done.output.splitlines())
    wanted = {
        "release.cbor": "release       12",
        "update": "release       13, verified by release 12",
        "slots": "/b, release 13: 3 starts, 2 since one of them came to something",
        "pieces": "missing       2, 4",
        "payload": "none: a whole bundle",
        "bundle": "release       12",
    }
    assert wanted[name] in done.output


def test_a_state_image_tells_of_the_update_in_it() -> None:
    image, _ = written()
    (told,) = inspect_image.tell(image, "state.img")
    found = fields(told)
    assert found["update: phase"] == "4 ended, and not told yet"
    assert found["update: outcome"] == f"{outcomes.CRASHED} crashed"
    assert found["update: session"] == "5"
    assert found["update: brings"].startswith("release 13 ")
    assert found["update: fragments"] == "2 of 4"
    assert found["update: rows"] == "1 of parity"
    assert told.problems == []


def test_every_phase_and_slot_of_the_node_has_its_words() -> None:
    names = (
        "NOTHING", "RECEIVED", "VERIFIED", "ON_TRIAL", "ENDED", "TOLD", "FILLING", "FILLED",
    )  # fmt: skip
    assert [getattr(pending, name) for name in names] == list(range(len(updates.PHASES)))
    assert updates.FOLDERS == slots.FOLDERS
    flash = Flash()
    LittleFs.mkfs(flash)
    doc = pending.Pending(LittleFs(flash))
    doc.save()
    data = Document(LittleFs(flash), pending.NAME).load()
    assert data is not None
    assert updates.tell_pending(data).problems == []


def test_it_says_which_series_were_silent_before_a_trial() -> None:
    flash = Flash()
    LittleFs.mkfs(flash)
    doc = pending.Pending(LittleFs(flash))
    doc.f[pending.PHASE], doc.silent = pending.ON_TRIAL, 0b100000010
    doc.save()
    data = Document(LittleFs(flash), pending.NAME).load()
    assert data is not None
    found = fields(updates.tell_pending(data))
    assert found["trial"] == "0 h, 0 frames silent before it: series 1, 8"
    assert "event" not in found


def test_damage_is_named_and_nothing_raises() -> None:
    whole = kinds()
    assert updates.tell_pieces(whole["pieces"][:-3]).problems
    assert updates.tell_slots(b"\7" + bytes(7)).problems
    assert updates.tell_pending(b"\1").problems
    assert updates.tell_release(RELEASE[:-1]).problems
    chance = random.Random(8)
    for _ in range(300):
        for data in whole.values():
            changed = mutate(chance, [data])
            guesses(changed)
            for tell in (
                updates.tell_pending,
                updates.tell_slots,
                updates.tell_release,
                updates.tell_pieces,
                updates.tell_file,
            ):
                tell(changed)
            with contextlib.suppress(ReleaseError):
                release_show.file_lines(changed)
