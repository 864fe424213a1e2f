"""`tidegate firmware build` writes what a node runs and says what it weighs, or what is wrong with what was asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from boards.virtual.rom_image import micropython
from flash_tools.images import boot, build_app_image, compile_module, compile_tree, node_sources
from flash_tools.mint import ROOT
from flash_tools.weigh import loaded_bytes
from tidegate import main

BUILD = ["firmware", "build", "--board", "esp32c3_devkitm", "--node", "river"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([*BUILD, *arguments])
    said = capsys.readouterr()
    code = ended.value.code
    return code if isinstance(code, int) else int(code is not None), said.out, said.err


def test_it_writes_the_module_tree_its_partition_table_and_the_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fw"
    code, said, _ = run(capsys, "--out", str(out), "--image")
    assert code == 0
    files = compile_tree(ROOT, "esp32c3_devkitm", "river")
    written = {"/" + path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {*files, "/partitions.csv", "/app.img"}
    assert (out / "main.py").read_bytes() == boot()
    assert (out / "app.img").read_bytes() == build_app_image(ROOT, "esp32c3_devkitm", "river").data
    assert f"{sum(map(len, files.values()))} of 1572864 bytes" in said
    code, _, problem = run(capsys, "--out", str(out))
    assert code == 1
    assert "exists. Choose another --out, or --force" in problem


def test_another_build_over_the_first_leaves_nothing_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fw"
    (out / "a/firmware").mkdir(parents=True)
    (out / "app.img").write_bytes(b"of a lift")
    (out / "a/firmware/lift.mpy").write_bytes(b"of a lift")
    (out / "notes.txt").write_text("mine")
    code, _, told = run(capsys, "--out", str(out))
    assert (code, "exists. Choose another --out, or --force" in told) == (1, True)
    assert not (out / "main.py").exists(), "a build that is refused writes nothing"
    code, _, _ = run(capsys, "--out", str(out), "--force")
    assert code == 0
    files = compile_tree(ROOT, "esp32c3_devkitm", "river")
    written = {"/" + path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {*files, "/partitions.csv", "/notes.txt"}
    (out / "app.img").mkdir()
    code, _, told = run(capsys, "--out", str(out), "--force", "--image")
    assert (code, "Is a directory" in told) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--board", "esp32c3_devkit"), "no board 'esp32c3_devkit' in"),
        (("--board", "heltec_v3"), "Did you mean 'heltec_wifi_lora_32_v3'?"),
        (("--node", "rivr"), "Did you mean 'river'?"),
        (("--image",), "name the folder to write it to, with --out DIR"),
        (("--out", "/proc/version/x"), "--out /proc/version/x: "),
    ],
)
def test_what_can_not_be_built_is_told_in_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], problem: str
) -> None:
    code, said, told = run(capsys, *arguments)
    assert code == 1
    assert problem in told
    assert said == ""


def test_the_heap_figure_is_measured_and_grows_with_the_program() -> None:
    files = compile_tree(ROOT, "virtual", "river")
    loaded = loaded_bytes(files, "river", micropython())
    main_source = node_sources(ROOT, "virtual", "river")[Path("firmware/main.py")]
    ballast = compile_module(main_source + "\nBALLAST = bytes(20000)\n", "firmware.main")
    heavier = loaded_bytes({**files, "/a/firmware/main.mpy": ballast}, "river", micropython())
    assert 20_000 <= heavier - loaded < 21_000
    print(f"loaded_bytes={loaded}")
    assert 40_000 < loaded < 160_000


MOUNT = """
import vfs, sys, os
class Image:
    def __init__(self, path):
        self.file = open(path, "rb")
        self.blocks = os.stat(path)[6] // 4096
    def readblocks(self, block, buf, offset=0):
        self.file.seek(block * 4096 + offset)
        self.file.readinto(buf)
    def writeblocks(self, block, buf, offset=0):
        raise OSError(30)
    def ioctl(self, op, arg):
        return {4: self.blocks, 5: 4096}.get(op, 0)
vfs.mount(Image(sys.argv[1]), "/chip", readonly=True)
print(sorted(os.listdir("/chip")))
print(open("/chip/main.py").read() == open(sys.argv[2]).read())
sys.path.insert(0, "/chip/a")
from firmware import main
print(main.start, sys.modules["firmware.main"].__file__ if hasattr(main, "__file__") else "")
"""


def test_stock_micropython_mounts_the_image_by_looking_at_it_and_finds_a_main_at_its_root(
    tmp_path: Path,
) -> None:
    """As the boot script of the ESP32 port does with the partition labelled vfs, whatever file system is on it."""
    image = tmp_path / "app.img"
    image.write_bytes(build_app_image(ROOT, "virtual", "river").data)
    boot_script = tmp_path / "boot.py"
    boot_script.write_bytes(boot())
    script = tmp_path / "mount.py"
    script.write_text(MOUNT)
    done = subprocess.run(
        [str(micropython()), str(script), str(image), str(boot_script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines()[:2] == ["['1', '2', 'a', 'b', 'boot', 'main.py']", "True"], done.stderr
    assert "<function" in done.stdout.splitlines()[2]
