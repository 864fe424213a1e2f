"""`tidegate gateway …`: the same command works beside a running daemon and without one, and says what it
did.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.errors import CommandError, ConfigError, ControlError, GatewayError, KeyFileError, RegistryError
from gateway.status import show
from tests.gateway.fake_node import SALT, SECRET, FakeNode, Pty, PtyNode
from tests.gateway.test_daemon import ADDRESS, enrol, joined, running, settled, write_config

NODE_LINE = {
    "address": "0012",
    "node_type": "river",
    "area": "330106",
    "site": "yuhang-3",
    "master_secret": SECRET.hex(),
    "master_salt": SALT.hex(),
}


class Shell:
    """Runs commands with the config of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "gateway.toml"

    def invoke(self, *args: str) -> Any:
        """Run a command whatever becomes of it."""
        return CliRunner().invoke(app, [*args, "--config", str(self.config)], env={"COLUMNS": "200"})

    def __call__(self, *args: str) -> str:
        """The output of a command that must succeed."""
        result = self.invoke(*args)
        assert result.exit_code == 0, (result.output, result.exception)
        output: str = result.output
        return output

    def error(self, *args: str) -> BaseException:
        """The error of a command that must fail."""
        result = self.invoke(*args)
        assert result.exit_code != 0, result.output
        error: BaseException = result.exception
        return error

    def nodes_file(self, **changes: Any) -> str:
        file = self.folder / f"nodes{'-'.join(changes)}.jsonl"
        file.write_text(json.dumps({**NODE_LINE, **changes}) + "\n")
        return str(file)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    result = CliRunner().invoke(app, ["init", str(made.config)])
    assert result.exit_code == 0
    return made


def test_init_makes_a_config_that_checks_and_a_private_key_and_overwrites_nothing(shell: Shell) -> None:
    assert "in order" in shell("check")
    assert (shell.folder / "master.key").stat().st_mode & 0o777 == 0o600
    key = (shell.folder / "master.key").read_bytes()
    again = CliRunner().invoke(app, ["init", str(shell.config)])
    assert isinstance(again.exception, GatewayError)
    assert "never overwritten" in str(again.exception)
    assert (shell.folder / "master.key").read_bytes() == key


def test_check_names_ports_and_brokers_and_refuses_what_is_wrong(shell: Shell) -> None:
    good = shell.config.read_text()
    shell.config.write_text(
        good + '\n[[serial]]\nname = "a"\npath = "/nowhere"\n[[mqtt]]\nname = "city"\nhost = "broker"\n'
    )
    output = shell("check")
    assert "serial a: /nowhere is not there now; it is waited for." in output
    assert "mqtt city: broker:1883, json, topic tidegate/{area}/{site}/{node}/{stream}" in output
    shell.config.write_text(good + '[[mqtt]]\nname = "city"\nhost = "b"\ntls = true\nca_file = "none"\n')
    assert "mqtt city: its TLS files cannot be used" in str(shell.error("check"))
    shell.config.write_text(good + "\n[helth]\n")
    error = shell.error("check")
    assert isinstance(error, ConfigError)
    assert error.exit_code == 2
    assert re.search(r'gateway\.toml:\d+: helth: unknown table.*Did you mean "health"\?', str(error))
    shell.config.write_text(good)
    (shell.folder / "master.key").chmod(0o644)
    assert isinstance(shell.error("check"), KeyFileError)


def test_nodes_sites_and_commands_without_a_daemon(shell: Shell) -> None:
    assert "1 added, 0 replaced, 0 unchanged" in shell("node", "import", shell.nodes_file())
    assert "0 added, 0 replaced, 1 unchanged" in shell("node", "import", shell.nodes_file())
    listed = shell("node", "list")
    assert "0012" in listed
    assert "330106/yuhang-3" in listed
    assert SECRET.hex() not in listed + shell("node", "list", "--json")
    assert "made in area unassigned" in shell("site", "add", "weir", "--title", "The weir")
    assert "served by node 0012 from 2" in shell(
        "site", "assign", "weir", "0012", "--from", "2026-01-02T03:04:05"
    )
    output = shell("site", "list")
    assert "unassigned/weir  The weir\n    node 0012  2026-01-02 03:04:05Z to now" in output
    assert "node 0012  the beginning to 2026-01-02 03:04:05Z" in output
    assert "command 1: set-interval for node 0012, queued for at most 60 s" in shell(
        "command", "send", "0012", "set-interval", "600", "--why", "storm"
    )
    assert re.search(r"1  .*node 0012  set-interval 600: open .*: storm\)", shell("command", "list"))
    assert "is wanted" in shell(
        "settings", "set", "0012", "interval_s=900", "report_s=3600", "--why", "summer"
    )
    assert re.search(
        r"node 0012  open since .*: interval_s=900 report_s=3600 .*: summer", shell("settings", "list")
    )
    assert "removed" in shell("node", "remove", "0012", "--why", "stolen")
    assert "0 nodes." in shell("node", "list")


def test_mistakes_are_told_with_what_is_allowed(shell: Shell) -> None:
    shell("node", "import", shell.nodes_file())
    cases = [
        (
            CommandError,
            "Allowed is name=number",
            ("settings", "set", "0012", "interval_s=fast", "--why", "x"),
        ),
        (
            GatewayError,
            "did you mean interval_s? It has interval_s",
            ("settings", "set", "0012", "interval=9", "--why", "x"),
        ),
        (CommandError, "say why with --why", ("command", "send", "0012", "reboot")),
        (GatewayError, "Known: identify, reboot", ("command", "send", "0012", "dance", "--why", "x")),
        (
            GatewayError,
            "set interval takes 1 to 86400",
            ("command", "send", "0012", "set-interval", "0", "--why", "x"),
        ),
        (GatewayError, "node 0099 is not registered", ("command", "send", "0099", "reboot", "--why", "x")),
        (GatewayError, "is not an address", ("node", "remove", "zz", "--why", "x")),
        (RegistryError, "master_salt is not allowed", ("node", "import", shell.nodes_file(master_salt="12"))),
        (
            GatewayError,
            "registered with other keys",
            ("node", "import", shell.nodes_file(master_secret="ff" * 16)),
        ),
        (GatewayError, "cannot be read", ("node", "import", str(shell.folder / "none"))),
        (ControlError, "no gateway is running on", ("status",)),
    ]
    for kind, told, args in cases:
        error = shell.error(*args)
        assert isinstance(error, kind), (args, error)
        assert told in str(error)


def test_audit_needs_a_database_and_balances_an_empty_one(shell: Shell) -> None:
    assert "has this gateway run yet?" in str(shell.error("audit"))
    shell("node", "list")
    assert "produced=0 stored=0 delivered=0 queued=0 missing=0 lost=0 copies=0 holds=yes" in shell("audit")
    assert json.loads(shell("audit", "--json"))["rows"] == []


def test_a_damaged_database_is_named_also_when_no_daemon_runs(shell: Shell) -> None:
    shell("node", "import", shell.nodes_file())
    (shell.folder / "data" / "tidegate.db").write_bytes(b"damaged" * 4096)
    result = shell.invoke("node", "list")
    assert "0 nodes" in result.output
    assert "corrupt" in result.stderr


def test_a_file_without_end_is_refused(shell: Shell) -> None:
    assert "larger than" in str(shell.error("node", "import", "/dev/zero"))


def test_the_same_commands_beside_a_running_daemon(tmp_path: Path) -> None:
    shell = Shell(tmp_path)

    async def scenario() -> None:
        config = write_config(tmp_path)
        shell.config.write_text(
            '[keys]\nmaster_key_file = "master.key"\n[health]\nport = 0\n[[serial]]\nname = "river-1"\npath '
            '= "port"\n'
        )
        pty = Pty(tmp_path / "port")
        async with running(config) as gateway:
            peer = PtyNode(FakeNode(ADDRESS), pty)

            async def run(*args: str) -> str:
                return await asyncio.to_thread(shell, *args)

            assert "1 added" in await run("node", "import", shell.nodes_file())
            await joined(peer)
            peer.node.keep()
            peer.send(*peer.node.pending(), peer.node.status())
            await peer.until(lambda: peer.node.acked == 1)
            peer.send(peer.node.status())
            sent = await run("command", "send", "0012", "identify", "3", "--why", "which one?", "--wait")
            assert sent.endswith("command 1: done.\n")
            assert peer.node.executed == [(1, 3)]
            await settled(gateway)
            status = await run("status")
            for part in ("0012", "yuhang-3", "river-1", "test", "0.0 h", "open"):
                assert part in status
            assert json.loads(await run("status", "--json"))["nodes"] == 1
            books = json.loads(await run("audit", "--json"))
            assert (books["produced"], books["stored"], books["queued"], books["holds"]) == (2, 2, 2, True)
            peer.detach()

    asyncio.run(scenario())


def test_a_command_that_nobody_answers_ends_with_an_error(tmp_path: Path) -> None:
    shell = Shell(tmp_path)

    async def scenario() -> None:
        config = write_config(tmp_path)
        shell.config.write_text('[keys]\nmaster_key_file = "master.key"\n')
        async with running(config) as gateway:
            await enrol(gateway, ADDRESS)
            args = ("command", "send", "0012", "read-now", "--why", "x", "--ttl", "1", "--wait")
            result = await asyncio.to_thread(shell.invoke, *args)
            assert result.exit_code == 1
            assert "command 1: expired no result by the deadline." in result.output

    asyncio.run(scenario())


def test_status_shows_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    status = {
        "name": "gw",
        "running_s": 90_061.0,
        "reasons": ["serial:a: no such port"],
        "rows": [
            {
                "node": "0012",
                "type": "[red]river",
                "site": "s",
                "area": "a",
                "silent": False,
                "waited_s": None,
            },
            {"node": "0014", "type": "river", "site": "s", "area": "a", "silent": True, "waited_s": 9000.0},
            {
                "node": "0013",
                "type": "river",
                "site": "s",
                "area": "a",
                "silent": False,
                "waited_s": 3725.0,
                "link": "a",
                "seen_s": 3725.0,
                "backlog_hours": 12.25,
                "health": {"safe_mode": 3, "alarms_raised": 2, "wakes": 41, "battery_mv": 3561},
            },
        ],
        "links": {
            "a": {
                "open": 0.0,
                "frames_in": 5,
                "frames_out": 6,
                "refused_crc": 1,
                "refused_oversize": 1,
                "losses": 3,
            }
        },
        "northbounds": {
            "city": {"connected": 0.0, "delivered": 9, "backlog_records": 4, "backlog_hours": 30.5}
        },
        "refused": {"replay": 2, "auth": 0},
    }
    show(status, Console(width=240))
    output = capsys.readouterr().out
    parts = (
        "up 1 d 1 h",
        "not ready: serial:a: no such port",
        "not yet",
        "SILENT 2 h 30 min",
        "[red]river",
        "1 h 2 min",
        "12.2 h",
        "SAFE MODE after 3 failed starts, 2 alarms, 41 wakes",
        "3.56 V",
        "closed",
        "not connected",
        "30.5 h",
        "refused frames: replay 2",
    )
    for part in parts:
        assert part in output
