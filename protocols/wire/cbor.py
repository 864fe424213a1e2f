"""CBOR as SPEC.md section 2 allows it: `dumps` writes the one form, `loads` takes no other.

cbor_portable.py is the definition; on CPython cbor_host.py does the same sooner with cbor2.
"""

import sys

from protocols.wire import cbor_portable as _portable

dumps = _portable.dumps
loads = _portable.loads

if sys.implementation.name != "micropython":
    try:
        from protocols.wire import cbor_host
    except ImportError:  # a bench tool without cbor2
        pass
    else:
        loads = cbor_host.loads
