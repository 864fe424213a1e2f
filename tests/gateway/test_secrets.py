"""A run of everything with the log at debug: no key, password or token is in anything that leaves the gateway.

The far sides are hostile: they send back what they were sent, so that whoever quotes an answer would quote a password.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import signal
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from gateway import keys
from gateway.operations import LOOKS
from tests.gateway.fake_node import SALT, SECRET, FakeNode, Pty, PtyNode
from tests.gateway.test_daemon import joined
from tests.gateway.test_daemon_process import ROOT, daemon, import_node
from tests.gateway.test_real_disk import asked

MASTER = bytes(range(7, 39))
MQTT_PASSWORD, MQTT_TOKEN = "correct-horse-battery", "tb-gaEw2pQx81LmVbN7"
HJ_PASSWORD, ORDERS_TOKEN = "Zq81Xv", "hotline-5Rk2mWv9TzY"

CONFIG = """
[gateway]
trial_s = 3600
[keys]
master_key_file = "master.key"
[clock]
assume_synchronised = true
[health]
port = 0
[api]
port = 0
[log]
level = "debug"
[store]
reserve_mib = 1
[[serial]]
name = "river-1"
path = "port"
[[mqtt]]
name = "city"
host = "127.0.0.1"
port = {echo}
username = "gateway"
password_file = "mqtt.pw"
[[mqtt]]
name = "things"
host = "127.0.0.1"
port = {echo}
payload = "thingsboard"
token_file = "things.pw"
[[hj212]]
name = "province"
host = "127.0.0.1"
port = {echo}
password_file = "hj.pw"
stations = {{ "yuhang-3" = "010000A8900016F000169DC0" }}
[[work_orders]]
name = "hotline"
url = "http://127.0.0.1:{http}/orders"
token_file = "orders.pw"
"""


def forms(secret: bytes) -> Iterator[bytes]:
    """How a secret may be written down."""
    yield secret
    text = secret.hex()
    yield text.encode()
    yield text.upper().encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret).rstrip(b"=")
    yield repr(secret)[2:-1].encode()
    yield " ".join(f"{byte:02x}" for byte in secret).encode()
    yield str(list(secret))[1:-1].encode()


def found(secrets: dict[str, bytes], place: str, data: bytes) -> list[str]:
    return [
        f"{name} is in {place}" for name, secret in secrets.items() for form in forms(secret) if form in data
    ]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def http_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuses everything, and says why: with what it was asked."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        body = b"refused: " + head.replace(b"\r\n", b" | ")
        writer.write(b"HTTP/1.1 400 no " + head[-120:].replace(b"\r\n", b" ") + b"\r\nContent-Length: ")
        writer.write(str(len(body)).encode() + b"\r\n\r\n" + body)
        await writer.drain()
    writer.close()


async def cli(folder: Path, *words: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tidegate", "gateway", *words, "--config", str(folder / "gateway.toml"), cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return out


async def api(port: object, token: str, line: str, body: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(str(port)))
    head = (
        f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    return answer


async def everything(folder: Path, secrets: dict[str, bytes]) -> dict[str, bytes]:
    """What a gateway says in a life in which much goes wrong, by place."""
    said: dict[str, bytes] = {}
    await import_node(folder)
    peer = PtyNode(FakeNode(), Pty(folder / "port"))
    async with daemon(folder) as child:
        stderr = child.process.stderr
        assert stderr is not None
        await child.logged("port_open")
        await joined(peer)
        peer.node.keep(code=2)  # an alarm
        peer.send(*peer.node.pending(), b"\xff" * 40)
        await peer.until(lambda: peer.node.acked == 1)
        token = (
            (await cli(folder, "token", "add", "page", "--role", "admin", "--why", "test")).decode().split()
        )
        text = next(word for word in token if word.startswith("tg_"))
        secrets["api token"] = text.encode()
        ports = {str(line["event"]): line["port"] for line in child.seen if "port" in line}
        for line in ("health_listens", "api_listens"):
            if line not in ports:
                ports[line] = (await child.logged(line))["port"]
        health, door = ports["health_listens"], ports["api_listens"]
        for page in ("/healthz", "/readyz", "/metrics"):
            said[page] = (await asked(health, page))[1].encode()
        for name in sorted(LOOKS):
            said[f"api {name}"] = await api(door, text, f"GET /api/v1/{name}")
        # A stranger's token, a body with a key in it, a query with a token: none comes back, none is noted.
        said["api stranger"] = await api(door, text[:-1] + "x", "GET /api/v1/status")
        said["api query"] = await api(door, "no", f"GET /api/v1/status?token={text}")
        row = {
            "text": f'{{"address": "0012", "master_secret": "{SECRET.hex()}", "x": 1}}',
            "name": "n",
            "why": "w",
        }
        said["api body"] = await api(door, text, "POST /api/v1/node.import", json.dumps(row).encode())
        # The rest of what the command line shows is what the API has just shown.
        for words in (("status",), ("audit", "--records"), ("check",), ("reload",),
                      ("command", "send", "0012", "read-now", "--why", "test")):  # fmt: skip
            said[f"tidegate gateway {' '.join(words)}"] = await cli(folder, *words)
        said["tidegate gateway backup"] = await cli(folder, "backup", str(folder / "copy.tgz"))
        child.process.send_signal(signal.SIGTERM)
        log = [json.dumps(line).encode() for line in child.seen]
        said["the log"] = b"\n".join(log) + await stderr.read()
        assert await child.process.wait() == 0
    peer.detach()
    with tarfile.open(folder / "copy.tgz") as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            said[f"the backup's {member.name}"] = b"" if file is None else file.read()
    for path in sorted((folder / "data").iterdir()):
        if path.is_file():
            said[f"data/{path.name}"] = path.read_bytes()
    return said


def test_no_secret_is_in_anything_that_leaves_the_gateway(tmp_path: Path) -> None:
    key = tmp_path / "master.key"
    keys.write_file(key)
    key.write_text(MASTER.hex() + "\n")
    passwords = {
        "mqtt.pw": MQTT_PASSWORD,
        "things.pw": MQTT_TOKEN,
        "hj.pw": HJ_PASSWORD,
        "orders.pw": ORDERS_TOKEN,
    }
    for name, password in passwords.items():
        (tmp_path / name).write_text(password + "\n")
        (tmp_path / name).chmod(0o600)
    secrets = {"master key": MASTER, "node secret": SECRET, "node salt": SALT}
    secrets |= {name: password.encode() for name, password in passwords.items()}

    async def scenario() -> dict[str, bytes]:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        http = await asyncio.start_server(http_echo, "127.0.0.1", 0)
        ports = {"echo": server.sockets[0].getsockname()[1], "http": http.sockets[0].getsockname()[1]}
        await asyncio.to_thread((tmp_path / "gateway.toml").write_text, CONFIG.format(**ports))
        try:
            async with asyncio.timeout(120):
                return await everything(tmp_path, secrets)
        finally:
            server.close()
            http.close()

    said = asyncio.run(scenario())
    told = b"\n".join(said.values())
    assert b'"level": "debug"' in said["the log"], "it was a run at debug"
    for name in ("city", "things", "province", "hotline"):
        assert name.encode() in said["the log"], f"{name} has tried, and something was said of it"
    assert b"copy.tgz" in said["tidegate gateway backup"]
    leaks = [leak for place, data in said.items() for leak in found(secrets, place, data)]
    assert not leaks, leaks
    print(f"places={len(said)} bytes={len(told)} secrets={len(secrets)} leaks={len(leaks)}")


def test_the_search_finds_what_it_looks_for() -> None:
    for form in forms(MASTER):
        assert found({"key": MASTER}, "here", b"before " + form + b" behind")
