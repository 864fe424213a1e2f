"""The management API: who may ask what, what comes twice, and what a stranger can do to it, which is nothing."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from gateway import config as configs
from gateway import limits
from gateway.alarm_operations import AlarmOperations
from gateway.api import OPERATORS, Api, role_for
from gateway.campaign_files import read_folder
from gateway.campaign_operations import CampaignOperations
from gateway.errors import CommandError, ConfigError
from gateway.operations import LOOKS, Operations
from gateway.store_settings import StoreSettings
from gateway.tokens import ADMIN, OPERATOR, VIEWER, Tokens
from gateway.web import HttpServer
from tests.certificates import authority, certificate
from tests.gateway.desk import BY, Desk, desk
from tests.gateway.release_files import write_release

NODE = 0x12


class Served:
    """An API over a real store, asked through a real socket."""

    def __init__(self, desk: Desk, server: HttpServer, api: Api, tokens: Tokens) -> None:
        self.desk = desk
        self.server = server
        self.api = api
        self.tokens = tokens
        self.texts: dict[str, str] = {}
        self._keys = 0

    async def raw(self, data: bytes) -> tuple[int, dict[str, str], Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(data)
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]), headers, json.loads(body) if body else None

    async def ask(self, path: str, role: str | None = None, **headers: str) -> tuple[int, Any]:
        lines = [f"GET /api/v1{path} HTTP/1.1", "Host: x", *self._headers(role, headers), "", ""]
        status, _, content = await self.raw("\r\n".join(lines).encode())
        return status, content

    async def change(
        self,
        operation: str,
        words: dict[str, Any],
        role: str,
        key: str | None = None,
        at_s: int | None = None,
    ) -> tuple[int, Any]:
        if key is None:
            self._keys += 1
            key = f"change-{self._keys:012d}"
        body = json.dumps({"why": "test", **words})
        when = self.desk.clock.unix_ms() // 1000 if at_s is None else at_s
        extra = {"Idempotency-Key": key, "Request-Time": str(when), "Content-Length": str(len(body))}
        lines = [f"POST /api/v1/{operation} HTTP/1.1", "Host: x", *self._headers(role, extra), "", body]
        status, _, content = await self.raw("\r\n".join(lines).encode())
        return status, content

    def _headers(self, role: str | None, more: dict[str, str]) -> list[str]:
        pairs = dict(more)
        if role is not None:
            pairs["Authorization"] = f"Bearer {self.texts[role]}"
        return [f"{name}: {value}" for name, value in pairs.items()]

    async def identify(self, role: str = OPERATOR, **options: Any) -> tuple[int, Any]:
        words = {"node": "0012", "command": "read-now", "ttl_s": 60}
        return await self.change("command.send", words, role, **options)


@asynccontextmanager
async def served(folder: Path, settings: StoreSettings | None = None) -> AsyncIterator[Served]:
    with desk(folder, settings=settings) as made:
        tokens = Tokens(made.store, made.clock, random.Random(1).randbytes)
        operations = Operations(made.registry, made.commands, made.wishes, tokens)
        AlarmOperations(made.store, made.clock).serve(operations)
        CampaignOperations(made.store, made.registry, made.clock).serve(operations)
        api = Api(operations, tokens, made.clock, structlog.get_logger())
        listening = asyncio.Event()
        server = HttpServer(
            "api", "127.0.0.1", 0, api.handle, structlog.get_logger(),
            body_bytes_max=limits.API_BODY_BYTES_MAX, on_listening=listening.set,
        )  # fmt: skip
        task = asyncio.create_task(server.run())
        await listening.wait()
        found = Served(made, server, api, tokens)
        await made.enrol(NODE, site="yuhang-3")
        for role in (VIEWER, OPERATOR, ADMIN):
            found.texts[role] = await tokens.add(f"a-{role}", role, 30, BY)
        try:
            yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_a_viewer_looks_and_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as to:
            status, index = await to.ask("", VIEWER)
            assert (status, index["token"], index["role"]) == (200, "a-viewer", VIEWER)
            of_a_daemon = {"damage.list", "port.list", "node.console"}
            assert set(index["operations"]) == LOOKS - {"token.list"} - of_a_daemon
            status, nodes = await to.ask("/node.list", VIEWER)
            assert (status, nodes["nodes"][0]["site"]) == (200, "yuhang-3")
            status, error = await to.identify(VIEWER)
            assert status == 403
            assert "operator" in error["error"]
            assert (await to.ask("/command.list", VIEWER))[1]["commands"] == []

    asyncio.run(scenario())


def test_a_command_over_the_network_is_kept_with_who_and_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as to:
            status, done = await to.identify()
            assert (status, done) == (200, {"id": 1})
            _, found = await to.ask("/command.list?id=1", VIEWER)
            assert [(row["who"], row["why"]) for row in found["commands"]] == [("token a-operator", "test")]
            logged = to.desk.store.read(lambda db: db.execute("SELECT who, action FROM audit").fetchall())
            assert ("token a-operator", "command.send") in logged

    asyncio.run(scenario())


def test_a_campaign_is_begun_by_an_admin_stopped_by_an_operator_and_seen_by_all(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as to:
            wanted = {"releases": [read_folder(write_release(tmp_path))], "why": "fix"}
            assert (await to.change("campaign.add", wanted, OPERATOR))[0] == 403
            status, made = await to.change("campaign.add", wanted, ADMIN)
            assert (status, made["nodes"]) == (200, 1)
            status, _ = await to.change("campaign.pause", {"campaign": 1, "why": "smoke"}, OPERATOR)
            assert status == 200
            assert (await to.change("campaign.resume", {"campaign": 1, "why": "x"}, OPERATOR))[0] == 403
            status, found = await to.ask("/campaign.show?campaign=1", VIEWER)
            assert (status, found["state"], found["told"], found["nodes"][0]["site"]) == (
                200,
                "paused",
                "smoke",
                "yuhang-3",
            )
            status, error = await to.change("campaign.add", {"releases": ["/etc/passwd"], "why": "x"}, ADMIN)
            assert (status, "a release is {label, record, files}" in error["error"]) == (400, True)

    asyncio.run(scenario())


def test_each_role_may_what_it_may_and_tokens_make_no_tokens(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as to:
            status, _ = await to.change("site.add", {"site": "new", "area": "330106"}, OPERATOR)
            assert status == 403
            status, _ = await to.change("site.add", {"site": "new", "area": "330106"}, ADMIN)
            assert status == 200
            for operation in ("token.add", "token.list", "token.revoke"):
                status, _ = await to.change(operation, {"token": "mine", "role": ADMIN, "days": 1}, ADMIN)
                assert status == 404
            assert [token.name for token in to.tokens.list()] == ["a-admin", "a-operator", "a-viewer"]

    asyncio.run(scenario())


def test_what_is_not_known_is_an_admins() -> None:
    assert role_for("gateway.explode") == ADMIN
    assert {role_for(name) for name in LOOKS} == {VIEWER}
    assert {role_for(name) for name in OPERATORS} == {OPERATOR}


def test_a_change_that_comes_twice_is_done_once_also_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as to:
            assert (await to.identify(key="the-same-key-0001"))[0] == 200
            status, again = await to.identify(key="the-same-key-0001")
            assert (status, again["reply"]) == (409, {"id": 1})
            assert (await to.identify(key="the-same-key-0002"))[0] == 200
        with desk(tmp_path, to.desk.clock) as made:
            tokens = Tokens(made.store, made.clock, random.Random(2).randbytes)
            token = tokens.find(to.texts[OPERATOR])
            assert token is not None
            before = await tokens.begin(token, "the-same-key-0001", made.clock.unix_ms())
            assert before is not None
            assert json.loads(before.reply or "") == {"id": 1}
            assert len(made.commands.reports()) == 2

    asyncio.run(scenario())


def test_a_change_that_was_begun_before_a_kill_is_not_done_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as to:
            token = to.tokens.find(to.texts[OPERATOR])
            assert token is not None
            assert await to.tokens.begin(token, "the-same-key-0001", to.desk.clock.unix_ms()) is None
            status, again = await to.identify(key="the-same-key-0001")
            assert (status, again["reply"]) == (409, None)

    asyncio.run(scenario())


def test_a_recorded_request_is_never_done_again_however_late_it_comes(tmp_path: Path) -> None:
    """At each age the request is known, or too old to be believed: there is no gap between the two."""

    async def scenario() -> None:
        async with served(tmp_path) as to:
            clock = to.desk.clock
            for index, ahead_s in enumerate((-limits.API_SKEW_S, 0, limits.API_SKEW_S)):
                at_s, key = clock.unix_ms() // 1000 + ahead_s, f"recorded-{index:08d}"
                assert (await to.identify(key=key, at_s=at_s))[0] == 200
                for _ in range(12):
                    clock.pass_s(limits.API_SKEW_S / 4)
                    await to.identify()  # others come, and make it forget what it may
                    assert (await to.identify(key=key, at_s=at_s))[0] in (400, 409)

    asyncio.run(scenario())


def test_without_a_trusted_clock_nothing_is_forgotten_and_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "API_CHANGES_MAX", 5)

    async def scenario() -> None:
        async with served(tmp_path) as to:
            to.desk.clock.is_synchronised = False
            for _ in range(5):
                assert (await to.identify(at_s=7))[0] == 200
                to.desk.clock.pass_s(86_400)
            assert (await to.identify(at_s=7))[0] == 400
            to.desk.clock.is_synchronised = True
            assert (await to.identify())[0] == 200

    asyncio.run(scenario())


def test_what_was_forgotten_is_not_done_again_when_the_clock_is_trusted_no_longer(tmp_path: Path) -> None:
    """A recorded request waits until its row is gone and NTP is, or whoever has it sees to that."""

    async def recorded() -> None:
        async with served(tmp_path) as to:
            clock = to.desk.clock
            at_s = clock.unix_ms() // 1000
            assert (await to.identify(key="recorded-00000000", at_s=at_s))[0] == 200
            clock.pass_s(4 * limits.API_SKEW_S)
            assert (await to.identify())[0] == 200  # forgets what it may
            clock.is_synchronised = False
            status, error = await to.identify(key="recorded-00000000", at_s=at_s)
            assert status == 400
            assert "not believed" in error["error"]
            assert (await to.identify())[0] == 200, "what is new is done without NTP, too"

    asyncio.run(recorded())


@pytest.mark.parametrize(
    ("key", "at_s", "told"),
    [
        ("short", None, "Idempotency-Key"),
        ("with a space in it!", None, "Idempotency-Key"),
        (None, 12, "behind"),
    ],
)
def test_a_change_without_its_headers_is_told_what_it_wants(
    tmp_path: Path, key: str | None, at_s: int | None, told: str
) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as to:
            status, error = await to.identify(key=key, at_s=at_s)
            assert status == 400
            assert told in error["error"]
            assert to.desk.commands.reports() == []

    asyncio.run(scenario())


def test_strangers_learn_nothing_and_the_log_does_not_fill(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as to:
            secret = to.texts[ADMIN]
            with capture_logs() as logged:
                for header in (
                    "",
                    "Bearer ",
                    "Bearer tg_wrong",
                    f"Basic {secret}",
                    f"Bearer {secret}x",
                    "Bearer é",
                ):
                    lines = ["GET /api/v1/node.list HTTP/1.1", "Host: x", f"Authorization: {header}", "", ""]
                    status, headers, _ = await to.raw("\r\n".join(lines).encode("latin-1"))
                    assert status == 401
                    assert headers["www-authenticate"].startswith("bearer")
                await to.tokens.revoke("a-admin", BY)
                assert (await to.ask("/node.list", ADMIN))[0] == 401
                to.desk.clock.pass_s(31 * 86_400)
                assert (await to.ask("/node.list", VIEWER))[0] == 401
            told = [line for line in logged if line["event"] == "api_unauthorised"]
            assert len(told) == 2  # one for them all, one a month later
            assert not any(text in json.dumps(logged) for text in to.texts.values())

    asyncio.run(scenario())


def test_no_token_is_in_the_database(tmp_path: Path) -> None:
    async def scenario() -> Served:
        async with served(tmp_path) as to:
            await to.identify()
            return to

    to = asyncio.run(scenario())
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert not any(text.encode() in held for text in to.texts.values())


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: x\r\n{a}\r\n\r\n", 404),
        ("GET /api/v1/../v1/node.list HTTP/1.1\r\nHost: x\r\n{a}\r\n\r\n", 404),
        ("GET /api/v1/node.remove HTTP/1.1\r\nHost: x\r\n{a}\r\n\r\n", 405),
        ("DELETE /api/v1/node.list HTTP/1.1\r\nHost: x\r\n{a}\r\n\r\n", 405),
        ("GET /api/v1/node.show?node=nobody HTTP/1.1\r\nHost: x\r\n{a}\r\n\r\n", 503),
        ("GET /api/v1/node.list?" + "a=b&" * 99 + " HTTP/1.1\r\nHost: x\r\n{a}\r\n\r\n", 400),
        ("POST /api/v1/node.list HTTP/1.1\r\nHost: x\r\n{a}\r\nContent-Length: 3\r\n\r\n[1]", 400),
        ("POST /api/v1/node.list HTTP/1.1\r\nHost: x\r\n{a}\r\nContent-Length: 6\r\n\r\n{{{{{{", 400),
        ("POST /api/v1/x HTTP/1.1\r\nHost: x\r\n{a}\r\nContent-Length: 99999999\r\n\r\n", 413),
        (
            "POST /api/v1/node.list HTTP/1.1\r\nHost: x\r\n{a}\r\nContent-Length: 2000\r\n\r\n" + "[" * 2000,
            400,
        ),
        ("GET /api/v1/" + "x" * 9000 + " HTTP/1.1\r\nHost: x\r\n{a}\r\n\r\n", 431),
    ],
)
def test_requests_that_are_refused(tmp_path: Path, request_text: str, status: int) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as to:
            text = request_text.replace("{a}", f"Authorization: Bearer {to.texts[ADMIN]}")
            assert (await to.raw(text.encode()))[0] == status
            assert (await to.ask("/node.list", VIEWER))[0] == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("operation", "body", "told"),
    [
        ("alarm.acknowledge", r'{"alarm": 1, "why": "\ud800"}', "half of a character"),
        ("alarm.acknowledge", r'{"alarm": 99999999999999999999, "why": "x"}', "63 bits"),
        ("alarm.acknowledge", '{"alarm": ' + "9" * 6000 + ', "why": "x"}', "63 bits"),
        ("alarm.acknowledge", '{"alarm": 1, "why": "' + "x" * 201 + '"}', "allowed are 200"),
        ("alarm.silence", '{"alarm": 1, "seconds": NaN, "why": "x"}', "no number of JSON"),
        ("command.send", '{"node": "0012", "why": "x", "ttl_s": 60}', "'command' is missing"),
        (
            "command.send",
            '{"node": "0012", "command": "reboot", "ttl_s": true, "why": "x"}',
            "Allowed is int",
        ),
        ("command.send", '{"node": "0012", "command": "reboot", "ttl_s": 60, "why": 5}', "must be a text"),
        ("settings.set", '{"node": "0012", "settings": {"interval_s": 1.5}, "why": "x"}', "whole number"),
    ],
)
def test_words_that_can_not_be_are_the_clients_mistake_and_told(
    tmp_path: Path, operation: str, body: str, told: str
) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as to:
            when = str(to.desk.clock.unix_ms() // 1000)
            extra = {"Idempotency-Key": "k" * 16, "Request-Time": when, "Content-Length": str(len(body))}
            lines = [f"POST /api/v1/{operation} HTTP/1.1", "Host: x", *to._headers(OPERATOR, extra), "", body]
            status, _, answer = await to.raw("\r\n".join(lines).encode())
            assert status == 400, answer
            assert told in answer["error"]

    asyncio.run(scenario())


def test_a_body_in_chunks_has_the_same_limit(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as to:
            head = (
                f"POST /api/v1/node.list HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {to.texts[ADMIN]}\r\n"
            )
            chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
            many = head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17
            assert (await to.raw(many))[0] == 413

    asyncio.run(scenario())


def test_one_token_that_asks_without_end_is_slowed_and_the_others_are_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as to:
            for _ in range(limits.API_BURST):
                assert (await to.ask("/status", VIEWER))[0] == 200
            assert (await to.ask("/status", VIEWER))[0] == 429
            assert (await to.ask("/status", OPERATOR))[0] == 200
            to.desk.clock.pass_s(limits.API_PERIOD_S)
            assert (await to.ask("/status", VIEWER))[0] == 200
            assert (await to.ask("/status", VIEWER))[0] == 429

    asyncio.run(scenario())


def test_a_script_that_repeats_itself_does_not_take_a_nodes_air(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COMMANDS_BURST", 5)

    async def scenario() -> None:
        async with served(tmp_path) as to:
            answers = []
            for _ in range(limits.COMMANDS_BURST + 1):
                to.desk.clock.pass_s(0.2)
                status, told = await to.change(
                    "command.send", {"node": "0012", "command": "read-now", "ttl_s": 1}, OPERATOR
                )
                await to.desk.commands.expire()
                answers.append((status, told))
            assert [status for status, _ in answers] == [200] * limits.COMMANDS_BURST + [400]
            assert "lately" in answers[-1][1]["error"]
            to.desk.clock.pass_s(limits.COMMANDS_PERIOD_S)
            assert (await to.identify())[0] == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("a-viewer", VIEWER, 1), "already"),
        (("new", "admn", 1), "Did you mean admin"),
        (("new", ADMIN, 0), "1 to"),
        (("two words", ADMIN, 1), "without spaces"),
    ],
)
def test_a_token_that_can_not_be(tmp_path: Path, words: tuple[str, str, int], told: str) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as to:
            with pytest.raises(CommandError, match=told):
                await to.tokens.add(*words, BY)
            with pytest.raises(CommandError, match="a-viewer"):
                await to.tokens.revoke("a-viever", BY)

    asyncio.run(scenario())


# --- the daemon ---------------------------------------------------------------------------------


def parsed(folder: Path, api: str) -> configs.Config:
    text = f'[keys]\nmaster_key_file = "master.key"\n[health]\nport = 0\n[api]\n{api}\n'
    return configs.parse(text, "gateway.toml", folder)


def test_off_this_machine_it_wants_tls(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gateway.toml:6: api.address: .*cert_file"):
        parsed(tmp_path, 'address = "0.0.0.0"')
    with pytest.raises(ConfigError, match=r"gateway.toml:6: api.key_file: needs cert_file"):
        parsed(tmp_path, 'key_file = "x"')


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[api]\nport = 9466\n", "gateway.toml:4: api.port"),
        ("[health]\nport = 9467\n[api]\n", "gateway.toml:4: health.port"),
        ("[health]\nport = 700\n[api]\nport = 700\n", "gateway.toml:6: api.port"),
        ("[health]\nenabled = false\n[api]\nport = 9466\n", None),
        ("[health]\nport = 0\n[api]\nport = 0\n", None),
    ],
)
def test_it_and_the_health_pages_do_not_share_a_port(tmp_path: Path, text: str, place: str | None) -> None:
    text = f'[keys]\nmaster_key_file = "master.key"\n{text}'
    if place is None:
        configs.parse(text, "gateway.toml", tmp_path)
        return
    with pytest.raises(ConfigError, match=rf"{place}.*each needs its own"):
        configs.parse(text, "gateway.toml", tmp_path)


def test_the_daemon_serves_it_over_tls(tmp_path: Path) -> None:
    from tests.gateway.test_daemon import running, write_config

    authority(tmp_path)
    certificate(tmp_path, "localhost")
    config = write_config(
        tmp_path, '[api]\nport = 0\ncert_file = "localhost.pem"\nkey_file = "localhost.key"\n'
    )

    async def scenario() -> None:
        async with running(config) as gateway:
            text = await gateway.tokens.add("page", VIEWER, 1, BY)
            part = next(part for part in gateway.parts if part.name == "api")
            server: HttpServer = part.run.__self__  # type: ignore[attr-defined]
            async with asyncio.timeout(10):
                await until_listening(server)
            trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=trusting, server_hostname="localhost"
            )
            writer.write(f"GET /api/v1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {text}\r\n\r\n".encode())
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
            with pytest.raises((ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)):
                await _plain(server.port)

    asyncio.run(scenario())


async def until_listening(server: HttpServer) -> None:
    while not server.port:  # noqa: ASYNC110 - the daemon hands no event out, and it is a turn or two of the loop
        await asyncio.sleep(0)


async def _plain(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /api/v1 HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readexactly(4)
