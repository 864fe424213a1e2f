"""Certificates for tests: an authority in a folder, and what it signs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID


def authority(folder: Path) -> None:
    """Make ca.pem and ca.key."""
    _make(folder, "ca", None, timedelta(days=365))


def certificate(folder: Path, name: str, *, valid: timedelta = timedelta(days=90)) -> None:
    """Make NAME.pem and NAME.key, signed by the authority of the folder; it is for 127.0.0.1, too.

    `valid` counts from now; a negative one makes a certificate that has expired.
    """
    _make(folder, name, folder / "ca", valid)


def _make(folder: Path, name: str, signer: Path | None, valid: timedelta) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names: list[x509.GeneralName] = [x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + min(valid, timedelta()) - timedelta(days=1))
        .not_valid_after(now + valid)
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    if signer is None:
        made = builder.issuer_name(subject).sign(key, hashes.SHA256())
    else:
        issuer = x509.load_pem_x509_certificate(signer.with_suffix(".pem").read_bytes())
        signing = load_pem_private_key(signer.with_suffix(".key").read_bytes(), None)
        assert isinstance(signing, ec.EllipticCurvePrivateKey)
        made = (
            builder.issuer_name(issuer.subject)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(signing, hashes.SHA256())
        )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = folder / f"{name}.key"
    file.touch(mode=0o600)
    file.write_bytes(private)
