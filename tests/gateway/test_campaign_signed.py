"""Releases whose parts are each signed and do not belong together: no node hears of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from gateway import campaign_files
from gateway.errors import CommandError
from protocols import delta as making
from protocols import suit
from tests.gateway import release_files
from tests.gateway.release_files import PUBLIC, VENDOR, files_of, sign, write_release

CLASS = suit.class_id(VENDOR, "river", "virtual")
Files = dict[str, bytes]


def put(at: Path, name: str, payload: bytes, makes: Files, sequence: int = 2) -> None:
    """A payload with an envelope that says that it makes these files, by the release's own key."""
    data = making.pack(makes)
    contents = suit.Contents(
        sequence, VENDOR, CLASS, len(data), hashlib.sha256(data).digest(),
        len(payload), hashlib.sha256(payload).digest(),
    )  # fmt: skip
    (at / f"{name}.bin").write_bytes(payload)
    (at / f"{name}.suit").write_bytes(
        suit.envelope(suit.manifest(contents), suit.ES256, suit.key_id(PUBLIC), sign)
    )


def refused(at: Path) -> str:
    with pytest.raises(CommandError) as found:
        campaign_files.parse(campaign_files.read_folder(at))
    return str(found.value)


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return write_release(tmp_path)


OLD, NEW, OTHER = (files_of(sequence, "river", "virtual") for sequence in (1, 2, 3))
ALSO = NEW | {"app/more.mpy": b"of another build of the same release"}


def test_what_belongs_together_is_taken(at: Path) -> None:
    put(at, "full", making.make(None, NEW), NEW)
    put(at, "from-0001", making.make(OLD, NEW), NEW)
    assert campaign_files.parse(campaign_files.read_folder(at)).sequence == 2


def test_a_delta_to_another_build_is_refused(at: Path) -> None:
    put(at, "from-0001", making.make(OLD, ALSO), ALSO)
    assert "another bundle than the whole payload makes" in refused(at)


def test_a_whole_that_makes_another_bundle_than_was_signed_is_refused(at: Path) -> None:
    put(at, "full", making.make(None, ALSO), NEW)
    assert "another bundle than the whole payload makes" in refused(at)


def test_a_bundle_of_another_release_is_refused(at: Path) -> None:
    """Nodes would run it, and go on saying that they run release 3."""
    for name, base in (("full", None), ("from-0001", OLD)):
        put(at, name, making.make(base, OTHER), OTHER)
    assert "the bundle of 3" in refused(at)


@pytest.mark.parametrize(
    ("name", "base", "told"), [("full", OLD, "starts from"), ("from-0001", None, "needs no base")]
)
def test_a_payload_in_the_place_of_another_is_refused(
    at: Path, name: str, base: Files | None, told: str
) -> None:
    put(at, name, making.make(base, NEW), NEW)
    if name == "full":  # a whole is looked into first, and a delta is none
        record = json.loads((at / "release.json").read_text(encoding="utf-8"))
        record["payloads"].append({**record["payloads"][0], "name": "more"})
        put(at, "more", making.make(base, NEW), NEW)
        put(at, "full", making.make(None, NEW), NEW)
        (at / "release.json").write_text(json.dumps(record), encoding="utf-8")
    assert told in refused(at)


def test_another_vendors_release_with_our_names_is_refused(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = suit.vendor_id("elsewhere.example")
    monkeypatch.setattr(release_files, "VENDOR", elsewhere)
    theirs = files_of(2, "river", "virtual")
    for name, base in (("full", None), ("from-0001", OLD)):
        put(at, name, making.make(base, theirs), theirs)
    assert "vendor" in refused(at)
