"""Releases: the same bytes wherever they are built, small deltas, and nothing signed that nodes would refuse."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from flash_tools import release as releasing
from flash_tools import release_cli, release_show, signing
from flash_tools.errors import ReleaseError
from flash_tools.fields import name_fields
from flash_tools.mint import ROOT
from flash_tools.naming import Names, assign
from flash_tools.release_book import Book, unpack
from flash_tools.shorten import shorten
from protocols import delta as making
from protocols.wire import delta, manifest
from protocols.wire import release as release_file
from tests.wire.release_cases import history

BOARD = "heltec_wifi_lora_32_v3"
# Another time zone, language, mask and order of sets; what folders list comes the other way round, and is a day old.
BUILD_OTHERWISE = f"""
import os, pathlib, sys
os.umask(0o077)
scandir, listdir = os.scandir, os.listdir
class Backwards(list):
    def __enter__(self): return iter(self)
    def __exit__(self, *why): pass
    close = __exit__
os.scandir = lambda *where: Backwards(reversed(list(scandir(*where))))
os.listdir = lambda *where: list(reversed(listdir(*where)))
from flash_tools import release
from flash_tools.release_book import Book
release.build(Book.load(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]), "river", {BOARD!r})
"""


def sources(folder: Path) -> Path:
    """The part of this tree that a node's program comes from, to be changed."""
    for name in ("protocols", "firmware", "boards"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "vectors", "*.md")
        )
    return folder


def a_line_more(root: Path, path: str, after: str, line: str) -> None:
    file = root / path
    text = file.read_text(encoding="utf-8")
    assert text.count(after) == 1, f"{path} has {text.count(after)} of {after!r}: choose another place"
    file.write_text(text.replace(after, after + line), encoding="utf-8")


def take(book: Book, signer: signing.Signer, name: str = "") -> None:
    book.add(signer.algorithm, signer.public, name)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Book, Path]:
    """Two keys, and two releases: a line was added to one module."""
    folder = tmp_path_factory.mktemp("releases")
    book = Book.begin(folder / "r", "tidegate.example")
    for name, algorithm in (("daily", "es256"), ("spare", "hss-lms")):
        take(book, signing.generate(folder / name, algorithm, height=5), name)
    book.save()
    root = sources(folder / "src")
    releasing.build(book, root, "river", BOARD)
    a_line_more(
        root, "firmware/trials.py", "        if not self.failed and not self._told:\n            return\n",
        "        print('this start is good')\n",
    )  # fmt: skip
    releasing.build(book, root, "river", BOARD)
    return book, folder


def test_one_line_in_one_module_is_at_most_two_frames_at_sf7(made: tuple[Book, Path]) -> None:
    book, _ = made
    release = book.find(f"river-{BOARD}/2")
    found = release_show.changes(book.find(f"river-{BOARD}/1").files(), release.files())
    assert [change.path for change in found if change.what != "same"] == [
        "firmware/trials.mpy",
        "release.cbor",
    ]
    payload = next(payload for payload in release.payloads if payload.base == 1)
    print(f"\none_line_bytes={payload.size} bundle_bytes={release.record['size']}", end="")
    for sf in release_show.SPREADING_FACTORS:
        air = release_show.on_air(payload.size, sf)
        print(f" sf{sf}_frames={air.frames} sf{sf}_ms={air.us // 1000}", end="")
    print()
    assert release_show.on_air(payload.size, 7).frames <= 2


def test_the_delta_over_two_real_releases_is_a_tenth_of_the_bundle_at_most() -> None:
    """Bundles of three commits of this repository, as bench/deltas.py built them."""
    old, _, new = history()
    payload = making.make(old, new)
    size = len(making.pack(new))
    target = making.Memory()
    assert delta.apply(io.BytesIO(payload), making.Memory(old), target)[0] == size
    assert target.files == new
    print(
        f"\ntwo_release_bytes={len(payload)} bundle_bytes={size} percent={100 * len(payload) / size:.1f}",
        end="",
    )
    for sf in release_show.SPREADING_FACTORS:
        air = release_show.on_air(len(payload), sf)
        print(f" sf{sf}_frames={air.frames} sf{sf}_ms={air.us // 1000}", end="")
    print()
    assert len(payload) <= size // 10


def test_without_the_names_of_the_last_build_one_use_more_renames_other_modules() -> None:
    """And with them, what nobody touched stays as it was, to the byte."""
    one = "def run(self):\n    self.often = self.rare = 1\n    return self.often\n"
    sources = {"one": one, "two": "def loop(self):\n    self.often = self.rare\n"}
    more = {
        "one": one.replace("return self.often", "return self.rare + self.rare + self.often"),
        "two": sources["two"],
    }
    names = Names()

    def built(texts: dict[str, str], names: Names) -> dict[str, str]:
        keep = ("run", "loop")
        return shorten(name_fields(texts, keep, names), keep, names)

    old = built(sources, names)
    kept = Names.load(names.dump())
    assert built(more, Names())["two"] != old["two"]
    assert built(more, names)["two"] == old["two"]
    assert kept.dump() == names.dump()


def test_names_from_before_come_first_and_nothing_is_given_twice() -> None:
    given = assign(["a", "b", "c", "d"], ["x", "y", "z"], {"b": "x", "c": "gone", "d": "z"})
    assert given == {"b": "x", "d": "z", "a": "y"}


def test_the_same_sources_give_the_same_release_in_another_folder(
    made: tuple[Book, Path], tmp_path: Path
) -> None:
    book, folder = made
    again = sources(tmp_path / "elsewhere" / "deeper")
    shutil.copy(folder / "src/firmware/trials.py", again / "firmware/trials.py")
    shutil.copytree(book.folder, tmp_path / "r")
    shutil.rmtree(tmp_path / "r" / f"river-{BOARD}" / "0002")
    copy = Book.load(tmp_path / "r")
    release = releasing.build(copy, again, "river", BOARD)
    first = book.find(f"river-{BOARD}/2")
    assert release.bundle() == first.bundle()
    for payload in first.payloads:
        assert release.payload(payload) == first.payload(payload)
    signer = signing.load(folder / "daily")
    releasing.sign(copy, release, signer)
    releasing.sign(book, first, signer)
    assert [release.envelope(payload) for payload in release.payloads] == [
        first.envelope(payload) for payload in first.payloads
    ]


def test_a_machine_that_is_set_up_otherwise_changes_no_byte(made: tuple[Book, Path], tmp_path: Path) -> None:
    book, _ = made
    root = sources(tmp_path / "src")
    for path in root.rglob("*"):
        os.utime(path, (1, 1))
    other = Book.begin(tmp_path / "r", book.data["vendor"])
    other.data["keys"] = book.data["keys"]
    other.save()
    subprocess.run(
        [sys.executable, "-c", BUILD_OTHERWISE, str(tmp_path / "r"), str(root)],
        env={
            **os.environ, "PYTHONPATH": str(ROOT), "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0", "PYTHONHASHSEED": "77", "SOURCE_DATE_EPOCH": "1",
        },
        cwd=tmp_path,
        check=True,
    )  # fmt: skip
    here, there = book.find(f"river-{BOARD}/1"), Book.load(tmp_path / "r").find(f"river-{BOARD}/1")
    assert {path.stat().st_mode & 0o777 for path in there.folder.iterdir()} == {
        0o600
    }  # the mask was another one
    assert there.bundle() == here.bundle()
    assert [there.payload(one) for one in there.payloads] == [here.payload(one) for one in here.payloads]
    assert there.record == {**here.record, "commit": releasing.commit_of(root)}


def test_the_order_in_which_python_keeps_sets_changes_no_byte() -> None:
    script = (
        "import hashlib, pathlib\n"
        "from flash_tools.images import node_sources\n"
        "from flash_tools.naming import Names\n"
        "names = Names()\n"
        f"texts = node_sources(pathlib.Path({str(ROOT)!r}), {BOARD!r}, 'bridge', names)\n"
        "print(hashlib.sha256(repr((sorted(texts.items()), sorted(names.dump().items()))).encode()).hexdigest())\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


@pytest.mark.parametrize("key", ["daily", "spare"])
def test_a_signed_release_is_good_and_one_that_was_tampered_with_is_not(
    made: tuple[Book, Path], key: str
) -> None:
    book, folder = made
    release = book.find(f"river-{BOARD}/2")
    releasing.sign(book, release, signing.load(folder / key))
    assert not any(problem for _, problem in releasing.check(book, release))
    for name in ("bundle.bin", "full.bin", "from-0001.bin", "full.suit", "from-0001.suit"):
        path = release.folder / name
        good = path.read_bytes()
        at = len(good) // 2
        path.write_bytes(good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])
        assert any(problem for _, problem in releasing.check(book, release)), name
        path.write_bytes(good)
    shutil.copy(release.folder / "full.suit", release.folder / "kept")
    shutil.copy(release.folder / "from-0001.suit", release.folder / "full.suit")
    assert dict(releasing.check(book, release))["full.suit"] == "it is of another payload"
    (release.folder / "kept").replace(release.folder / "full.suit")


def test_rotation_and_revocation_reach_nodes_by_a_release(
    made: tuple[Book, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is new, unknown or revoked signs nothing that nodes in the street would refuse."""

    def files_of(
        _: Path, book: Book, sequence: int, node_type: str, board: str, __: Names
    ) -> dict[str, bytes]:
        return {"main.py": b"pass\n", release_file.FILE: book.release_file(sequence, node_type, board)}

    monkeypatch.setattr(releasing, "files_of", files_of)  # of whatever program: this is about keys
    before, folder = made
    book = Book(tmp_path / "r", {**before.data, "keys": list(before.data["keys"]), "revoked": {}})
    daily, spare = signing.load(folder / "daily"), signing.load(folder / "spare")
    releasing.build(book, folder / "src", "bridge", BOARD, sequence=2)
    fresh = signing.generate(tmp_path / "fresh", "es256")
    take(book, fresh, "its successor")
    book.revoke(daily.kid.hex(), "left on a train")
    third = releasing.build(book, folder / "src", "bridge", BOARD)
    with pytest.raises(ReleaseError, match="not trusted by nodes that run"):
        releasing.sign(book, third, fresh)
    with pytest.raises(ReleaseError, match="left on a train"):
        releasing.sign(book, third, daily)
    releasing.sign(book, third, spare)
    assert not any(problem for _, problem in releasing.check(book, third))
    fourth = releasing.build(book, folder / "src", "bridge", BOARD)
    releasing.sign(book, fourth, fresh)
    assert not any(problem for _, problem in releasing.check(book, fourth))
    # A thief has the old key, and signs for nodes that run the third: by that name it is refused.
    running = releasing.trusting(book, fourth)[-1][1]
    device = manifest.Device(running.vendor, running.class_id, 3, 1 << 20, 1 << 20)
    payload = fourth.payloads[0]
    said = releasing.suit.manifest(releasing.contents(book, fourth, payload))
    forged = releasing.suit.envelope(said, daily.algorithm, daily.kid, daily.sign)
    with pytest.raises(manifest.Refused) as caught:
        manifest.match(forged, device, running.keys)
    assert caught.value.reason == "revoked-key"


def test_the_last_key_can_not_be_revoked(tmp_path: Path) -> None:
    book = Book.begin(tmp_path, "tidegate.example")
    signer = signing.generate(tmp_path / "key", "es256")
    take(book, signer)
    with pytest.raises(ReleaseError, match="only one"):
        book.revoke(signer.kid.hex(), "a mistake")
    with pytest.raises(ReleaseError, match="did you mean"):
        book.revoke(signer.kid.hex()[:-1] + "x", "a slip")


def test_a_key_of_another_tool_is_taken_in_once(tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "card.pem").write_bytes(public)
    arguments = [
        "trust",
        str(tmp_path / "card.pem"),
        "-r",
        str(tmp_path / "r"),
        "--vendor",
        "tidegate.example",
    ]
    done = CliRunner().invoke(release_cli.app, arguments, catch_exceptions=False)
    (key,) = Book.load(tmp_path / "r").trusted
    assert done.output.split()[0] == key["kid"]
    numbers = private.public_key().public_numbers()
    assert key["public"] == f"{numbers.x:064x}{numbers.y:064x}"
    with pytest.raises(ReleaseError, match="already"):
        CliRunner().invoke(release_cli.app, arguments, catch_exceptions=False)


def test_as_many_keys_as_are_allowed_fit_what_a_node_reads(tmp_path: Path) -> None:
    book = Book.begin(tmp_path, "tidegate.example")
    take(book, signing.generate(tmp_path / "first", "es256"))
    for number in range(8):
        take(book, signing.generate(tmp_path / f"rotated{number}", "es256"))
        book.revoke(book.trusted[0]["kid"], "rotated")
    for number in range(3):
        take(book, signing.generate(tmp_path / f"more{number}", "es256"))
    said = release_file.decode(book.release_file(1 << 29, "river", BOARD))
    assert [key.is_revoked for key in said.keys] == [True] * 8 + [False] * 4
    with pytest.raises(ReleaseError, match="revoke one first"):
        take(book, signing.generate(tmp_path / "one too many", "es256"))
    with pytest.raises(ReleaseError, match="8 keys are revoked"):
        book.revoke(book.trusted[0]["kid"], "one too many")


def test_what_is_no_bundle_is_refused() -> None:
    good = making.pack({"a.mpy": b"1", "b/c.mpy": b"22"})
    assert unpack(good) == {"a.mpy": b"1", "b/c.mpy": b"22"}
    for wrong in (good[:-1], good + good, good + b"\x01", b"\x03../\x00\x00\x00", b"\xff"):
        with pytest.raises(ReleaseError):
            unpack(wrong)


def test_the_command_takes_a_maintainer_from_a_key_to_a_page(tmp_path: Path) -> None:
    books = ["-r", str(tmp_path / "r")]

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(release_cli.app, [*arguments, *books], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    key = str(tmp_path / "key.pem")
    assert "One key only" in run("keygen", "--out", key, "--vendor", "tidegate.example")
    assert "not signed" in run(
        "build", "--node", "bridge", "--board", BOARD, "--notes", "<first> & only", "--image"
    )
    assert len((tmp_path / f"r/bridge-{BOARD}/0001/app.img").read_bytes()) > 100_000
    with pytest.raises(ReleaseError, match="no release 'bridge'"):
        run("verify", "bridge")
    done = CliRunner().invoke(release_cli.app, ["verify", f"bridge-{BOARD}", *books])
    assert done.exit_code == 1
    assert "not signed" in done.output
    assert "full.suit" in run("sign", f"bridge-{BOARD}", "--key", key)
    run("keygen", "--out", str(tmp_path / "second.pem"))  # which a release from before does not know
    assert "good" in run("verify", f"bridge-{BOARD}", "--rebuild")
    assert "sequence      1" in run("inspect", f"bridge-{BOARD}/1")
    suit = tmp_path / f"r/bridge-{BOARD}/0001/full.suit"
    assert "ES256" in run("inspect", str(suit))
    run("build", "--node", "bridge", "--board", BOARD)
    assert "1 changed" in run("diff", f"bridge-{BOARD}/1", f"bridge-{BOARD}/2")
    assert "trusted" in run("keys")
    first, second = run("list").splitlines()
    assert ("signed  " in first, "<first> & only" in first, "not signed" in second) == (True, True, True)
    run("page", f"bridge-{BOARD}/1")
    page = (tmp_path / f"r/bridge-{BOARD}/0001/page.html").read_text(encoding="utf-8")
    assert "&lt;first&gt; &amp; only" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_file_of_a_release_says_what_it_is_and_another_file_what_it_is_not(made: tuple[Book, Path]) -> None:
    book, folder = made
    release = book.find(f"river-{BOARD}/2")
    releasing.sign(book, release, signing.load(folder / "daily"))
    for name, said in (
        ("full.suit", "sequence      2"),
        ("from-0001.bin", "base"),
        ("bundle.bin", "main.py"),
    ):
        assert said in "\n".join(release_show.file_lines((release.folder / name).read_bytes()))
    for data in (b"", b"{}", b"\xd8\x6b\xa0", bytes(100)):
        with pytest.raises(ReleaseError):
            release_show.file_lines(data)
