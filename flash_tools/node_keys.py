"""Keys of the nodes that this bench made: of a mint file, or of a provisioning folder whose book keeps them sealed."""

from __future__ import annotations

import json
from pathlib import Path

from flash_tools.bench_numbers import FILE_NAME
from flash_tools.errors import BenchError
from flash_tools.mint import MINT_FILE, parse_address
from protocols.inspection.frames import Secrets
from protocols.wire.limits import MASTER_SALT_SIZE, MASTER_SECRET_SIZE

# Where they are when nobody says it, the first that is there.
PLACES = (Path("provisioning"), Path("minted") / MINT_FILE)
_BOOK = "units.jsonl"


def place(named: Path | None) -> Path:
    """The file or the folder with the keys."""
    if named is not None:
        if not named.exists():
            raise BenchError(
                f"--keys {named}: is not there. Name the {MINT_FILE} that minting wrote, or a bench folder"
            )
        return named
    for one in PLACES:
        if (one / _BOOK if one.suffix == "" else one).exists():
            return one
    raise BenchError(
        f"there are no keys here: neither {PLACES[0]}/ nor {PLACES[1]}. Say with --keys where they are, or ask through "
        "the gateway that has them: --gateway"
    )


def secrets_of(source: Path) -> dict[int, Secrets]:
    """Address -> keys. A message never shows one."""
    return _of_folder(source) if source.is_dir() else _of_file(source)


def numbers_file(source: Path) -> Path:
    """Where the numbers are kept that were used with these keys."""
    return (source if source.is_dir() else source.parent) / FILE_NAME


def _of_folder(folder: Path) -> dict[int, Secrets]:
    from flash_tools import book
    from flash_tools.key_store import MASTER_KEY_FILE, KeyStore, load_master_key
    from flash_tools.provisioning import Units

    if not (folder / _BOOK).exists():
        raise BenchError(f"--keys {folder}: holds no {_BOOK}: it is no folder of a provisioning station")
    units = Units(book.read(folder / _BOOK)).all()
    keys = KeyStore(load_master_key(folder / MASTER_KEY_FILE))
    return {
        unit.address: Secrets(*keys.open(unit.mac, unit.address, unit.sealed))
        for unit in units
        if unit.is_alive
    }


def _of_file(file: Path) -> dict[int, Secrets]:
    found: dict[int, Secrets] = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"--keys {file}: can not be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            secret, salt = bytes.fromhex(row["master_secret"]), bytes.fromhex(row["master_salt"])
            if (len(secret), len(salt)) != (MASTER_SECRET_SIZE, MASTER_SALT_SIZE):
                raise ValueError
            found[parse_address(row["address"])] = Secrets(secret, salt)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # Not shown: a line holds a key.
            raise BenchError(f"{file}:{number}: is no line that minting wrote") from None
    return found
