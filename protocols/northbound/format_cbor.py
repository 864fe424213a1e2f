"""CBOR: what format_json.py says, in the data model of CBOR (RFC 8949 section 6.2): same keys, same values.

A value that JSON writes with a point is a float of 64 bits here: 7.48 has no exact shorter form. Made from the JSON
text so that the two can never differ; it costs a few times what the text does.
"""

from __future__ import annotations

import json

import cbor2


def from_json(text: bytes) -> bytes:
    """The CBOR of one JSON object of format_json.py."""
    return cbor2.dumps(json.loads(text))
