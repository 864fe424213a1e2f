"""MQTT on a real Mosquitto: whether we are there, under which topics, and which certificate we show."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from gateway.certificates import DAY_MS, Expiry
from gateway.config_mqtt import MqttSection
from gateway.errors import NorthboundError
from gateway.northbound.mqtt import MqttSender, MqttSession, MqttSettings, _Client, prefixes
from gateway.northbound.runner import Destination
from gateway.northbounds import tls_context
from tests.certificates import authority, certificate
from tests.gateway.mqtt_far_side import Mosquitto

pytestmark = pytest.mark.xdist_group("mosquitto")


class Subscriber:
    """Everything that a broker tells, in order."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._client = _Client(f"subscriber-{id(self)}")

    async def begin(self, port: int) -> None:
        subscribed = asyncio.Event()
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *granted: subscribed.set()
        await self._client.connect("127.0.0.1", port)
        self._client.subscribe("#", qos=1)
        await asyncio.wait_for(subscribed.wait(), 10)

    def _on_message(self, client: object, topic: str, payload: bytes, *rest: object) -> int:
        self.heard.put_nowait((topic, payload))
        return 0

    async def next(self) -> tuple[str, bytes]:
        return await asyncio.wait_for(self.heard.get(), 10)


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
        early, late = Subscriber(), Subscriber()
        await early.begin(broker.port)
        session = await connected(settings)
        online = ("t/gw-1/status", json.dumps({"gateway": "gw-1", "state": "online"}).encode())
        assert await early.next() == online
        await late.begin(broker.port)
        assert await late.next() == online, "it is retained"
        session.abort()  # as when the machine loses its power: nobody says goodbye
        topic, payload = await early.next()
        assert (topic, json.loads(payload)["state"]) == ("t/gw-1/status", "offline")

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
        session.abort()

    broker = Mosquitto()
    try:
        asyncio.run(scenario(broker))
    finally:
        broker.close()


def test_topics_may_have_the_levels_of_an_area_code() -> None:
    assert prefixes("330110001001") == {
        "province": "33",
        "city": "3301",
        "district": "330110",
        "street": "330110001",
    }
    assert prefixes("330106")["street"] == "330106"
    assert prefixes("unassigned")["city"] == "unassigned"

    async def scenario(broker: Mosquitto) -> None:
        subscriber = Subscriber()
        await subscriber.begin(broker.port)
        topic = "{gateway}/{city}/{district}/{street}/{area}/{node}/{stream}"
        session = await connected(MqttSettings("127.0.0.1", broker.port, "gw", topic, gateway="gw-1"))
        session.publish(Destination("330110001001", "s", "0001", "events"), b"{}")
        assert (await subscriber.next())[0] == "gw-1/3301/330110/330110001/330110001001/0001/events"
        session.abort()

    broker = Mosquitto()
    try:
        asyncio.run(scenario(broker))
    finally:
        broker.close()


class Secured:
    """A broker that lets in who shows a certificate of the authority in `folder`."""

    def __init__(self, folder: Path) -> None:
        authority(folder)
        certificate(folder, "localhost")
        for file in folder.iterdir():
            file.chmod(0o644)  # Mosquitto leaves root before it reads them
        folder.chmod(0o755)
        self.broker = Mosquitto(
            cafile=folder / "ca.pem", certfile=folder / "localhost.pem", keyfile=folder / "localhost.key",
            require_certificate="true",
        )  # fmt: skip
        section = MqttSection(
            name="city", host="localhost", port=self.broker.port, tls=True, ca_file=str(folder / "ca.pem"),
            cert_file=str(folder / "gw.pem"), key_file=str(folder / "gw.key"),
        )  # fmt: skip
        tls = partial(tls_context, section)
        self.settings = MqttSettings("localhost", self.broker.port, "gw", tls=tls)


@pytest.fixture
def secured(tmp_path_factory: pytest.TempPathFactory) -> Secured:
    folder = tmp_path_factory.mktemp("tls")
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)
    return Secured(folder)


def test_a_renewed_certificate_is_shown_without_a_restart(secured: Secured) -> None:
    """The sender is the one of a running daemon: only the files change under it."""
    folder = Path(secured.settings.tls.args[0].ca_file).parent  # type: ignore[attr-defined]
    sender = MqttSender(secured.settings)

    async def scenario() -> None:
        certificate(folder, "gw", valid=timedelta(days=-1))
        assert await refusal(sender)
        (folder / "gw.pem").unlink()
        assert "gw.pem: No such file" in await refusal(sender)
        certificate(folder, "gw")
        session = await sender.connect(ignore)
        session.abort()

    try:
        asyncio.run(scenario())
    finally:
        secured.broker.close()


def test_an_impostor_of_the_broker_is_told_and_gets_nothing(secured: Secured, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    authority(other)
    folder = Path(secured.settings.tls.args[0].ca_file).parent  # type: ignore[attr-defined]
    certificate(folder, "gw")
    (folder / "ca.pem").write_bytes((other / "ca.pem").read_bytes())
    try:
        with pytest.raises(NorthboundError, match="certificate verify failed"):
            asyncio.run(connected(secured.settings))
    finally:
        secured.broker.close()


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
