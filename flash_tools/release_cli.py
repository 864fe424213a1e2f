"""`tidegate release`: what a maintainer types to make an update, sign it, and know what it costs."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from flash_tools import node_types, release_micropython, release_show, signing
from flash_tools import release as releasing
from flash_tools.errors import ReleaseError
from flash_tools.images import image_of
from flash_tools.mint import ROOT, write_new
from flash_tools.naming import Names
from flash_tools.release_book import BOOK, Book, Release, alone
from flash_tools.shipped import image_files
from protocols.inspection.words import printable
from protocols.wire.release import FILE

app = typer.Typer(no_args_is_help=True, help="Build and sign releases for updates over the air (maintainer).")

BookOption = Annotated[Path, typer.Option("--releases", "-r", help="The folder of releases.")]
ReleaseArgument = Annotated[
    str, typer.Argument(metavar="RELEASE", help="As river-virtual/7; without a number the newest.")
]


@app.command()
def keygen(
    out: Annotated[
        Path, typer.Option("--out", help="The new file of the private key; keep it off gateways.")
    ],
    releases: BookOption = Path("releases"),
    vendor: Annotated[
        str | None, typer.Option("--vendor", help="Your domain name, when the folder of releases begins.")
    ] = None,
    algorithm: Annotated[str, typer.Option("--algorithm", help="es256 or hss-lms.")] = "es256",
    height: Annotated[
        int, typer.Option("--height", help="hss-lms: 5 or 10, for 32 or 1024 signatures in its life.")
    ] = 10,
    name: Annotated[str, typer.Option("--name", help="Whose it is, for people.")] = "",
) -> None:
    """Make a key that signs releases; the next release tells nodes to trust it.

    An hss-lms key has a second file, FILE.count: signatures it has made.
    Back the count up after each signature, and never sign with a copy.
    A key that comes out of a backup wants the newest count, or a number in
    it that is surely higher than all signatures it ever made; who does not
    know one revokes the key.
    """
    if algorithm not in signing.ALGORITHMS:
        near = get_close_matches(algorithm, signing.ALGORITHMS, 1)
        hint = f". Did you mean {near[0]}?" if near else ""
        raise ReleaseError(f"--algorithm {algorithm}: allowed are {', '.join(signing.ALGORITHMS)}{hint}")
    if height not in signing.HEIGHTS:
        raise ReleaseError(f"--height {height}: allowed are {', '.join(map(str, signing.HEIGHTS))}")
    _open_or_begin(releases, vendor)
    with alone(releases):
        book = _open_or_begin(releases, vendor)
        book.check_room()
        signer = _generate(out, algorithm, height)
        book.add(signer.algorithm, signer.public, name)
        _save(book, out)
    typer.echo(f"{signer.kid.hex()}  {algorithm}  {out}")
    if len(book.trusted) == 1:
        typer.echo(
            "One key only: if it is lost, no node can be updated over the air again; if it is stolen, none can\n"
            "be told. Make a second one (--algorithm hss-lms), and keep it where the first one is not."
        )


def _generate(out: Path, algorithm: str, height: int) -> signing.Signer:
    if algorithm != "hss-lms":
        return signing.generate(out, algorithm)
    with Progress(transient=True) as progress:
        task = progress.add_task("tree of one-time keys", total=1 << height)
        return signing.generate(out, algorithm, height, lambda done: progress.update(task, completed=done))


def _save(book: Book, key: Path) -> None:
    """With a key that was just made."""
    try:
        book.save()
    except ReleaseError as error:
        raise ReleaseError(
            f"{error}. The key is made all the same: when that is mended, tidegate release trust {key}"
        ) from error


@app.command()
def trust(
    key: Annotated[
        Path, typer.Argument(metavar="FILE", help="PEM of a private key, or of a public P-256 key.")
    ],
    releases: BookOption = Path("releases"),
    vendor: Annotated[
        str | None, typer.Option("--vendor", help="Your domain name, when the folder of releases begins.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Whose it is, for people.")] = "",
) -> None:
    """Take in a key that another tool made (openssl, a smart card): the next release tells nodes to trust it."""
    _open_or_begin(releases, vendor)
    algorithm, public = signing.load_public(key)
    with alone(releases):
        book = _open_or_begin(releases, vendor)
        kid = book.add(algorithm, public, name)
        book.save()
    typer.echo(f"{kid}  {signing.NAMES[algorithm]}  {key}")


def _open_or_begin(folder: Path, vendor: str | None) -> Book:
    if (folder / BOOK).exists():
        book = Book.load(folder)
        if vendor not in (None, book.data["vendor"]):
            raise ReleaseError(
                f"--vendor {vendor}: {folder / BOOK} is of {book.data['vendor']}, and nodes refuse another vendor"
            )
        return book
    if vendor is None:
        raise ReleaseError(
            f"{folder / BOOK} is missing: --vendor DOMAIN begins a folder of releases, "
            "and --releases names one that there is"
        )
    return Book.begin(folder, vendor)


@app.command()
def build(
    board: Annotated[str, typer.Option("--board", help="A folder of boards/.")],
    node_type: Annotated[
        str | None, typer.Option("--node", help="A node type of the firmware, as river.")
    ] = None,
    micropython: Annotated[
        Path | None,
        typer.Option(
            "--micropython", metavar="FILE", help="Instead of --node: MicroPython itself for a board."
        ),
    ] = None,
    releases: BookOption = Path("releases"),
    against: Annotated[
        list[int] | None,
        typer.Option(
            "--against", help="Make a delta from this release; may be repeated. Default: the last two."
        ),
    ] = None,
    sequence: Annotated[
        int | None, typer.Option("--sequence", help="Its number; default: one more than the newest.")
    ] = None,
    notes: Annotated[str, typer.Option("--notes", help="What it brings, in a sentence, for the page.")] = "",
    image: Annotated[
        bool, typer.Option("--image", help="Also app.img: its first way onto a node is USB.")
    ] = False,
) -> None:
    """Build a release: the bundle of all modules, and what is sent to nodes that run an earlier one."""
    Book.load(releases)
    node_types.choose("board", board, node_types.boards(ROOT), ROOT / "boards")
    if micropython is not None:
        with alone(releases):
            _build_micropython(Book.load(releases), micropython, node_type, board, sequence, notes)
        return
    if node_type is None:
        raise ReleaseError(
            "--node names the type of node, as river; --micropython a MicroPython for the board"
        )
    node_types.choose("node type", node_type, node_types.minted(ROOT), ROOT / "firmware/nodes")
    with Console().status("compiling …"), alone(releases):
        release = releasing.build(Book.load(releases), ROOT, node_type, board, against, sequence, notes)
        if image:
            tree = image_files(ROOT, release.files())
            write_new(release.folder / "app.img", image_of(board, tree).data, force=True)
    _air_table(Console(), release)
    if image:
        typer.echo(f"onto a node by USB: tidegate flash --release {release.folder} …")
    typer.echo(f"{release.folder}: built, not signed. Next: tidegate release sign {release.label} --key FILE")


def _build_micropython(
    book: Book, file: Path, node_type: str | None, board: str, sequence: int | None, notes: str
) -> None:
    if node_type is not None:
        raise ReleaseError(
            f"--node {node_type}: a MicroPython is for every node of board {board}; leave it away"
        )
    release = release_micropython.build(book, file, board, sequence, notes)
    size = int(release.record["size"])
    typer.echo(
        f"MicroPython {release.record['micropython']} for {board}, {size} B: over a cable only, never on the air"
    )
    typer.echo(f"{release.folder}: built, not signed. Next: tidegate release sign {release.label} --key FILE")


@app.command()
def sign(
    release: ReleaseArgument,
    key: Annotated[
        Path,
        typer.Option(
            "--key", help="The file of a private key; of hss-lms with its newest FILE.count beside it."
        ),
    ],
    releases: BookOption = Path("releases"),
) -> None:
    """Sign the manifests of a release, one for each payload, with a key that nodes trust already."""
    Book.load(releases)
    signer = signing.load(key)
    with alone(releases):
        book = Book.load(releases)
        found = book.find(release)
        written = releasing.sign(book, found, signer)
    if str(found.record["commit"] or "").endswith("+"):
        typer.echo(
            f"note: {found.label} was built from files that differ from commit {found.record['commit'][:-1]}",
            err=True,
        )
    for path in written:
        typer.echo(f"{path}  {path.stat().st_size} B")
    typer.echo(f"{found.label}: signed with {signing.NAMES[signer.algorithm]} key {signer.kid.hex()}")
    left = signing.left(key)
    if left is not None:
        typer.echo(f"The key has {left} signatures left in its life.")
    typer.echo(f"Next: {_after_signing(book, found)}")


def _after_signing(book: Book, found: Release) -> str:
    if release_micropython.is_one(found):
        return f"tidegate node update {found.label} --port …"
    if not releasing.trusting(book, found):
        return f"onto a node by cable, as its first one: tidegate flash --release {found.folder} …"
    return f"tidegate campaign add {found.folder} --why …"


@app.command()
def verify(
    release: ReleaseArgument,
    releases: BookOption = Path("releases"),
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Also build it anew from this source tree, and compare.")
    ] = False,
) -> None:
    """Check a release as nodes do: signatures, digests, and that each delta makes the bundle."""
    book = Book.load(releases)
    found = book.find(release)
    results = list(releasing.check(book, found))
    if rebuild:
        with Console().status("compiling …"):
            results.append(("rebuilt from the sources", _rebuilt(book, found)))
    for what, problem in results:
        typer.echo(f"{'FAILED' if problem else 'ok':6}  {what}{': ' + problem if problem else ''}")
    bad = sum(bool(problem) for _, problem in results)
    typer.echo(f"{found.label}: {'NOT as it should be' if bad else 'good'}")
    if bad:
        raise typer.Exit(1)


def _rebuilt(book: Book, found: Release) -> str:
    _must_be_program(found)
    node_type, board = found.record["node_type"], found.record["board"]
    after = found.record["after"]
    names = book.find(f"{node_type}-{board}/{after}").names if after else Names()
    was = found.files()
    # Which keys were trusted then, the book of today does not know.
    files = releasing.files_of(ROOT, book, found.sequence, node_type, board, names) | {FILE: was[FILE]}
    differing = sorted(path for path in files.keys() | was.keys() if files.get(path) != was.get(path))
    if not differing:
        return ""
    return (
        f"{len(differing)} files differ: {', '.join(differing[:5])}; it is of commit {found.record['commit']}"
    )


@app.command()
def inspect(
    what: Annotated[str, typer.Argument(metavar="RELEASE|FILE", help="A release, a .suit or a .bin file.")],
    releases: BookOption = Path("releases"),
) -> None:
    """Say what a release, an envelope or a payload contains. Verifies nothing."""
    path = Path(what)
    if path.is_file():
        for line in release_show.file_lines(path.read_bytes()):
            typer.echo(line)
        return
    found = Book.load(releases).find(what)
    record = found.record
    typer.echo(f"release       {found.label}, of commit {record['commit'] or 'unknown'}")
    if record["notes"]:
        typer.echo(f"notes         {printable(record['notes'])}")
    if release_micropython.is_one(found):
        envelope = found.envelope(found.payloads[0])
        for line in release_micropython.lines(found.payload(found.payloads[0])) + (
            release_show.envelope_lines(envelope) if envelope else ["not signed"]
        ):
            typer.echo(line)
        return
    typer.echo(f"bundle        {record['size']} B in {len(found.files())} files, SHA-256 {record['sha256']}")
    for payload in found.payloads:
        typer.echo("")
        envelope = found.envelope(payload)
        typer.echo(f"{payload.name}")
        lines = release_show.payload_lines(found.payload(payload))
        for line in lines + (release_show.envelope_lines(envelope) if envelope else ["not signed"]):
            typer.echo(f"  {line}")


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A release, as river-virtual/6.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="A later one of the same class.")],
    releases: BookOption = Path("releases"),
) -> None:
    """Say module by module what changed between two releases, and what the update costs on the air."""
    book = Book.load(releases)
    before, after = book.find(old), book.find(new)
    _must_be_program(before, after)
    _compare(Console(), before, after)


def _must_be_program(*releases: Release) -> None:
    for release in releases:
        if release_micropython.is_one(release):
            raise ReleaseError(
                f"{release.label} is a MicroPython: one image, sent as it is; release inspect shows it"
            )


def _compare(console: Console, before: Release, after: Release) -> None:
    from protocols import delta as making

    found = release_show.changes(before.files(), after.files())
    table = Table(box=None, pad_edge=False)
    for column, side in (
        ("module", "left"),
        ("", "left"),
        ("before", "right"),
        ("after", "right"),
        ("in the delta", "right"),
    ):
        table.add_column(column, justify=side, overflow="fold")  # type: ignore[arg-type]
    for change in found:
        if change.what != "same":
            table.add_row(
                change.path, change.what, str(change.old or ""), str(change.new or ""), str(change.delta)
            )
    console.print(table)
    size = len(making.make(before.files(), after.files()))
    share = 100 * size / int(after.record["size"])
    console.print(
        f"{before.label} → {after.label}: {release_show.summary(found)}; "
        f"delta {size} B, {share:.1f} % of {after.record['size']} B",
        soft_wrap=True,
        highlight=False,
    )
    for air in (release_show.on_air(size, sf) for sf in release_show.SPREADING_FACTORS):
        frames = f"{air.frames:5d} {'frame ' if air.frames == 1 else 'frames'}"
        console.print(f"  SF{air.sf:<3}{frames}  {release_show.seconds(air.us):>9}", highlight=False)


def _air_table(console: Console, release: Release) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("payload", no_wrap=True)
    for name in ("bytes", "%", *(f"SF{sf}" for sf in release_show.SPREADING_FACTORS)):
        table.add_column(name, justify="right", no_wrap=True)
    for row in release_show.air_rows(release):
        cells = (f"{air.frames}, {release_show.seconds(air.us)}" for air in row["air"])
        table.add_row(row["name"], str(row["size"]), f"{row['share']:.1f}", *cells)
    console.print(table)
    console.print("% of the bundle; frames and time on the air (CN470), before repeats", highlight=False)


@app.command()
def revoke(
    kid: Annotated[
        str, typer.Argument(metavar="KEY", help="The id of a key, as keygen and inspect show it.")
    ],
    why: Annotated[str, typer.Option("--why", help="Kept in the book.")],
    releases: BookOption = Path("releases"),
) -> None:
    """Take a key's trust away: nodes refuse it once they run a release that is built after this."""
    Book.load(releases)
    with alone(releases):
        book = Book.load(releases)
        book.revoke(kid, why)
        book.save()
    typer.echo(
        f"{kid}: revoked in {releases / BOOK}. Nodes learn it from the next release: build it, sign it with "
        f"another key ({', '.join(key['kid'] for key in book.trusted)}), and roll it out."
    )


@app.command()
def keys(releases: BookOption = Path("releases")) -> None:
    """List the keys, and which of them nodes trust."""
    book = Book.load(releases)
    for key in book.data["keys"]:
        why = book.data["revoked"].get(key["kid"])
        state = "trusted" if why is None else f"revoked: {why}"
        typer.echo(f"{key['kid']}  {key['algorithm']:8}  {key['name'] or '-':16}  {state}")


@app.command("list")
def list_releases(releases: BookOption = Path("releases")) -> None:
    """List all releases: what each is of, and whether it is signed."""
    every = Book.load(releases).all()
    for release in every:
        signed = sum(release.envelope(payload) is not None for payload in release.payloads)
        whole = len(release.payloads)
        state = "signed" if signed == whole else f"{signed} of {whole} signed" if signed else "not signed"
        record = release.record
        typer.echo(
            f"{release.label}  {record['commit'] or '-':13}  {record['size']:6d} B  {state:10}  "
            + printable(record["notes"])
        )
    if not every:
        typer.echo(f"{releases}: no releases yet; tidegate release build makes one")


@app.command()
def page(
    release: ReleaseArgument,
    releases: BookOption = Path("releases"),
    out: Annotated[
        Path | None, typer.Option("--out", help="The file; default: page.html of the release.")
    ] = None,
) -> None:
    """Write a page about a release: what changed, how large it is, how long it is on the air."""
    from flash_tools.release_book import write
    from flash_tools.release_page import render

    book = Book.load(releases)
    found = book.find(release)
    _must_be_program(found)
    target = out or found.folder / "page.html"
    _must_be_page(target)
    write(target, render(book, found).encode())
    typer.echo(f"{target}")


def _must_be_page(target: Path) -> None:
    """What is there may be replaced if it is a page, too: a key is a file that somebody may name by mistake."""
    if not target.exists():
        return
    try:
        with target.open("rb") as stream:
            is_page = stream.read(15) == b"<!doctype html>"
    except OSError as error:
        raise ReleaseError(f"{target}: {error.strerror}") from error
    if not is_page:
        raise ReleaseError(f"{target} exists and is no page: choose another --out")
