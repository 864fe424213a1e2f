"""Golden cases of updates and signatures, on any Python; called by vector_checks.py."""

import io

from protocols.wire import delta, es256, lms, manifest, release
from protocols.wire.bundle import BundleError
from protocols.wire.manifest import Device, Key, Manifest


class Wrong(Exception):
    """A golden case that this implementation does not reproduce."""


def unhex(text):
    return bytes.fromhex(text)


def check_signatures(case, what):
    verify = {-7: es256.verify, -46: lms.verify}[case["algorithm"]]
    got = verify(unhex(case["key"]), unhex(case["message"]), unhex(case["signature"]))
    if got is not case["valid"]:
        raise Wrong(f"{what}: {got}, wanted {case['valid']}")


def check_updates(case, what):
    call = {"manifest": _manifest, "delta": _delta, "release": _release}[case["check"]]
    reason = None
    got = wanted = None
    try:
        got, wanted = call(case)
    except (manifest.Refused, BundleError) as error:
        reason = error.reason
    if reason != case.get("reason") or got != wanted:
        raise Wrong(f"{what}: {reason or got!r}, wanted {case.get('reason') or wanted!r}")


def _manifest(case):
    device = case["device"]
    device = Device(unhex(device[0]), unhex(device[1]), *device[2:])
    got = manifest.match(unhex(case["envelope"]), device, _keys(case["keys"]))
    sequence, size, digest, payload_size, payload_digest, kid = case["manifest"]
    return got, Manifest(sequence, size, unhex(digest), payload_size, unhex(payload_digest), unhex(kid))


def _keys(rows):
    return tuple([Key(unhex(kid), algorithm, unhex(key), gone) for kid, algorithm, key, gone in rows])


def _delta(case):
    payload = unhex(case["payload"])
    target = Tree({})
    got = delta.apply(io.BytesIO(payload), Tree(_files(case["base"])), target)
    wanted = (case["size"], unhex(case["sha256"])), _files(case["files"]), unhex(case["for"])
    return (got, target.files, delta.base_of(payload[: delta.HEAD_BYTES])), wanted


def _files(rows):
    return {path: unhex(data) for path, data in rows.items()}


def _release(case):
    got = release.decode(unhex(case["hex"]))
    sequence, vendor, class_id, keys = case["release"]
    return got, release.Release(sequence, unhex(vendor), unhex(class_id), _keys(keys))


class Tree:
    """A tree (bundle.Tree) in memory."""

    def __init__(self, files):
        self.files = dict(files)

    def walk(self):
        for path in sorted(self.files):
            yield path, len(self.files[path])

    def open(self, path):
        return io.BytesIO(self.files[path])

    def create(self, path):
        self.files[path] = b""
        return _Out(self.files, path)


class _Out:
    def __init__(self, files, path):
        self._files = files
        self._path = path

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def write(self, data):
        self._files[self._path] += bytes(data)
