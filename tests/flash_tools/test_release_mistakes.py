"""`tidegate release` in the hands of somebody in a hurry: told in a sentence, and nothing is lost that was there."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flash_tools import release as releasing
from flash_tools import release_book, release_cli, signing
from flash_tools.errors import ReleaseError
from flash_tools.naming import Names
from flash_tools.release_book import Book, Release
from protocols.wire import release as release_file

BOARD = "virtual"


def command(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(release_cli.app, [*words, "-r", str(folder / "r")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def refused(folder: Path, *words: str) -> str:
    with pytest.raises(ReleaseError) as found:
        command(folder, *words)
    return str(found.value)


def put(book: Book, sequence: int, bases: list[Release], commit: str | None = None) -> Release:
    """A release of one small module."""
    files = {
        "main.py": b"print(%d)\n" % sequence,
        release_file.FILE: book.release_file(sequence, "river", BOARD),
    }
    said = {"notes": "", "commit": commit, "after": None, "names": Names().dump()}
    return releasing.put(book, "river", BOARD, sequence, files, bases, said)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    command(tmp_path, "keygen", "--out", str(tmp_path / "day"), "--vendor", "tidegate.example")
    command(tmp_path, "keygen", "--out", str(tmp_path / "drawer"), "--algorithm", "hss-lms", "--height", "5")
    put(Book.load(tmp_path / "r"), 1, [])
    return tmp_path


def test_a_page_is_written_over_a_page_and_over_nothing_else(folder: Path) -> None:
    key = folder / "day"
    before = key.read_bytes()
    assert "no page" in refused(folder, "page", "river-virtual", "--out", str(key))
    assert key.read_bytes() == before
    for _ in range(2):
        command(folder, "page", "river-virtual", "--out", str(folder / "page.html"))
    assert str(folder) in refused(folder, "page", "river-virtual", "--out", str(folder))


def test_a_first_release_is_signed_by_one_of_its_own_keys(folder: Path) -> None:
    stranger = folder / "stranger"
    signing.generate(stranger, "es256")
    assert "not trusted" in refused(folder, "sign", "river-virtual", "--key", str(stranger))
    assert not list((folder / "r").glob("*/*/*.suit"))
    command(folder, "sign", "river-virtual", "--key", str(folder / "day"))
    assert "good" in command(folder, "verify", "river-virtual")


def test_a_revoked_key_is_shown_as_one_whatever_was_said_of_it(folder: Path) -> None:
    kid = signing.load(folder / "day").kid.hex()
    assert "--why" in refused(folder, "revoke", kid, "--why", " ")
    assert "revoked" not in command(folder, "keys")
    book = Book.load(folder / "r")
    book.data["revoked"][kid] = ""  # of a book that an older version wrote
    book.save()
    shown = {line.split()[0]: line for line in command(folder, "keys").splitlines()}
    assert "revoked" in shown[kid]
    assert "revoked" in refused(folder, "trust", str(folder / "day"))


def test_who_changes_the_folder_waits_for_who_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revocation, while another terminal makes the tree of an HSS/LMS key for a minute, is not lost with it."""
    kid = signing.load(folder / "day").kid.hex()
    made, waits = threading.Event(), threading.Event()
    generate, flock = signing.generate, fcntl.flock

    def slow(*words: Any) -> signing.Signer:
        signer = generate(*words)
        made.set()
        assert waits.wait(30)
        return signer

    def told(descriptor: int, how: int) -> None:
        if made.is_set():
            waits.set()
        flock(descriptor, how)

    monkeypatch.setattr(signing, "generate", slow)
    monkeypatch.setattr(fcntl, "flock", told)
    words = ("keygen", "--out", str(folder / "new"), "-r", str(folder / "r"))
    other = threading.Thread(
        target=lambda: release_cli.app(list(words), standalone_mode=False)  # CliRunner is for one at a time
    )
    other.start()
    assert made.wait(30)
    Book.load(folder / "r")
    with release_book.alone(folder / "r"):
        book = Book.load(folder / "r")
        book.revoke(kid, "stolen")
        book.save()
    other.join(30)
    found = Book.load(folder / "r")
    assert found.data["revoked"] == {kid: "stolen"}
    assert [key["kid"] for key in found.data["keys"]][2:] == [signing.load(folder / "new").kid.hex()]


def test_a_disk_that_takes_nothing_leaves_what_there_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert "No space" in refused(folder, "keygen", "--out", str(folder / "new"))
        assert "No space" in refused(
            folder, "keygen", "--out", str(folder / "new"), "--algorithm", "hss-lms", "--height", "5"
        )
        assert "No space" in refused(folder, "sign", "river-virtual", "--key", str(folder / "day"))
        assert "No space" in refused(folder, "sign", "river-virtual", "--key", str(folder / "drawer"))
        assert "No space" in refused(folder, "page", "river-virtual")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_key_that_the_book_could_not_take_is_told_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise ReleaseError(f"{path}: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(release_book, "write", full)
        assert "trust" in refused(folder, "keygen", "--out", str(folder / "new"))
    assert signing.load(folder / "new").kid.hex() in command(folder, "trust", str(folder / "new"))


def test_a_key_with_too_few_signatures_left_signs_nothing(folder: Path) -> None:
    book = Book.load(folder / "r")
    put(book, 2, book.releases("river", BOARD))
    count = signing.count_file(folder / "drawer")
    count.write_bytes(b"31\n")
    assert "1 signatures left" in refused(folder, "sign", "river-virtual", "--key", str(folder / "drawer"))
    assert count.read_bytes() == b"31\n"
    assert not list((folder / "r").glob("*/0002/*.suit"))


@pytest.mark.parametrize("text", ["{}", "[]", "{", "", '{"sequence": 1}'])
def test_a_record_or_a_book_that_somebody_edited_is_told_in_a_sentence(folder: Path, text: str) -> None:
    record = folder / "r/river-virtual/0001/release.json"
    good = json.loads(record.read_bytes())
    record.write_text(text, encoding="utf-8")
    for words in (("list",), ("verify", "river-virtual"), ("inspect", "river-virtual/1")):
        assert "release.json" in refused(folder, *words)
    record.write_text(json.dumps({**good, "payloads": [{"name": "full"}]}), encoding="utf-8")
    assert "release.json" in refused(folder, "list")
    book = folder / "r/book.json"
    book.write_text('{"version": 1, "vendor": "x.example", "keys": [{}], "revoked": {}}', encoding="utf-8")
    assert "book.json" in refused(folder, "keys")
    book.write_text(text, encoding="utf-8")
    assert "book.json" in refused(folder, "keys")


def changed(path: Path, **said: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **said}), encoding="utf-8")


PAYLOAD = {"base": None, "name": "full", "size": 90, "sha256": 64 * "0"}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"sequence": -1}, "sequence -1; allowed are 1 to"),
        ({"sequence": 2}, "it says sequence 2, and lies in 0001"),
        ({"board": "../x"}, "it is for 'river' on '../x'"),
        ({"size": 0}, "size or sha256"),
        ({"sha256": "../../etc/passwd"}, "size or sha256"),
        ({"after": "x"}, "after 'x'; allowed is an earlier sequence"),
        ({"names": {"fields": 1}}, "names is not what a build left"),
        ({"payloads": []}, "it has no payload"),
        ({"payloads": [{**PAYLOAD, "name": "../../../escape"}]}, "by its base it is full"),
        ({"payloads": [{**PAYLOAD, "base": 7}]}, "is for base 7; allowed is an earlier sequence"),
        ({"payloads": [{**PAYLOAD, "size": "90"}]}, "size or sha256 of payload full"),
        ({"payloads": [{**PAYLOAD, "sha256": None}]}, "size or sha256 of payload full"),
    ],
)
def test_a_record_that_says_what_is_not_so_leads_nowhere(
    folder: Path, said: dict[str, Any], told: str
) -> None:
    """Not to another file, nor to a signature of it."""
    changed(folder / "r/river-virtual/0001/release.json", **said)
    before = sorted(folder.parent.rglob("*"))
    for words in (
        ("list",),
        ("page", "river-virtual/1"),
        ("sign", "river-virtual", "--key", str(folder / "day")),
    ):
        assert told in refused(folder, *words)
    assert sorted(folder.parent.rglob("*")) == before


def test_a_payload_of_another_size_than_the_record_says_is_not_signed(folder: Path) -> None:
    record = folder / "r/river-virtual/0001/release.json"
    (payload,) = json.loads(record.read_bytes())["payloads"]
    changed(record, payloads=[{**payload, "size": payload["size"] + 1}])
    assert "the record says" in refused(folder, "sign", "river-virtual", "--key", str(folder / "day"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"public": "zz"}, "its public key has another name"),
        ({"public": "00" * 64}, "its public key has another name"),
        ({"algorithm": "rsa"}, "is of 'rsa'; allowed are es256, hss-lms"),
        ({"kid": "0" * 16}, "key 1 is called '0000000000000000'"),
    ],
)
def test_a_key_that_somebody_edited_is_trusted_by_no_release(
    folder: Path, said: dict[str, str], told: str
) -> None:
    book = folder / "r/book.json"
    first, *others = json.loads(book.read_bytes())["keys"]
    changed(book, keys=[{**first, **said}, *others])
    assert told in refused(folder, "build", "--node", "river", "--board", BOARD)
    changed(book, keys=[first, *others], revoked={"ffff": "lost"})
    assert "revoked has 'ffff'" in refused(folder, "keys")


def test_who_has_signed_is_told_what_comes_next(folder: Path) -> None:
    key = ("--key", str(folder / "day"))
    assert "tidegate flash --release" in command(folder, "sign", "river-virtual", *key).splitlines()[-1]
    book = Book.load(folder / "r")
    put(book, 2, book.releases("river", BOARD))
    last = command(folder, "sign", "river-virtual", *key).splitlines()[-1]
    assert last == f"Next: tidegate campaign add {folder / 'r/river-virtual/0002'} --why …"


def test_notes_do_nothing_to_a_terminal(folder: Path) -> None:
    changed(folder / "r/river-virtual/0001/release.json", notes="\x1b[2Jgone\nriver-virtual/0009")
    for words in (("list",), ("inspect", "river-virtual")):
        assert "?[2Jgone?river-virtual/0009" in command(folder, *words)


def test_a_release_of_files_that_nobody_committed_says_so_when_it_is_signed(folder: Path) -> None:
    book = Book.load(folder / "r")
    put(book, 2, [], commit="0123456789ab+")
    assert "differ from commit 0123456789ab" in command(
        folder, "sign", "river-virtual/2", "--key", str(folder / "day")
    )


def test_a_file_that_nobody_added_is_a_difference_from_the_commit(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    (tmp_path / "firmware").mkdir()
    (tmp_path / "firmware/a.py").write_text("a = 1\n", encoding="utf-8")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    (tmp_path / "notes.txt").write_text("no part of a bundle\n", encoding="utf-8")
    assert not str(releasing.commit_of(tmp_path)).endswith("+")
    (tmp_path / "firmware/b.py").write_text("b = 1\n", encoding="utf-8")
    assert str(releasing.commit_of(tmp_path)).endswith("+")
