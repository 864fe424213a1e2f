"""Keys that sign releases: nobody else reads them, none is replaced, and no leaf signs twice."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from struct import unpack_from

import pytest

from flash_tools import signing
from flash_tools.errors import ReleaseError
from protocols.wire import es256, lms


def test_a_key_file_is_its_owners_alone_and_never_replaced(tmp_path: Path) -> None:
    for algorithm in signing.ALGORITHMS:
        path = tmp_path / algorithm
        signing.generate(path, algorithm, height=5)
        for file in (path, *tmp_path.glob(f"{algorithm}.count")):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        before = path.read_bytes()
        with pytest.raises(ReleaseError, match="never replaced"):
            signing.generate(path, algorithm, height=5)
        assert path.read_bytes() == before
        path.chmod(0o640)
        with pytest.raises(ReleaseError, match="chmod 600"):
            signing.load(path)


def test_each_algorithm_signs_what_nodes_verify(tmp_path: Path) -> None:
    for algorithm, verify in (("es256", es256.verify), ("hss-lms", lms.verify)):
        signing.generate(tmp_path / algorithm, algorithm, height=5)
        signer = signing.load(tmp_path / algorithm)
        signature = signer.sign(b"a manifest")
        assert verify(signer.public, b"a manifest", signature)
        assert not verify(signer.public, b"another one", signature)


def test_an_es256_signature_needs_no_luck(tmp_path: Path) -> None:
    signer = signing.generate(tmp_path / "key", "es256")
    assert signer.sign(b"the same") == signer.sign(b"the same")


def test_a_leaf_signs_once_whoever_asks_and_then_the_key_is_spent(tmp_path: Path) -> None:
    path = tmp_path / "key"
    signing.generate(path, "hss-lms", height=5)

    def sign(_: int) -> int:
        # A signer of its own each time, as each run of the command is.
        leaf: int = unpack_from(">I", signing.load(path).sign(b"m"), 4)[0]
        return leaf

    with ThreadPoolExecutor(8) as pool:
        leaves = list(pool.map(sign, range(32)))
    assert sorted(leaves) == list(range(32))
    assert signing.left(path) == 0
    with pytest.raises(ReleaseError, match="rotate"):
        signing.load(path).sign(b"one too many")


def test_a_leaf_counts_as_used_before_anything_is_signed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    signer = signing.generate(path, "hss-lms", height=5)

    def power_cut(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(signing.lms_sign, "sign", power_cut)
        with pytest.raises(KeyboardInterrupt):
            signer.sign(b"m")
    assert signing.left(path) == 31
    assert unpack_from(">I", signer.sign(b"m"), 4)[0] == 1


@pytest.mark.parametrize("count", [None, b"", b"-1\n", b"x"])
def test_a_count_that_is_lost_or_damaged_is_never_guessed(tmp_path: Path, count: bytes | None) -> None:
    path = tmp_path / "key"
    signer = signing.generate(path, "hss-lms", height=5)
    signing.count_file(path).unlink()
    if count is not None:
        signing.count_file(path).write_bytes(count)
    with pytest.raises(ReleaseError, match="revoke"):
        signer.sign(b"m")


def test_what_is_no_key_of_ours_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    other = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for data, said in (
        (other, "P-256"),
        (b"hello", "PEM"),
        (b"-----BEGIN TIDEGATE HSS-LMS PRIVATE KEY", "backup"),
    ):
        path = tmp_path / "key"
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(ReleaseError, match=said):
            signing.load(path)
    with pytest.raises(ReleaseError, match="keygen"):
        signing.load(tmp_path / "missing")
