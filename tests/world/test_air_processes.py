"""A node and its air in processes of their own, as `tidegate air` and `tidegate virtual` start them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from flash_tools.mint import mint


def started(stack: ExitStack, *args: Path | str) -> subprocess.Popen[str]:
    """`tidegate ARGS`, which is gone when the stack is."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "tidegate", *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    stack.enter_context(process)
    stack.callback(process.kill)
    return process


def said(process: subprocess.Popen[str], has: Callable[[str], bool]) -> str:
    """Its next line that `has`; when it ends without one, all that it said."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        if has(line):
            return line
        lines.append(line)
    raise AssertionError("".join(lines))


def test_a_node_of_another_process_is_heard_and_leaves_with_its_power(tmp_path: Path) -> None:
    image = mint(
        out=tmp_path / "minted", address=1, node_type="river", area="330110001001", radio=(0, 80, 8, 0)
    ).state_image
    with ExitStack() as stack:
        gateway = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        gateway.bind(("127.0.0.1", 0))
        gateway.settimeout(60)
        server = f"127.0.0.1:{gateway.getsockname()[1]}"
        air = started(stack, "air", tmp_path / "sky", "--server", server, "--channel", "80")
        said(air, lambda line: "--air" in line)
        node = started(stack, "virtual", tmp_path / "lid", "--state", image, "--air", tmp_path / "sky")
        assert "on the air" in said(node, lambda line: "node is on" in line)
        assert "MHz SF" in said(air, lambda line: " lid: " in line)
        while b'"rxpk"' not in gateway.recv(65536):  # the roof asks, every two seconds, before it has heard
            pass
        node.send_signal(signal.SIGINT)
        said(air, lambda line: "lid left" in line)
        assert node.wait(60) == 0
        air.send_signal(signal.SIGINT)
        assert air.wait(60) == 0
