"""The TLS files of a connection: loaded when they change, and the last good ones kept.

Whoever renews certificates writes files and tells nobody. The files are looked at before each connection and while
one is up; a pair that is half written (the certificate new, the key old) does not load, and then the old one goes on
until it is whole.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path

from gateway.certificates import Expiry
from gateway.errors import ConfigError

log = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int, int], ...]


class TlsFiles:
    """What encrypts a connection and checks the far side, and who we are there. Making it raises ConfigError."""

    def __init__(
        self, name: str, ca_file: str | None, cert_file: str | None, key_file: str | None,
        now_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self.name = name
        self._files = {"ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}
        self._now_ms = now_ms
        self._expiry = None if cert_file is None else Expiry(name, Path(cert_file))
        self._bad: Stamp | None = None
        self._stamp = self._look()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """For the next connection."""
        self.renewed()
        return self._context

    def renewed(self) -> bool:
        """Whether other files, good ones, are there since the last question."""
        self.days_left()  # tells what is to be told, also where nobody looks at metrics
        stamp = self._look()
        if stamp in (self._stamp, self._bad):
            return False
        try:
            self._context = self._load()
        except ConfigError as error:
            self._bad = stamp
            log.warning("%s The ones from before are used until then.", error)
            return False
        self._stamp, self._bad = stamp, None
        log.info("%s: its TLS files were renewed", self.name)
        return True

    def days_left(self) -> float | None:
        """Until our own certificate ends; negative when it has. None without one."""
        return None if self._expiry is None else self._expiry.days_left(self._now_ms())

    def remark(self) -> str:
        """What may explain that a far side does not want us; "" mostly."""
        days = self.days_left()
        if days is None or days > 0:
            return ""
        return (
            f". This gateway's certificate, {self._files['cert_file']}, ended {-days:.0f} days ago: renew it"
        )

    def _look(self) -> Stamp:
        found = []
        for file in self._files.values():
            try:
                status = os.stat(file) if file is not None else None
            except OSError:
                status = None
            found.append((0, 0, 0) if status is None else (status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)

    def _load(self) -> ssl.SSLContext:
        for key, file in self._files.items():
            try:
                if file is not None:
                    Path(file).open("rb").close()
            except OSError as exc:  # ssl says that a file is missing, but not which one
                raise ConfigError(
                    [f"{self.name}: its TLS files cannot be used: {key} {file}: {exc.strerror}."]
                ) from exc
        ca_file, cert_file, key_file = self._files.values()
        try:
            context = ssl.create_default_context(cafile=ca_file)
            if cert_file is not None:
                context.load_cert_chain(cert_file, key_file, password=_no_password)
        except (OSError, ValueError, ssl.SSLError) as exc:
            raise ConfigError([f"{self.name}: its TLS files cannot be used: {exc}."]) from exc
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def _no_password() -> str:
    """OpenSSL would ask on the terminal, and wait for ever."""
    raise ValueError("key_file is protected by a password, which nobody is there to type")


def distrust(error: ssl.SSLCertVerificationError, key: str) -> str:
    """Why a far side's certificate is not taken, and what to do; `key` of the table says where the far side is."""
    told = f"is not trusted: {error.verify_message}."
    if "expired" in error.verify_message:
        return told + " Its owner must renew the certificate; or this machine's clock is wrong."
    if "not yet valid" in error.verify_message:
        return told + " This machine's clock is probably behind."
    if "mismatch" in error.verify_message.lower():
        return told + f" The name or address in `{key}` must be one that the certificate is for."
    return told + " Name the authority that signed it: ca_file."
