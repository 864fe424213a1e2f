"""A port of the gateway is asked for by a path that means the same in the gateway's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flash_tools import port_loan
from flash_tools.ports import Holder, Machine


class Held(Machine):
    def holders(self, device: str) -> list[Holder]:
        return [Holder(1, "tidegate", "tidegate gateway run")]


def test_a_relative_path_is_the_same_device_to_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    class Control:
        def __init__(self, config: Path) -> None: ...

        def ask(self, operation: str, **request: Any) -> None:
            asked.append((operation, request["port"]))

    monkeypatch.setattr(port_loan, "Control", Control)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tty").touch()
    (tmp_path / "link").symlink_to("tty")
    with port_loan.borrowed(["link", "rfc2217://a:1"], Path("gateway.toml"), lambda _: None, Held()):
        assert asked == [("port.release", f"{tmp_path}/tty"), ("port.release", "rfc2217://a:1")]
    assert [operation for operation, _ in asked[2:]] == ["port.take", "port.take"]
