"""Keys of the nodes that this bench made: of a mint file, or of a provisioning folder whose book keeps them sealed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from flash_tools.bench_numbers import FILE_NAME
from flash_tools.errors import BenchError
from flash_tools.mint import MINT_FILE, parse_address
from protocols.inspection.frames import Secrets
from protocols.wire.limits import MASTER_SALT_SIZE, MASTER_SECRET_SIZE

# Where they are when nobody says it; a node's are in one of them.
PLACES = (Path("provisioning"), Path("minted") / MINT_FILE)
_BOOK = "units.jsonl"


class Keys(NamedTuple):
    """``sources``: which file or folder has a node's."""

    secrets: dict[int, Secrets]
    sources: dict[int, Path]

    def numbers_file(self, address: int) -> Path:
        """Where the numbers are kept that were used with this node's keys."""
        source = self.sources[address]
        return (source if source.is_dir() else source.parent) / FILE_NAME


def find(named: Path | None) -> Keys:
    """All keys of the file or the folder that was named, or of the places where they usually are."""
    if named is not None and not named.exists():
        raise BenchError(
            f"--keys {named}: is not there. Name the {MINT_FILE} that minting wrote, or a bench folder"
        )
    there = [named] if named is not None else [one for one in PLACES if _is_there(one)]
    if not there:
        raise BenchError(
            f"there are no keys here: neither {PLACES[0]}/ nor {PLACES[1]}. Say with --keys where they are, or ask "
            "through the gateway that has them: --gateway"
        )
    found = Keys({}, {})
    for source in there:
        for address, secrets in secrets_of(source).items():
            found.secrets.setdefault(address, secrets)
            found.sources.setdefault(address, source)
    return found


def _is_there(place: Path) -> bool:
    return (place if place.suffix else place / _BOOK).exists()


def secrets_of(source: Path) -> dict[int, Secrets]:
    """Address -> keys. A message never shows one."""
    return _of_folder(source) if source.is_dir() else _of_file(source)


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
