"""RFC 8613 appendix C: key derivation (C.1 to C.3) and the protected requests (C.4 to C.6), as published.

The responses (C.7, C.8) have no counterpart here: a Tidegate frame always carries its own PIV and names itself in
its additional data.
"""

from __future__ import annotations

from typing import Any

SECRET = "0102030405060708090a0b0c0d0e0f10"
SALT = "9e7ca92223786340"
CONTEXT = "37cbf3210017a2d3"
PLAIN = "01b3747631"

# section, side, salt, ID Context, id of the sender, sender key, common IV
DERIVED: list[tuple[str, str, str, str | None, str, str, str]] = [
    ("C.1.1", "client", SALT, None, "", "f0910ed7295e6ad4b54fc793154302ff", "4622d4dd6d944168eefb54987c"),
    ("C.1.2", "server", SALT, None, "01", "ffb14e093c94c9cac9471648b4f98710", "4622d4dd6d944168eefb54987c"),
    ("C.2.1", "client", "", None, "00", "321b26943253c7ffb6003b0b64d74041", "be35ae297d2dace910c52e99f9"),
    ("C.2.2", "server", "", None, "01", "e57b5635815177cd679ab4bcec9d7dda", "be35ae297d2dace910c52e99f9"),
    ("C.3.1", "client", SALT, CONTEXT, "", "af2a1300a5e95788b356336eeecd2b92", "2ca58fb85ff1b81c0b7181b85e"),
    (
        "C.3.2",
        "server",
        SALT,
        CONTEXT,
        "01",
        "e39a0c7c77b43f03b4b39ab9a268699f",
        "2ca58fb85ff1b81c0b7181b85e",
    ),
]

# section, salt, ID Context, kid context, id of the sender, nonce, AAD, OSCORE option value, ciphertext and tag
SEALED: list[tuple[str, str, str | None, str, str, str, str, str, str]] = [
    (
        "C.4",
        SALT,
        None,
        "",
        "",
        "4622d4dd6d944168eefb549868",
        "8368456e63727970743040488501810a40411440",
        "0914",
        "612f1092f1776f1c1668b3825e",
    ),
    (
        "C.5",
        "",
        None,
        "",
        "00",
        "bf35ae297d2dace910c52e99ed",
        "8368456e63727970743040498501810a4100411440",
        "091400",
        "4ed339a5a379b0b8bc731fffb0",
    ),
    (
        "C.6",
        SALT,
        CONTEXT,
        CONTEXT,
        "",
        "2ca58fb85ff1b81c0b7181b84a",
        "8368456e63727970743040488501810a40411440",
        "19140837cbf3210017a2d3",
        "72cd7273fd331ac45cffbe55c3",
    ),
]


def cases() -> list[dict[str, Any]]:
    """As cases of envelope.json. An OSCORE option value is the head of a frame: flag, PIV, kid context, kid."""
    derived = [
        {
            "name": f"RFC 8613 {section} {side}",
            "check": "derive",
            "secret": SECRET,
            "salt": salt,
            "id_context": context,
            "kid": kid,
            "key": key,
            "common_iv": common_iv,
        }
        for section, side, salt, context, kid, key, common_iv in DERIVED
    ]
    sealed = [
        {
            "name": f"RFC 8613 {section}",
            "check": "seal",
            "secret": SECRET,
            "salt": salt,
            "id_context": context,
            "kid": kid,
            "piv": 20,
            "plain": PLAIN,
            "kid_context": kid_context,
            "nonce": nonce,
            "aad": aad,
            "frame": option + ciphertext,
        }
        for section, salt, context, kid_context, kid, nonce, aad, option, ciphertext in SEALED
    ]
    return derived + sealed
