"""Disks in a mount namespace of our own: filled, made read-only or broken for real, and mended.

Needs root, or at least the right to make a mount namespace; `missing()` says why it cannot be had.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

from hil_tests.errors import RigError

MKFS = shutil.which("mkfs.ext4") or "/usr/sbin/mkfs.ext4"


def missing() -> str | None:
    """Why there can be no such disk here; None when there can."""
    if os.geteuid() != 0:
        return "needs root to mount a file system of its own"
    for tool in ("unshare", "nsenter", "mount", "umount"):
        if shutil.which(tool) is None:
            return f"needs {tool} (util-linux)"
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"no mount namespace here: {tried.stderr.strip()[:200]}"


def missing_ext4() -> str | None:
    """The same of one that can break."""
    if not Path(MKFS).exists():
        return "needs mkfs.ext4 (e2fsprogs)"
    if not Path("/dev/loop-control").exists():
        return "needs loop devices"
    return missing()


class Namespace:
    """Mounts that only those see who are started with `prefix`, and `inside`; gone with this object."""

    def __init__(self) -> None:
        # It holds the namespace open for as long as that is wanted.
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo there && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline().strip() != "there":
            self.close()
            raise RigError("there is no mount namespace to be had")

    @property
    def prefix(self) -> list[str]:
        """What a command begins with to see it."""
        return ["nsenter", "--target", str(self._holder.pid), "--mount", f"--wd={os.getcwd()}"]

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.prefix, *command], capture_output=True, text=True, check=False)

    def do(self, *command: str) -> None:
        """The same, and it must work."""
        done = self.inside(*command)
        if done.returncode:
            raise RigError(f"{' '.join(command)}: {done.stderr.strip()}")

    def close(self) -> None:
        if self._holder.stdin is not None:
            self._holder.stdin.close()
        self._holder.wait(10)
        if self._holder.stdout is not None:
            self._holder.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class RealDisk(Namespace):
    """A file system of some MiB at `folder`: of memory, or, with `image`, an ext4 on a loop device, which can break."""

    def __init__(self, folder: Path, mib: int, image: Path | None = None) -> None:
        super().__init__()
        self.folder = folder
        self._mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tidegate", str(folder)]
        if image is not None:
            with image.open("wb") as file:
                file.truncate(mib << 20)
            self.do(MKFS, "-q", "-F", str(image))
            self._mount = ["mount", "-o", "loop", str(image), str(folder)]
        folder.mkdir(parents=True, exist_ok=True)
        self.do(*self._mount)

    def remount(self, options: str) -> None:
        self.do("mount", "-o", f"remount,{options}", str(self.folder))

    def fill(self) -> None:
        """Until nothing more goes in: in one step, or whoever makes room meanwhile would lose it to us."""
        script = (
            'cd "$0" && for i in 1 2 3 4 5; do '
            'fallocate -l "$(df --output=avail -B1 . | tail -n 1)" "filler-$(date +%s%N)" && exit 0; done; exit 1'
        )
        self.do("sh", "-c", script, str(self.folder))

    def make_room(self) -> None:
        self.do("sh", "-c", 'rm -f "$0"/filler-*', str(self.folder))

    def break_(self) -> None:
        """As after an error that the file system cannot live with: read-only at once, under whoever has files open."""
        self.do("mount", "-o", "remount,abort", str(self.folder))

    def mend(self) -> None:
        """Mounted anew, which nobody may have files open for."""
        self.do("umount", str(self.folder))
        self.do(*self._mount)
