"""The code of updates, as the tools make it for a node, does what the golden cases say."""

from __future__ import annotations

from pathlib import Path

from flash_tools.fields import name_fields
from flash_tools.images import compile_module, shared_sources
from flash_tools.mint import ROOT
from flash_tools.shake import shake
from flash_tools.shorten import shorten
from tests.wire import interpreters
from tests.wire.update_cases import update_cases

# What a node's program asks of it; the cases come and go through plain tuples, whose fields have no names.
ENTRY = """
from protocols.wire import bundle, delta, manifest, release


def run(what, a, b, c):
    try:
        if what == 1:
            return tuple(manifest.match(a, manifest.Device(*b), [manifest.Key(*key) for key in c]))
        if what == 2:
            return delta.apply(a, b, c)
        return tuple(release.decode(a))
    except (bundle.BundleError, manifest.Refused) as exc:
        return exc.reason
"""
# Methods of the trees and files that the cases bring along.
KEEP = ("run", "walk", "create")


def test_what_is_shaken_and_shortened_for_a_node_passes_the_golden_cases(tmp_path: Path) -> None:
    paths = {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__"): path
        for path in shared_sources(ROOT, "virtual")
    }
    sources = {name: (ROOT / path).read_text(encoding="utf-8") for name, path in paths.items()}
    sources["firmware.main"] = ENTRY
    total = 0
    for name, text in shorten(name_fields(shake(sources, "firmware.main"), KEEP), KEEP).items():
        target = (tmp_path / paths[name]).with_suffix(".mpy")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(compile_module(text, name))
        total += target.stat().st_size
    said = interpreters.micropython(
        "tests/flash_tools/mpy_update_code.py", "-X", "heapsize=160k", arguments=(str(tmp_path),)
    )
    print(f"\nupdate_code_mpy_bytes={total} {said.strip()}")
    assert f"cases={len(update_cases())}\n" in said
