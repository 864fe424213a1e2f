"""A changed gateway.toml: taken on alive, refused with its problems, or taken back when it cuts the gateway off."""

from __future__ import annotations

import asyncio
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from gateway import config as configs
from gateway import known_good, lives
from gateway.daemon import DataDir, Gateway
from gateway.errors import ConfigError
from gateway.reload import NEW_LIFE, Reload
from tests.gateway.test_daemon import write_config
from tests.gateway.test_daemon_process import CONFIG, command, daemon

# Nothing listens there.
CITY = '[[mqtt]]\nname = "city"\nhost = "127.0.0.1"\nport = 1\n'


class Living:
    """One life of a gateway, and the file it lives by."""

    def __init__(self, file: Path, gateway: Gateway, reload: Reload, task: asyncio.Task[str]) -> None:
        self.file = file
        self.gateway = gateway
        self.reload = reload
        self.task = task

    async def change(self, text: str) -> list[str]:
        self.file.write_text(text)
        return await self.reload.reload("somebody")


@asynccontextmanager
async def living(folder: Path) -> AsyncIterator[Living]:
    write_config(folder)  # makes the master key
    file = folder / "gateway.toml"
    await asyncio.to_thread(file.write_text, CONFIG)
    config = configs.load(file)
    with DataDir(Path(config.gateway.data_dir)):
        gateway, started = Gateway(config, structlog.get_logger()), asyncio.Event()
        by = Reload(config, file)
        by.begin(gateway)
        task = asyncio.create_task(gateway.run(started=started.set, reload=by))
        await started.wait()
        try:
            yield Living(file, gateway, by, task)
        finally:
            gateway.end("stop")
            await task
            gateway.store.close()


def test_a_file_with_a_problem_is_refused_and_everything_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with living(tmp_path) as it:
            before = it.gateway.config
            with pytest.raises(ConfigError, match="colour = 1: unknown key"):
                await it.change(CONFIG + "colour = 1\n")
            with pytest.raises(ConfigError, match="needs a restart"):
                await it.change('[gateway]\ndata_dir = "elsewhere"\n' + CONFIG)
            with pytest.raises(ConfigError, match="cannot be read"):
                await it.change(CONFIG + CITY + 'username = "me"\npassword_file = "nowhere"\n')
            assert it.gateway.config is before
            assert it.reload.counters["refused"] == 3
            assert not it.task.done()
            assert await it.change(CONFIG) == ["nothing has changed"]

    asyncio.run(scenario())


def test_a_northbound_comes_and_goes_while_the_rest_runs(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with living(tmp_path) as it:
            gateway = it.gateway
            listeners = len(gateway.store.on_commit)
            serial = gateway.links[0]
            assert await it.change(CONFIG + CITY) == ["northbound city: begun"]
            first = gateway.northbounds["city"]
            assert [part.name for part in gateway.parts].count("mqtt:city") == 1
            assert await it.change(CONFIG + CITY + 'topic = "a/{node}/{stream}"\n') == [
                "northbound city: begun"
            ]
            assert gateway.northbounds["city"] is not first
            assert len(gateway.store.on_commit) == listeners + 1
            assert await it.change(CONFIG + CITY + "enabled = false\n") == ["northbound city: ended"]
            assert await it.change('[log]\nlevel = "warning"\n' + CONFIG) == [
                "log: warning, auto",
                "northbound city: ended",
            ]
            assert gateway.northbounds == {}
            assert "mqtt:city" not in [part.name for part in gateway.parts]
            assert len(gateway.store.on_commit) == listeners
            assert gateway.links[0] is serial
            assert not it.task.done()

    asyncio.run(scenario())


def test_an_uplink_that_does_not_come_back_brings_the_last_good_configuration_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with living(tmp_path) as it:
            it.reload.look()
            kept = tmp_path / "data" / known_good.NAME
            assert stat.S_IMODE(kept.stat().st_mode) == 0o600
            good = it.reload.config
            await it.change(CONFIG + CITY)
            assert it.reload.trial is not None
            it.reload.look()
            assert it.reload.reason is None, "its time is not over"
            it.reload.trial = it.reload.trial._replace(until_s=0.0)
            it.reload.look()
            assert await it.task == "the last good configuration returns"
            assert it.reload.config == good
            (told,) = [reason for reason in it.gateway.reasons() if reason.startswith("config")]
            assert "none of city connected" in told
            assert known_good.load(tmp_path / "data") == good

    asyncio.run(scenario())


def test_a_life_that_cannot_begin_falls_back(tmp_path: Path) -> None:
    write_config(tmp_path)
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG)
    config = configs.load(file)
    Path(config.gateway.data_dir).mkdir()
    assert known_good.save(file, config)
    bad = config.model_copy(update={"serial": ()})
    by = Reload(bad, file)
    assert by.fall_back(ConfigError(["no such port"]))
    assert by.config == config
    assert "no such port" in str(by.reason)
    assert not by.fall_back(ConfigError(["again"])), "once: then it ends"


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ('[gateway]\ndata_dir = "d"\n[oops', "d"),
        ('[gateway]\ndata_dir = "d"\nx = 1', "d"),
        ("garbage", "data"),
        ("gateway = 3", "data"),
    ],
)
def test_where_the_data_of_a_broken_file_is(tmp_path: Path, text: str, folder: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    assert known_good.data_dir_of(file) == tmp_path / folder


def test_the_process_reloads_on_a_signal_and_starts_with_a_broken_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a good one, or with --strict, it refuses instead."""
    write_config(tmp_path)
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG)

    async def scenario() -> None:
        async with daemon(tmp_path) as child:
            await child.logged("config_known_good")
            await asyncio.to_thread(file.write_text, CONFIG + "[store]\nkeep_days = 3\n")
            child.process.send_signal(signal.SIGHUP)
            await child.logged("config_reloaded")
            assert (await child.logged("begins_again"))["why"] == NEW_LIFE
            await child.logged("config_known_good")
            await asyncio.to_thread(file.write_text, CONFIG + "[[mqtt\n")
            assert await command(tmp_path, "reload") == 2
            child.process.kill()
        async with daemon(tmp_path) as child:
            assert "gateway.toml:" in str((await child.logged("config_broken"))["reason"])
            await child.logged("started")
            child.process.send_signal(signal.SIGTERM)
            assert await child.process.wait() == 0

    asyncio.run(scenario())
    with pytest.raises(ConfigError):
        lives.start(file, is_strict=True)
    (tmp_path / "data" / known_good.NAME).unlink()
    with pytest.raises(ConfigError):
        lives.start(file, is_strict=False)
