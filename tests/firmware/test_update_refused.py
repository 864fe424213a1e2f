"""Forged, truncated, re-ordered, replayed, downgraded, for others, on another base, too large, bit-flipped: refused.

On both interpreters, by the real install.py on simulated flash (refuse_world.py): each kind with the number that event
24 tells, `app` untouched to the byte, and no way in but a signature. Seeded; a failure shows its command line.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from firmware import pending
from firmware.durable import Document
from hil_tests.world.cutflash import CutFlash
from hil_tests.world.flash import LittleFs
from protocols import delta as making
from protocols.wire import manifest, outcomes
from tests.firmware import refuse_cases
from tests.firmware.install_world import APP_BLOCKS, WHOLE, Part
from tests.firmware.refuse_cases import COMES, RUNS, honest, of, said, sent
from tests.firmware.refuse_world import Yard, load
from tests.firmware.sweeps import micropython

ROOT = Path(__file__).parents[2]
SEED = 11


def refused(
    interpreter: list[str], folder: Path, seed: int, mutated: int, meddled: int, first: int = 0
) -> None:
    cases = folder / "cases.json"
    refuse_cases.write(cases)
    words = [*interpreter, str(ROOT / "tests/firmware/refuse_main.py"), str(ROOT), str(cases)]
    words += [str(seed), str(first), str(mutated), str(meddled)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    shown = f"{' '.join(words)}\n{done.stdout}{done.stderr[-2000:]}"
    print(shown)
    found = dict(re.findall(r"(\w+)=(\d+)", done.stdout.split("told=")[0]))
    assert found.get("wrong") == "0", shown
    assert (found["mutated"], found["meddled"]) == (str(mutated), str(meddled))
    assert int(found["named"]) == len(refuse_cases.cases())


def test_every_kind_of_bad_update_is_refused_with_its_reason_and_touches_no_slot(tmp_path: Path) -> None:
    refused(micropython(), tmp_path, SEED, 360, 240)


def test_the_same_on_cpython(tmp_path: Path) -> None:
    refused([sys.executable], tmp_path, SEED + 1, 120, 120)


@pytest.mark.soak
@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
def test_ten_thousand_mutated_updates_are_refused(interpreter: str, tmp_path: Path) -> None:
    command = micropython() if interpreter == "micropython" else [sys.executable]
    refused(command, tmp_path, SEED + 2 + (interpreter == "cpython"), 10_000, 1_500)


def test_every_reason_of_the_table_is_asked_for() -> None:
    assert {name for _, name in refuse_cases.cases().values()} == set(manifest.REASONS)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    refuse_cases.write(tmp_path / "cases.json")
    return Yard(LittleFs, load(tmp_path / "cases.json")[0])


def verified(yard: Yard, update: bytes, payload: bytes, judge: int) -> None:
    """A node with this in its pieces, and a document that says: release `judge` found the manifest good."""
    yard.fresh()
    yard.receive(update, 1)
    found = pending.Pending(yard.state())
    what = said(payload, of(COMES))
    f = found.f
    f[pending.PHASE], f[pending.JUDGE], f[pending.SEQUENCE] = pending.VERIFIED, judge, COMES
    f[pending.SIZE], f[pending.DIGEST] = what.size, what.digest
    f[pending.PAYLOAD_SIZE], f[pending.PAYLOAD_DIGEST] = what.payload_size, what.payload_digest
    found.save()


def test_what_one_release_verified_is_judged_anew_by_the_one_that_was_flashed_meanwhile(yard: Yard) -> None:
    """Power fails after it was verified, and a technician flashes a newer release: the older one does not come back."""
    payload = making.make(None, of(COMES))
    verified(yard, honest(None, of(COMES)), payload, RUNS)
    newer = Yard(LittleFs, of(9))
    yard.image, yard.first = bytearray(newer.first), newer.first
    yard._app = Part(CutFlash(yard.image), 0, APP_BLOCKS)
    bundle = making.pack(of(9))
    yard.old = 9
    WHOLE[9] = (len(bundle), hashlib.sha256(bundle).digest())
    yard.settle()
    assert yard.runs == 9
    assert bytes(yard.image) == newer.first
    kept = Document(yard.state(), "box").load()
    assert kept is not None
    assert outcomes.OUTCOMES[kept[-1]][0] == "downgrade"


def test_whoever_writes_the_flash_is_believed(yard: Yard) -> None:
    """Not promised, and said so in OTA.md: a forged document makes a node install what nobody signed.

    It takes the flash itself, which whoever has it can fill with another program at once: no message writes this.
    """
    payload = making.make(None, of(COMES))
    verified(yard, sent(b"not an envelope", payload), payload, RUNS)
    yard.settle()
    assert yard.runs == COMES


def test_a_record_of_the_slots_that_no_node_writes_starts_the_first_one(yard: Yard) -> None:
    for record in (b"", b"\1", b"\7\xff" + bytes(6), b"\0\2" + bytes(6), bytes(9)):
        yard.fresh()
        Document(yard.app(), "slots", ("/1", "/2")).save(record)
        assert yard.start()
        assert yard.runs == RUNS
