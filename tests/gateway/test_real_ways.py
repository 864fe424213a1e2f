"""Faults for real: a name that no resolver knows, a certificate that has expired, a log that is torn.

The daemon is a process, the resolver is the C library's with another /etc/hosts, the broker is Mosquitto with TLS.
Nobody does anything to the daemon: it says what is wrong, and goes on when that is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from hil_tests.world import real_disk
from hil_tests.world.real_disk import Namespace
from tests.certificates import authority, certificate
from tests.gateway.mqtt_far_side import Mosquitto
from tests.gateway.test_daemon import joined, write_config
from tests.gateway.test_daemon_process import CONFIG, import_node
from tests.gateway.test_real_disk import Station, asked, living

MISSING = real_disk.missing()
needs_mounts = pytest.mark.skipif(MISSING is not None, reason=f"names of its own for a test: {MISSING}")
NAME = "broker.city.test"


class Broker:
    """Mosquitto with TLS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority(folder)
        self.certify(-1)
        more = {"user": "root"} if os.geteuid() == 0 else {}
        self.mosquitto = Mosquitto(certfile=folder / "broker.pem", keyfile=folder / "broker.key", **more)

    def certify(self, days: int) -> None:
        """A certificate that is good for so long from now on."""
        certificate(self.folder, NAME, valid=timedelta(days=days))
        for kind in ("pem", "key"):
            self.folder.joinpath(f"{NAME}.{kind}").replace(self.folder / f"broker.{kind}")

    def renew(self) -> None:
        self.certify(90)
        self.mosquitto.read_files_again()

    def restart(self) -> None:
        """Sessions end."""
        self.mosquitto.again()

    def table(self) -> str:
        return (
            f'[[mqtt]]\nname = "city"\nhost = "{NAME}"\nport = {self.mosquitto.port}\ntls = true\n'
            f'ca_file = "{self.folder / "ca.pem"}"\n'
        )


class Names:
    """The names that a machine knows: its /etc/hosts alone, for the server of its resolver does not answer."""

    def __init__(self, space: Namespace, folder: Path) -> None:
        self.hosts = folder / "hosts"
        self.forget()
        folder.joinpath("resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        for file in (self.hosts, folder / "resolv.conf"):
            space.do("mount", "--bind", str(file), f"/etc/{file.name}")

    def forget(self) -> None:
        self.hosts.write_text("127.0.0.1 localhost\n")

    def know(self) -> None:
        self.hosts.write_text(f"127.0.0.1 localhost {NAME}\n")


async def journey(station: Station, broker: Broker, names: Names, rng: random.Random) -> None:
    """No name, then a certificate that has expired, then all is well; and the first two again, some times."""
    async with living(station) as child:
        port = next(line["port"] for line in child.seen if line["event"] == "health_listens")
        await child.says("resolution")
        assert await why(port, "resolution")
        names.know()
        await child.says("has expired")
        assert await why(port, "owner must renew")
        await station.gives(rng.randrange(1, 9))
        broker.renew()
        await child.says("connected again")
        for _ in range(rng.randrange(3)):
            broker.certify(-1)
            names.forget()
            broker.restart()
            await child.says("resolution")
            await station.gives(rng.randrange(1, 9))
            names.know()
            await child.says("has expired")
            await station.gives(rng.randrange(1, 9))
            broker.renew()
            await child.says("connected again")
        await station.gives(1)
        given = len(station.peer.node.records)
        while 'backlog_records{northbound="city"} 0.0' not in (await asked(port, "/metrics"))[1]:
            pass
        child.process.send_signal(signal.SIGTERM)
        assert await child.process.wait() == 0
    print(station.audited())
    assert f"delivered={given} queued=0 missing=0 lost=0 copies=0 holds=yes" in station.audited()


async def why(port: object, words: str) -> bool:
    """Whether /readyz gives them as the reason that the city is not connected."""
    _, page = await asked(port, "/readyz")
    return any(
        "mqtt:city: not connected: " in reason and words in reason for reason in json.loads(page)["reasons"]
    )


def travel(folder: Path, seed: int) -> None:
    write_config(folder)  # makes the master key
    broker = Broker(folder)
    try:
        (folder / "gateway.toml").write_text(CONFIG + broker.table())
        with Namespace() as space:
            names = Names(space, folder)

            async def scenario() -> None:
                station = Station(folder, space.prefix)
                async with asyncio.timeout(60):
                    await journey(station, broker, names, random.Random(seed))
                station.peer.detach()

            asyncio.run(scenario())
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
    finally:
        broker.mosquitto.close()


@needs_mounts
def test_a_name_that_nobody_knows_and_a_certificate_that_has_expired_are_told_and_waited_for(
    tmp_path: Path,
) -> None:
    travel(tmp_path, 1)


@pytest.mark.soak
@needs_mounts
@pytest.mark.parametrize("seed", range(2, 7))
def test_names_and_certificates_that_come_and_go(tmp_path: Path, seed: int) -> None:
    travel(tmp_path, seed)


# ---- a log that was torn ---------------------------------------------------------------------------------------------


def tear(folder: Path, synced: int, rng: random.Random) -> str:
    """As a loss of power may leave the log: nothing that was synced is touched. What was done."""
    log = folder / "data" / "tidegate.db-wal"
    data = bytearray(log.read_bytes())
    at = rng.randrange(synced, len(data) + 1)
    kind = rng.choice(("cut", "noise", "zeros", "longer"))
    if kind == "cut":
        del data[at:]
    elif kind == "noise":
        data[at:] = rng.randbytes(len(data) - at)
    elif kind == "zeros":
        data[at:] = bytes(len(data) - at)
    else:
        data += rng.randbytes(rng.randrange(1, 20_000))
    log.write_bytes(data)
    return f"{kind} at {at} of {len(data)}, {synced} synced"


def torn(folder: Path, seeds: range) -> None:
    """Lives of one daemon, each ended by a kill while it commits; the log is torn behind what was acknowledged."""
    write_config(folder)
    (folder / "gateway.toml").write_text(CONFIG)
    log = folder / "data" / "tidegate.db-wal"

    async def scenario() -> None:
        station = Station(folder, [])
        node = station.peer.node
        await import_node(folder)
        is_first = True
        for seed in seeds:
            rng = random.Random(seed)
            async with station.running() as child:
                await child.logged("port_open")
                if is_first:
                    await joined(station.peer)
                is_first = False
                await station.gives(rng.randrange(1, 40))
                # Whatever is written from here on is of records that nobody was told are safe: what the line brings
                # the node is lost with the power.
                station.peer.detach()
                synced = log.stat().st_size
                for _ in range(rng.randrange(1, 40)):
                    node.keep()
                station.peer.send(*node.pending())
                deadline_s = time.monotonic() + 30  # only ends a test that has failed
                while log.stat().st_size == synced and time.monotonic() < deadline_s:
                    pass  # until a commit is under way
                child.process.kill()
                await child.process.wait()
            with contextlib.suppress(OSError):  # the line is empty, or nobody is there
                while os.read(station.peer.pty.master, 4096):
                    pass
            station.peer.attach()
            print(f"seed={seed} {tear(folder, synced, rng)}")
        async with station.running() as child:
            await child.logged("port_open")
            await station.gives(1)
            child.process.send_signal(signal.SIGTERM)
            assert await child.process.wait() == 0
        station.peer.detach()
        given = len(node.records)
        assert station.audited().startswith(f"produced={given} stored={given} ")
        assert station.audited().endswith("missing=0 lost=0 copies=0 holds=yes")

    asyncio.run(scenario())


def test_a_log_that_a_loss_of_power_has_torn(tmp_path: Path) -> None:
    torn(tmp_path, range(1))


@pytest.mark.soak
def test_fifty_logs_that_are_torn(tmp_path: Path) -> None:
    torn(tmp_path, range(100, 150))
