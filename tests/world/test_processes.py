"""Whatever becomes of a rig or the demo, its daemon and its broker end when they should, and not before."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hil_tests.processes import spawn

PARENT = """
import sys
from hil_tests.processes import spawn
child = spawn([sys.executable, "-c", "print('up', flush=True); import time; time.sleep(600)"], output=sys.stdout.buffer)
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_ctrl_c_at_the_terminal_does_not_reach_what_the_rig_started(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        child = spawn([sys.executable, "-c", "import sys; sys.stdin.read()"], output=out)
    try:
        assert os.getsid(child.pid) == child.pid
    finally:
        child.kill()
        child.wait()


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")
def test_a_rig_killed_with_9_takes_its_processes_along() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
    pid = next(int(line) for line in said if line != b"up")
    child = os.pidfd_open(pid)
    try:
        parent.kill()
        parent.wait()
        assert select.select([child], [], [], 30)[0], "the process outlived the rig"
    finally:
        os.close(child)
        parent.stdout.close()
        if parent.stdin is not None:
            parent.stdin.close()
