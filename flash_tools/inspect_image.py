"""What is in an image, by its content: littlefs partitions, partition tables, program images of Espressif's chips.

An image comes from anywhere: nothing of it is believed, everything is bounded, and no key in it is ever told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from struct import Struct
from struct import error as StructError  # noqa: N812  (the standard library's lower-case class)

from littlefs import LittleFS
from littlefs.errors import LittleFSError

from flash_tools import shipped, slots_on_chip
from flash_tools.errors import InspectError
from flash_tools.inspect_program import PROGRAM_MAGIC, TABLE_MAGIC, tell_program, tell_table
from protocols.inspection import outbox, updates
from protocols.northbound.told import Line, Told
from protocols.wire import cbor, codes, document, identity
from protocols.wire import release as release_file
from protocols.wire.errors import WireError
from protocols.wire.join import epoch_number

IMAGE_BYTES_MAX = 32 * 1024 * 1024
# Of one file system: an `app` has some 60, a `state` some 100.
FILES_MAX = 2000
DEPTH_MAX = 8
OUTBOX = "/outbox/"
IDENTITY = "/identity"
PIECES = "/update"
_NAME = b"littlefs"
_NAME_AT = 8
_SUPERBLOCK = Struct("<4xIII")  # behind the name: disk version, block size, block count
_BLOCK_SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768)
_TABLE_OFFSET = 0x8000
_MPY = b"M"


def tell(data: bytes, name: str) -> list[Told]:
    """Everything that is to be said of the file called ``name``."""
    if is_littlefs(data):
        return _tell_littlefs(data, name)
    if data.startswith(TABLE_MAGIC):
        return [tell_table(data, name)]
    if data[_TABLE_OFFSET : _TABLE_OFFSET + 2] == TABLE_MAGIC:
        return _tell_flash(data, name, 0)
    if data[_TABLE_OFFSET - 0x1000 : _TABLE_OFFSET - 0x1000 + 2] == TABLE_MAGIC:
        return _tell_flash(data, name, 0x1000)  # a release for an ESP32 begins where its ROM looks
    if data.startswith(PROGRAM_MAGIC):
        return [tell_program(data, name)]
    return [Told(name, [Line("bytes", str(len(data)))], [_unknown(data)], [])]


def is_littlefs(data: bytes) -> bool:
    return bool(_block_size(data))


def _unknown(data: bytes) -> str:
    if not data.strip(b"\xff"):
        return "nothing but FFh: erased flash, never written"
    if not data.strip(b"\x00"):
        return "nothing but zeros"
    return (
        f"it begins with {data[:8].hex(' ')}: neither littlefs (its name in the first or second block), nor a "
        "partition table (AA 50), nor a program of an ESP32 (E9). tidegate inspect what tells what else it may be"
    )


# --- a whole flash, or a release file -------------------------------------------------------------


def _tell_flash(data: bytes, name: str, begin: int) -> list[Told]:
    """A table at 8000h, and each partition of it that lies in the file."""
    table = tell_table(data[_TABLE_OFFSET - begin :][:0x1000], f"{name}: partition table")
    told = [table]
    boot = data[0x1000 - begin if data[0x1000 - begin :][:1] == PROGRAM_MAGIC else 0 :]
    if boot.startswith(PROGRAM_MAGIC):
        told.insert(0, tell_program(boot[: _TABLE_OFFSET - begin], f"{name}: bootloader"))
    for label, offset, size in _partitions(data, begin):
        part = data[max(0, offset - begin) :][:size]
        if part.strip(b"\xff"):
            if part.startswith(PROGRAM_MAGIC):
                told.append(tell_program(part, f"{name}: {label}"))
            elif is_littlefs(part):
                told.extend(_tell_littlefs(part, f"{name}: {label}"))
    return told


def _partitions(data: bytes, begin: int) -> Iterator[tuple[str, int, int]]:
    from flash_tools.inspect_program import entries

    for entry in entries(data[_TABLE_OFFSET - begin :][:0x1000]):
        if entry.offset - begin < len(data):
            yield entry.label, entry.offset, entry.size


# --- littlefs -----------------------------------------------------------------------------------


def _block_size(data: bytes) -> int:
    """Where the superblock says it, in the first block or, when that one is spoilt, in the second; 0: not littlefs."""
    for start in (0, *_BLOCK_SIZES):
        if data[start + _NAME_AT : start + _NAME_AT + len(_NAME)] != _NAME:
            continue
        try:
            _, size, _ = _SUPERBLOCK.unpack_from(data, start + _NAME_AT + len(_NAME))
        except StructError:
            continue
        if size in _BLOCK_SIZES and start in (0, size):
            return int(size)
    return 0


def read_littlefs(data: bytes) -> tuple[dict[str, bytes], list[str]]:
    """Path -> content of all files, and what could not be read. InspectError when nothing can."""
    size = _block_size(data)
    if not size or len(data) < 2 * size:
        raise InspectError(f"{len(data)} bytes that are no littlefs image: {_unknown(data)}")
    flash = LittleFS(block_size=size, block_count=len(data) // size, mount=False)
    flash.context.buffer = bytearray(data[: len(data) // size * size])
    try:
        flash.mount()
    except (LittleFSError, ValueError) as error:
        raise InspectError(
            f"littlefs does not mount: {error}. The image is damaged, cut, or of another size"
        ) from error
    files: dict[str, bytes] = {}
    problems: list[str] = []
    _walk(flash, "/", 0, files, problems)
    return files, problems


def _walk(flash: LittleFS, folder: str, depth: int, files: dict[str, bytes], problems: list[str]) -> None:
    if depth > DEPTH_MAX:
        problems.append(f"{folder}: folders nested deeper than {DEPTH_MAX}")
        return
    try:
        names = [(entry.name, entry.type) for entry in flash.scandir(folder)]
    except (LittleFSError, UnicodeDecodeError) as error:
        problems.append(f"{folder}: can not be listed: {error}")
        return
    for name, kind in sorted(names):
        path = f"{folder.rstrip('/')}/{name}"
        if len(files) >= FILES_MAX:
            problems.append(f"more than {FILES_MAX} files: the rest is left out")
            return
        if kind == 2:
            _walk(flash, path, depth + 1, files, problems)
            continue
        try:
            with flash.open(path, "rb") as file:
                files[path] = file.read()
        except (LittleFSError, UnicodeError, ValueError, MemoryError) as error:
            problems.append(f"{path}: can not be read: {error}")


def _tell_littlefs(data: bytes, name: str) -> list[Told]:
    told = Told(name, [], [], [])
    size = _block_size(data)
    told.lines.append(Line("littlefs", f"{len(data) // size} blocks of {size}", f"{len(data)} bytes"))
    if len(data) % size:
        told.problems.append(f"{len(data) % size} bytes behind the last whole block: the file is cut")
    try:
        files, problems = read_littlefs(data)
    except InspectError as error:
        told.problems.append(str(error))
        return [told]
    told.problems.extend(problems)
    told.lines.append(Line("files", str(len(files)), f"{sum(map(len, files.values()))} bytes"))
    _tell_slots(files, told)
    if _compiled(files):
        told.lines.append(Line(".mpy", _compiled(files)))
    _tell_identity(files, told)
    _tell_documents(files, told)
    if PIECES in files:
        _tell_update(updates.tell_pieces(files[PIECES]), told)
    for path, content in files.items():
        if not path.startswith(OUTBOX) and path != IDENTITY and not _is_document(path):
            digest = hashlib.sha256(content).hexdigest()[:16]
            told.lines.append(Line(path, f"{len(content):6d} bytes", f"sha256 {digest}…"))
    segments = outbox_files(files)
    if segments:
        told.lines.append(Line("outbox", f"{len(segments)} segments", "tidegate inspect outbox tells more"))
    return [told]


def _tell_slots(files: Mapping[str, bytes], told: Told) -> None:
    """Which program of an `app` partition is started, and what is in either slot."""
    slots = slots_on_chip.slots_of(files)
    if slots is None:
        return
    folder = slots.trial or slots.running
    version = shipped.said(_below(files, folder))
    if version:
        told.lines.append(Line("firmware", version, f"out of {folder}"))
    told.lines.append(Line("runs", slots.running, slots.told or "a program that is no release"))
    if slots.trial is not None:
        told.lines.append(
            Line("trial", slots.trial, f"{slots.starts} starts, {slots.crashes} since one came to something")
        )
    for folder in slots.releases:
        data = files.get(f"{folder}/{release_file.FILE}")
        if data is None:
            continue
        try:
            release = release_file.decode(data)
        except WireError as error:
            told.problems.append(f"{folder}/{release_file.FILE}: {error}")
            continue
        trusted = ", ".join(key.kid.hex() for key in release.keys if not key.is_revoked)
        told.lines.append(Line(f"release {folder}", str(release.sequence), f"trusts {trusted}"))


def _below(files: Mapping[str, bytes], folder: str) -> dict[str, bytes]:
    return {path[len(folder) + 1 :]: data for path, data in files.items() if path.startswith(folder + "/")}


def _compiled(files: Mapping[str, bytes]) -> str:
    """What a MicroPython must be able to load."""
    forms = {(c[1], c[3]) for c in files.values() if c[:1] == _MPY and len(c) > 4}
    return "; ".join(f"version {version}, small integers of {bits} bits" for version, bits in sorted(forms))


def _tell_identity(files: Mapping[str, bytes], told: Told) -> None:
    if IDENTITY not in files:
        return
    try:
        who = identity.decode(files[IDENTITY])
    except WireError as error:
        told.problems.append(f"{IDENTITY}: {error}")
        return
    area = "" if who.area is None else f", area {who.area}"
    told.lines.append(
        Line(
            "identity",
            f"node {who.address:04x}",
            f"{who.node_type} on {who.board}{area}; its key is not shown",
        )
    )
    if who.radio is not None:
        plan, channel, channels, sf = who.radio
        told.lines.append(
            Line("radio", f"plan {plan}", f"{channels} channels from {channel} on, SF {sf or 'any'}")
        )


# --- documents ----------------------------------------------------------------------------------


def _is_document(path: str) -> bool:
    parts = path.split("/")
    return len(parts) == 3 and f"/{parts[1]}" in document.FOLDERS and "." not in parts[2]


def documents(files: Mapping[str, bytes]) -> tuple[dict[str, bytes], list[str]]:
    """Name -> data of the copy that counts, and the copies that do not check out."""
    best: dict[str, tuple[int, bytes]] = {}
    problems = []
    for path, content in files.items():
        if not _is_document(path) or not content:
            continue
        name = path.split("/")[2]
        found = document.decode(name, content)
        if found is None:
            problems.append(f"{path}: this copy does not check out; the other one counts")
        elif name not in best or found[0] > best[name][0]:
            best[name] = found
    return {name: data for name, (_, data) in best.items()}, problems


def _tell_documents(files: Mapping[str, bytes], told: Told) -> None:
    known, problems = documents(files)
    told.problems.extend(problems)
    for name, data in sorted(known.items()):
        if name == updates.PENDING:
            _tell_update(updates.tell_pending(data), told)
            continue
        tellers = {"settings": _settings, "boots": _boots, "command": _command, "channel": _channel}
        try:
            value = tellers[name](data) if name in tellers else f"{len(data)} bytes"
        except (WireError, StructError, LookupError, TypeError, ValueError) as error:
            told.problems.append(f"document {name}: can not be told: {error}")
            continue
        told.lines.append(Line(f"document {name}", value))


def _tell_update(part: Told, told: Told) -> None:
    told.lines.extend(Line(f"update: {line.field}", line.value, line.meaning) for line in part.lines)
    told.problems.extend(f"{part.protocol}: {problem}" for problem in part.problems)


def _settings(data: bytes) -> str:
    version, values = cbor.loads(data)
    names = codes.SETTING_NAMES
    told = (
        f"{names[key] if 0 <= key < len(names) else f'key {key}'}={value}" for key, value in values.items()
    )
    return f"version {version}: {' '.join(told)}"


def _boots(data: bytes) -> str:
    return str(Struct("<I").unpack_from(data)[0])


def _command(data: bytes) -> str:
    ended = "has its result" if len(data) > 4 else "was begun, and nobody can say how it ended"
    return f"the latest, id {Struct('<I').unpack_from(data)[0]}, {ended}"


def _channel(data: bytes) -> str:
    if not data:
        return "no epoch: it was given up"
    number, bound = epoch_number(data[:16]), int.from_bytes(data[16:22], "big")
    senders = [
        f"{data[at]:02x} up to {int.from_bytes(data[at + 1 : at + 6], 'big')}"
        for at in range(22, len(data), 6)
    ]
    return (
        f"epoch {number:012x}, PIVs below {bound} may be used; heard senders {', '.join(senders) or 'none'}"
    )


def outbox_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Segments by their names."""
    return {path.removeprefix(OUTBOX): content for path, content in files.items() if path.startswith(OUTBOX)}


def tell_outbox(data: bytes, name: str, shows_records: bool) -> list[Told]:
    """The outbox of a `state` image, or one segment file."""
    if not is_littlefs(data):
        return outbox.tell({name: data}, None, shows_records)
    files, problems = read_littlefs(data)
    known, damaged = documents(files)
    told = outbox.tell(outbox_files(files), known.get("outbox"), shows_records)
    told[0].problems.extend(problems)
    told[0].problems.extend(problem for problem in damaged if problem.split(":")[0].endswith("/outbox"))
    return told
