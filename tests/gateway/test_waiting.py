"""A gateway that waits for its disk, from the command line."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway import asking, disk
from gateway import config as configs
from gateway.clock import SystemClock
from gateway.errors import ControlError
from gateway.log import get
from gateway.parts import ServiceManager
from gateway.waiting import Waiting
from hil_tests.broker import free_port
from tests.gateway.test_daemon import write_config
from tests.gateway.test_daemon_process import CONFIG


def test_the_command_line_is_told_what_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(tmp_path)
    text = CONFIG.replace("port = 0", f"port = {free_port()}")
    config = configs.parse(text, "gateway.toml", tmp_path)
    Path(config.gateway.data_dir).mkdir()
    with pytest.raises(ControlError, match="no gateway is running"):
        asking.ask_running(config, {"operation": "status"})
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(disk, "refusal", lambda folder: full)

    async def scenario() -> None:
        waiting = Waiting(config, get(), SystemClock(), "tidegate.db: disk full", ServiceManager({}), 60.0)
        task = asyncio.create_task(waiting.run())
        async with asyncio.timeout(20):
            while True:
                with pytest.raises(ControlError) as caught:
                    await asyncio.to_thread(asking.ask_running, config, {"operation": "status"})
                if "is running" not in str(caught.value):
                    break
        assert "is up and cannot work: store: tidegate.db: disk full." in str(caught.value)
        waiting._stop()
        assert await task is False

    asyncio.run(scenario())


def test_the_reserve_of_a_full_disk_is_given_once_and_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path)
    folder = Path(config.gateway.data_dir)
    folder.mkdir()
    (folder / "reserve").write_bytes(bytes(4096))
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(disk, "refusal", lambda folder: full if (folder / "reserve").exists() else None)

    async def scenario() -> None:
        waiting = Waiting(config, get(), SystemClock(), "full", ServiceManager({}), 60.0)
        with capture_logs() as logs:
            assert await waiting.run() is True
        assert [entry["event"] for entry in logs] == ["reserve_given"]

    asyncio.run(scenario())


@pytest.mark.parametrize(("number", "passes"), [(28, True), (30, True), (5, True), (13, False), (2, False)])
def test_what_may_pass_is_waited_for_and_what_a_person_must_mend_is_not(number: int, passes: bool) -> None:
    assert disk.is_passing(OSError(number, "x")) is passes


def test_a_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    assert disk.refusal(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert isinstance(disk.refusal(tmp_path / "nowhere"), FileNotFoundError)
