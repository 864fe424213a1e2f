"""Give functions, methods and classes that several modules use the names of things in every MicroPython's ROM.

What fields.py does for data, for the rest, variables of modules as well: a name that a program brings along costs a
node 26 bytes of heap or more, and at about 620 of them the table of names takes 7 kB more at once. A name that only one
module uses is a short one already (shorten.py).

A name stays when it is asked for from outside, stands in a string, is passed as a keyword, is that of a module or
imported from one that is not ours, occurs in firmware.hal (whose stand-ins come from elsewhere), or is offered by
Python or MicroPython. A name of the ROM is given when the sources use it for nothing else. Lines stay where they are.
"""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from flash_tools.fields import STOCK
from flash_tools.naming import Names, assign
from flash_tools.shorten import OFFERED, Place, identifiers, local_names, places, replaced
from flash_tools.trees import CODE, nodes, walk

# Of modules that every port for these boards has: errno, uctypes, socket, ssl, re, random, heapq, deflate, framebuf,
# cmath, _thread, _asyncio, select, io; what a test finds in the ROM of the unix port (test_publics.py).
_IN_ROM = """
    EACCES EADDRINUSE EAGAIN EALREADY EBADF ECONNABORTED ECONNREFUSED ECONNRESET EEXIST EHOSTUNREACH EINPROGRESS
    EINVAL EIO EISDIR ENOBUFS ENODEV ENOENT ENOMEM ENOTCONN EOPNOTSUPP EPERM ETIMEDOUT errorcode ARRAY BIG_ENDIAN
    LITTLE_ENDIAN NATIVE INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 FLOAT32 FLOAT64 PTR VOID BFINT8 BFINT16
    BFINT32 BFUINT8 BFUINT16 BFUINT32 BF_LEN BF_POS SHORT INT LONG LONGLONG USHORT UINT ULONG ULONGLONG addressof
    bytearray_at bytes_at sizeof AF_INET AF_INET6 SOCK_STREAM SOCK_DGRAM SOCK_RAW SOL_SOCKET SO_REUSEADDR
    SO_BROADCAST accept bind connect getaddrinfo listen makefile recv recvfrom sendall sendto setblocking setsockopt
    settimeout fileno socket SSLContext wrap_socket CERT_REQUIRED PROTOCOL_TLS_CLIENT PROTOCOL_TLS_SERVER
    verify_mode load_cert_chain load_verify_locations get_ciphers set_ciphers cipher server_hostname server_side
    do_handshake_on_connect dump search sub group choice getrandbits randint randrange random uniform heapify
    heappop heappush DeflateIO AUTO RAW ZLIB GZIP FrameBuffer MVLSB MONO_VLSB RGB565 GS2_HMSB GS4_HMSB GS8 MONO_HLSB
    MONO_HMSB fill fill_rect pixel hline vline rect ellipse poly blit scroll text phase polar allocate_lock acquire
    release locked exit get_ident stack_size start_new_thread TaskQueue Task push cur_task coro done POLLIN POLLOUT
    POLLERR POLLHUP ipoll StringIO BytesIO IOBase enable disable complex delattr getter setter deleter indices
    pend_throw from_bytes to_bytes sha1 md5 VfsFat time_ns mem8 mem16 mem32 PinBase Signal RingIO binascii cryptolib
    hashlib uctypes framebuf heapq deflate errno cmath websocket tls asyncio
"""
MORE_STOCK = tuple(_IN_ROM.split())
_HAL = "firmware.hal"


def name_publics(
    sources: Mapping[str, str], keep: Iterable[str] = (), names: Names | None = None
) -> dict[str, str]:
    """Module name -> text. ``keep``: names that programs outside of ``sources`` use too."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    homes = Counter(name for tree in trees.values() for name in identifiers(tree) - local_names(tree))
    taken = {*OFFERED, *STOCK, *keep}
    for module, tree in trees.items():
        taken |= _other(tree, set(trees))
        taken |= {part for name in trees for part in name.split(".")}
        if module.startswith(_HAL):
            taken |= identifiers(tree)
    defined = {name for tree in trees.values() for name in _defined(tree)}
    used = {name for tree in trees.values() for name in identifiers(tree)} | taken
    ranked = sorted(
        (name for name in defined - taken if homes[name] > 1 and not name.startswith("_")),
        key=lambda name: (-homes[name], name),
    )
    names = names or Names()
    names.publics = new = assign(ranked, (name for name in MORE_STOCK if name not in used), names.publics)
    return {
        name: replaced(text, _all_places(trees[name], text, set(trees)), new)
        for name, text in sources.items()
    }


def _all_places(tree: ast.Module, text: str, ours: set[str]) -> Iterator[Place]:
    yield from places(tree, [line.encode() for line in text.split("\n")])
    for node in nodes(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ours:
            for alias in node.names:
                yield alias.lineno, alias.col_offset, alias.name


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in nodes(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def _other(tree: ast.Module, ours: set[str]) -> set[str]:
    """Names that are something else in this module than what it or another one of ours defines."""
    found: set[str] = set()
    for node in walk(tree, CODE):
        match node:
            case ast.Constant(value=str(text)):
                found.add(text)
            case ast.keyword(arg=str(name)):
                found.add(name)
            case ast.ImportFrom(module=module, names=names):
                found |= {name.asname for name in names if name.asname}
                if module not in ours:
                    found |= {name.name for name in names}
            case ast.Import(names=names):
                found |= {part for name in names for part in (*name.name.split("."), name.asname or "")}
    return found
