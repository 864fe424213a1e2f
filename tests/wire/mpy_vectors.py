"""Runs every golden case on a MicroPython, from the repository's root:  micropython tests/wire/mpy_vectors.py

On one without cryptolib (the WebAssembly build), tests/wasm/run_vectors.mjs lays tests/wire/aes.py at hand as
cryptolib; it is checked against FIPS-197 here before anything leans on it.
"""

import json
import sys

sys.path.insert(0, ".")

from cryptolib import aes

from tests.wire import vector_checks


def check_aes():
    """FIPS-197 appendix C.1, and the same block twice in a chain."""
    key = bytes(range(16))
    plain = bytes([index * 0x11 for index in range(16)])
    wanted = bytes.fromhex("69c4e0d86a7b0430d8cdb78070b4c55a")
    vector_checks.same(aes(key, 1).encrypt(plain), wanted, "FIPS-197 C.1")
    chained = aes(key, 2, bytes(16)).encrypt(plain + wanted)
    vector_checks.same(chained, wanted + aes(key, 1).encrypt(bytes(16)), "AES-CBC")


def main():
    check_aes()
    total = 0
    for name in sorted(vector_checks.CHECKS):
        with open("protocols/vectors/" + name + ".json") as file:
            data = json.load(file)
        count = vector_checks.run(name, data)
        print(f"{name}: {count} passed")
        total += count
    aes_from = getattr(aes, "SOURCE", "cryptolib")
    print(f"vectors={total} maxsize={sys.maxsize} aes={aes_from}")


main()
