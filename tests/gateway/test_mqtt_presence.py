"""MQTT on a real Mosquitto: whether we are there, under which topics, and which certificate we show."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.certificates import DAY_MS, Expiry
from gateway.config_mqtt import MqttSection
from gateway.errors import ConfigError, NorthboundError
from gateway.northbound.mqtt import MqttSender, MqttSession, MqttSettings
from gateway.northbound.runner import Destination
from gateway.northbounds import tls_files
from tests.certificates import authority, certificate
from tests.gateway.mqtt_far_side import Mosquitto
from tests.gateway.mqtt_subscriber import Subscriber

pytestmark = pytest.mark.xdist_group("mosquitto")


def ignore(token: int, taken: bool) -> None:
    """For sessions whose confirmations are not looked at."""


async def connected(settings: MqttSettings, on_confirm: Callable[[int, bool], None] = ignore) -> MqttSession:
    return await MqttSender(settings).connect(on_confirm)


async def refusal(sender: MqttSender) -> str:
    """Why no session lasts. With TLS 1.3 a client hears of its certificate's refusal when it believes to be in."""
    try:
        session = await sender.connect(ignore)
    except NorthboundError as error:
        return str(error)
    return await asyncio.wait_for(session.lost(), 10)


def test_whoever_subscribes_knows_whether_the_gateway_is_there() -> None:
    async def scenario(broker: Mosquitto) -> None:
        settings = MqttSettings("127.0.0.1", broker.port, "gw", status_topic="t/gw-1/status", gateway="gw-1")
        async with Subscriber(broker.port, "#") as early:
            session = await connected(settings)
            online = json.dumps({"gateway": "gw-1", "state": "online"}).encode()
            assert await early.until("t/gw-1/status") == online
            async with Subscriber(broker.port, "#") as late:
                assert await late.until("t/gw-1/status") == online
                assert late.got[0].retained
            session.abort()  # as when the machine loses its power: nobody says goodbye
            await early.until("t/gw-1/status", online.replace(b"online", b"offline"))

    broker = Mosquitto()
    try:
        asyncio.run(scenario(broker))
    finally:
        broker.close()


def test_the_confirmation_of_a_birth_confirms_no_record() -> None:
    async def scenario(broker: Mosquitto) -> None:
        confirmed: dict[int, bool] = {}
        settings = MqttSettings("127.0.0.1", broker.port, "gw", status_topic="s", gateway="gw-1")
        session = await connected(settings, lambda token, taken: confirmed.update({token: taken}))
        tokens = [session.publish(Destination("a", "s", "0001", "readings"), b"{}") for _ in range(5)]
        while not set(tokens) <= confirmed.keys():  # noqa: ASYNC110 - a socket has no event of ours
            await asyncio.sleep(0)
        assert len(set(tokens)) == 5
        assert len(confirmed) <= 6, "the birth's at most is beside them, under a number of its own"
        session.abort()

    broker = Mosquitto()
    try:
        asyncio.run(scenario(broker))
    finally:
        broker.close()


def test_topics_may_have_the_levels_of_an_area_code() -> None:
    async def scenario(broker: Mosquitto) -> None:
        topic = "{gateway}/{city}/{district}/{street}/{area}/{node}/{stream}"
        async with Subscriber(broker.port, "#") as subscriber:
            session = await connected(MqttSettings("127.0.0.1", broker.port, "gw", topic, gateway="gw-1"))
            session.publish(Destination("330110001001", "s", "0001", "events"), b"{}")
            await subscriber.until("gw-1/3301/330110/330110001/330110001001/0001/events")
            session.abort()

    broker = Mosquitto()
    try:
        asyncio.run(scenario(broker))
    finally:
        broker.close()


class Secured:
    """A broker that lets in who shows a certificate of the authority in `folder`; a gateway that shows gw.pem."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority(folder)
        certificate(folder, "localhost")
        self.serve("localhost")

    def serve(self, name: str) -> None:
        """With that certificate."""
        for file in self.folder.iterdir():
            file.chmod(0o644)  # Mosquitto leaves root before it reads them
        self.folder.chmod(0o755)
        self.broker = Mosquitto(
            cafile=self.folder / "ca.pem", certfile=self.folder / f"{name}.pem", keyfile=self.folder / f"{name}.key",
            require_certificate="true",
        )  # fmt: skip

    def settings(self) -> MqttSettings:
        """Of a gateway whose files are read now."""
        section = MqttSection(
            name="city", host="localhost", port=self.broker.port, tls=True, ca_file=str(self.folder / "ca.pem"),
            cert_file=str(self.folder / "gw.pem"), key_file=str(self.folder / "gw.key"),
        )  # fmt: skip
        tls = tls_files(section, lambda: time.time_ns() // 1_000_000)
        return MqttSettings("localhost", self.broker.port, "gw", tls=tls, keepalive_s=1)


@pytest.fixture
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)
    secured = Secured(folder)
    yield secured
    secured.broker.close()


def test_a_renewed_certificate_is_shown_without_a_restart(
    secured: Secured, caplog: pytest.LogCaptureFixture
) -> None:
    """The sender is the one of a running daemon: only the files change under it."""
    folder = secured.folder
    certificate(folder, "gw", valid=timedelta(days=-1))
    sender = MqttSender(secured.settings())

    async def scenario() -> None:
        assert await refusal(sender)
        assert "gw.pem ended" in caplog.text
        (folder / "gw.pem").unlink()
        await refusal(sender)
        assert "gw.pem: No such file" in caplog.text
        certificate(folder, "gw")
        session = await sender.connect(ignore)
        # Half written, and then whole, while the session is up.
        whole = (folder / "gw.key").read_bytes()
        (folder / "gw.key").write_bytes(whole[:40])
        assert not sender._settings.tls.renewed()  # type: ignore[union-attr]
        assert not session.gone.done()
        certificate(folder, "gw")
        assert "were renewed" in await asyncio.wait_for(session.lost(), 10)
        session.abort()
        session = await sender.connect(ignore)
        session.abort()

    asyncio.run(scenario())


def test_an_impostor_of_the_broker_is_told_and_gets_nothing(secured: Secured, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    authority(other)
    certificate(secured.folder, "gw")
    (secured.folder / "ca.pem").write_bytes((other / "ca.pem").read_bytes())
    with pytest.raises(NorthboundError, match=r"is not trusted: .*ca_file"):
        asyncio.run(connected(secured.settings()))


@pytest.mark.parametrize(
    ("name", "days", "told"),
    [
        ("elsewhere", 90, r"is not trusted: .*`host` must be one"),
        ("localhost", -1, r"is not trusted: .*expired.* owner must renew"),
    ],
)
def test_a_broker_with_a_wrong_certificate_is_told_with_what_to_do(
    secured: Secured, name: str, days: int, told: str
) -> None:
    secured.broker.close()
    certificate(secured.folder, "gw")
    certificate(secured.folder, name, valid=timedelta(days=days))
    secured.serve(name)
    with pytest.raises(NorthboundError, match=told):
        asyncio.run(connected(secured.settings()))


def test_a_key_under_a_password_is_told_at_the_start_and_nobody_is_asked(secured: Secured) -> None:
    certificate(secured.folder, "gw")
    key = load_pem_private_key((secured.folder / "gw.key").read_bytes(), None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (secured.folder / "gw.key").write_bytes(sealed)
    with pytest.raises(ConfigError, match="protected by a password"):
        secured.settings()


def test_the_end_of_a_certificate_is_told_before_it_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority(tmp_path)
    certificate(tmp_path, "gw", valid=timedelta(days=90))
    expiry = Expiry("city", tmp_path / "gw.pem")
    first = expiry.days_left(0)
    assert first is not None
    end_ms = int(first * DAY_MS)
    with caplog.at_level(logging.WARNING):
        for days in (90, 31, 29.5, 29, 8, 6.5, 6, 0.5, -2, -3):
            left = expiry.days_left(end_ms - int(days * DAY_MS))
            assert left == pytest.approx(days)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    assert [word in line for word, line in zip(("29.5 days", "6.5 days", "0.5 days"), told, strict=True)] == [
        True
    ] * 3
    (tmp_path / "gw.pem").unlink()
    assert expiry.days_left(0) is None
