"""`tidegate release` killed in the middle: no half files, no leaf signs twice, and the same command again finishes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flash_tools import release as releasing
from flash_tools import release_cli, release_show, signing
from flash_tools.errors import ReleaseError
from flash_tools.naming import Names
from flash_tools.release_book import Book
from protocols import lms_sign
from protocols.wire import release as release_file
from tests.killing import kill_before, moments, steps_of

SEED = 20
KILLS = 4
COMMANDS = {
    "build": "build --board virtual --node river",
    "sign": "sign river-virtual --key day",
    "sign by leaf": "sign river-virtual --key drawer",
    "keygen": "keygen --out new",
    "keygen of leaves": "keygen --out new --algorithm hss-lms --height 5",
    "revoke": "revoke KID --why lost",
}
LOG = "leaves.log"


def command(words: str) -> None:
    kid = signing.load(Path("drawer")).kid.hex()
    CliRunner().invoke(
        release_cli.app, [*words.replace("KID", kid).split(), "-r", "r"], catch_exceptions=False
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two keys, and a release of two payloads that is not signed yet."""
    folder = tmp_path_factory.mktemp("made")
    book = Book.begin(folder / "r", "tidegate.example")
    for name, algorithm in (("day", "es256"), ("drawer", "hss-lms")):
        signer = signing.generate(folder / name, algorithm, 5)
        book.add(signer.algorithm, signer.public, name)
    book.save()
    first = releasing.put(book, "river", "virtual", 1, files(book, 1), [], said())
    releasing.put(book, "river", "virtual", 2, files(book, 2), [first], said())
    return folder


def files(book: Book, sequence: int) -> dict[str, bytes]:
    return {
        "main.py": b"print(%d)\n" % sequence,
        release_file.FILE: book.release_file(sequence, "river", "virtual"),
    }


def said() -> dict[str, Any]:
    return {"notes": "", "commit": None, "after": None, "names": Names().dump()}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the compiler and the hashes of a tree; each leaf that signs is written down."""
    sign = lms_sign.sign

    def noted(*given: Any) -> bytes:
        with Path(LOG).open("a") as log:
            log.write(f"{given[3]}\n")
        return sign(*given)

    monkeypatch.setattr(releasing, "files_of", lambda root, book, sequence, *rest: files(book, sequence))
    monkeypatch.setattr(
        lms_sign,
        "leaves",
        lambda height, *_: [hashlib.sha256(bytes((at,))).digest()[:24] for at in range(1 << height)],
    )
    monkeypatch.setattr(lms_sign, "sign", noted)


@pytest.mark.parametrize("what", COMMANDS)
@pytest.mark.parametrize("kills", [KILLS, pytest.param(None, marks=pytest.mark.soak, id="all")])
@pytest.mark.usefixtures("quick")
def test_a_kill_leaves_nothing_half_and_the_same_command_finishes(
    what: str, kills: int | None, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = COMMANDS[what]

    def begin(name: str) -> None:
        shutil.copytree(made, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)

    begin("here")
    command(words)  # which loads what it loads once
    begin("whole")
    steps = steps_of(lambda: command(words))
    assert steps > 4
    killed = 0
    for step in moments(steps, SEED, kills):
        begin(str(step))
        killed += kill_before(step, lambda: command(words))
        nothing_is_half()
        try:
            command(words)
        except ReleaseError as error:
            finished_already(what, str(error))
        nothing_is_half()
        finished(what)
    assert killed > 0


def nothing_is_half() -> None:
    book = Book.load(Path("r"))
    for release in book.all():
        for payload in release.payloads:
            assert hashlib.sha256(release.payload(payload)).hexdigest() == payload.sha256
            envelope = release.envelope(payload)
            assert envelope is None or release_show.envelope_lines(envelope)
    for key in ("day", "drawer", "new"):
        if Path(key).exists():
            signing.load(Path(key))
            signing.left(Path(key))
    signed = Counter(Path(LOG).read_text().split()) if Path(LOG).exists() else Counter[str]()
    assert set(signed.values()) <= {1}, signed
    assert all(int(leaf) < int(Path("drawer.count").read_text()) for leaf in signed)


def finished_already(what: str, error: str) -> None:
    """It had come so far that there is less to do, and it says what."""
    if what == "revoke":
        assert "is revoked already: lost" in error
        return
    assert what.startswith("keygen"), error
    assert "tidegate release trust new" in error
    if signing.load(Path("new")).kid.hex() not in [key["kid"] for key in Book.load(Path("r")).data["keys"]]:
        command("trust new")


def finished(what: str) -> None:
    book = Book.load(Path("r"))
    if what.startswith("keygen"):
        kid = signing.load(Path("new")).kid.hex()
        assert [key["kid"] for key in book.data["keys"]].count(kid) == 1
        assert not list(Path().glob("new*.new"))
    elif what == "revoke":
        assert len(book.trusted) == 1
    else:
        release = book.find("river-virtual")
        problems = [
            problem for _, problem in releasing.check(book, release, signed=what != "build") if problem
        ]
        assert problems == []
        assert release.sequence >= (3 if what == "build" else 2)


def test_a_count_from_an_older_backup_does_not_sign(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, tmp_path / "x")
    monkeypatch.chdir(tmp_path / "x")
    backup = Path("drawer.count").read_bytes()
    command("sign river-virtual --key drawer")
    now = Path("drawer.count").read_bytes()
    Path("drawer.count").write_bytes(backup)
    for count in (b"0\n", b"1\n"):
        Path("drawer.count").write_bytes(count)
        with pytest.raises(
            ReleaseError, match=r"says [01], and .*signature number .*older backup.*revokes the key"
        ):
            command("sign river-virtual/1 --key drawer")
        assert Path("drawer.count").read_bytes() == count
    command("sign river-virtual/1 --key day")
    Path("drawer.count").write_bytes(now)
    command("sign river-virtual/1 --key drawer")
    assert os.listdir("r/river-virtual/0001").count("full.suit") == 1


def test_the_count_of_a_key_that_is_elsewhere_is_not_replaced(tmp_path: Path) -> None:
    signing.count_file(tmp_path / "key").write_bytes(b"3\n")
    for algorithm in signing.ALGORITHMS:
        with pytest.raises(ReleaseError, match="never replaced"):
            signing.generate(tmp_path / "key", algorithm, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["key.count"]


def test_a_key_is_made_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(one: Path, other: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    signing.generate(tmp_path / "key", "es256")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
